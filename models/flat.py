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


def by_name(network: nn.Module, vector: Float[Tensor, " parameters"]) -> dict[str, Tensor]:
    """Copies of the pieces of a vector that is laid out as `flatten` does, in the shapes of the parameters."""
    found, start = {}, 0
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            found[name] = _view(vector, start, parameter.shape).clone(memory_format=torch.contiguous_format)
            start += parameter.numel()
    return found


def _view(vector: Tensor, start: int, shape: torch.Size) -> Tensor:
    piece = vector[start : start + shape.numel()]
    if len(shape) == 4:
        out, inputs, height, width = shape
        return piece.view(out, height, width, inputs).permute(0, 3, 1, 2)
    return piece.view(shape)
