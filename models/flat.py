"""A network's parameters as views of one vector, so that an optimiser's step is a few operations on vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def flatten(network: nn.Module) -> tuple[Float[Tensor, " parameters"], Float[Tensor, " parameters"]]:
    """Make the network's parameters, and their gradients, views of two vectors, and return the vectors.

    ``backward`` then adds into the second vector. Convolution kernels are laid out channels last, as the CPU kernels
    read them.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    values = torch.empty(sum(parameter.numel() for parameter in parameters), dtype=parameters[0].dtype)
    gradients = torch.zeros_like(values)
    start = 0
    for parameter in parameters:
        view = _view(values, start, parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad = _view(gradients, start, parameter.shape)
        start += parameter.numel()
    return values, gradients


def _view(vector: Tensor, start: int, shape: torch.Size) -> Tensor:
    piece = vector[start : start + shape.numel()]
    if len(shape) == 4:
        out, inputs, height, width = shape
        return piece.view(out, height, width, inputs).permute(0, 3, 1, 2)
    return piece.view(shape)
