"""Training examples moved a little: images by a pixel or two, vectors by noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from gapbench.datasets.spec import Split
from gapbench.measures.draws import DRAWN_EXAMPLES, draws_each
from gapbench.measures.registry import quantity

JITTER = 0.1
"""The standard deviation of the noise on vectors, in units of `input_spread`."""

PIXELS_PER_SHIFT = 16
"""An image is shifted by at most one pixel for this many of its shorter side, and by one at least."""


def input_spread(inputs: Float[Tensor, " n *shape"]) -> float:
    """The standard deviation of the input coordinates, each about its own mean: the root of their mean variance."""
    return math.sqrt(float(inputs.double().var(dim=0, correction=0).mean()))


@quantity(cost="forward")
def augmented_logits(
    evaluated_float32: nn.Module, train: Split, rng: torch.Generator
) -> Float[Tensor, "draws examples classes"]:
    """The outputs for several augmented copies of each of the first 250 training examples, float32.

    Images (inputs of three dimensions) are shifted, see `shifted`: a shift keeps the class of any picture, which a
    reflection does not (digits, letters), and a measure does not know what is pictured. Of other inputs no
    transformation is known to keep the class but a small one: Gaussian noise of a tenth of their standard deviation.
    """
    inputs = train.inputs[:DRAWN_EXAMPLES].float()
    noise_std = JITTER * input_spread(train.inputs)
    rows = []
    with torch.no_grad():
        for _ in range(draws_each(len(inputs))):
            if inputs.ndim == 4:
                moved = shifted(inputs, rng)
            else:
                moved = inputs + noise_std * torch.randn(inputs.shape, generator=rng)
            rows.append(evaluated_float32(moved))
    return torch.stack(rows)


def shifted(images: Float[Tensor, "n c h w"], rng: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Each image shifted by its own whole number of pixels along both axes, not zero along both.

    Uniform over the shifts of at most one pixel (two from a side of 32) along either axis; pixels of the border are
    repeated.
    """
    count, _, height, width = images.shape
    reach = max(1, min(height, width) // PIXELS_PER_SHIFT)
    side = 2 * reach + 1
    places = torch.randint(side**2 - 1, (count,), generator=rng)
    places = places + (places >= side**2 // 2)  # skips the middle one, no shift
    down, right = places // side, places % side
    padded = pad(images, (reach,) * 4, mode="replicate")
    rows = (down.unsqueeze(1) + torch.arange(height)).unsqueeze(2)
    columns = (right.unsqueeze(1) + torch.arange(width)).unsqueeze(1)
    return padded.movedim(1, 3)[torch.arange(count).view(-1, 1, 1), rows, columns].movedim(3, 1)
