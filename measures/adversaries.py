"""A search for points near an input that a network predicts otherwise."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gapbench.models.margins import label_margins


def flipped(
    network: nn.Module, inputs: Float[Tensor, " n *shape"], radius: float, step: float, steps: int
) -> Bool[Tensor, " n"]:
    """Whether signed-gradient steps found another prediction within a box of this radius (ℓ∞) around each input.

    The steps descend the margin of the predicted class, not its log-probability, whose gradient vanishes to rounding
    where the network is sure. True is certain; False is not, as a search can miss.
    """
    with torch.no_grad():
        predictions = network(inputs).argmax(dim=1)
    found = torch.zeros(len(inputs), dtype=torch.bool)
    points = inputs.clone()
    for _ in range(steps):
        left = torch.nonzero(~found).squeeze(1)
        if not len(left):
            break
        at = points[left].requires_grad_()
        (gradient,) = torch.autograd.grad(label_margins(network(at), predictions[left]).sum(), at)
        moved = (at.detach() - step * gradient.sign()) - inputs[left]
        points[left] = inputs[left] + moved.clamp(-radius, radius)
        with torch.no_grad():
            found[left] = network(points[left]).argmax(dim=1) != predictions[left]
    return found
