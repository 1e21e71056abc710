"""Activations, and the values a network starts from, drawn from a generator of the caller."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from gapbench.datasets.errors import unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}

_GAINS = {"relu": math.sqrt(2.0), "tanh": 5.0 / 3.0, "gelu": math.sqrt(2.0)}


@runtime_checkable
class DrawsItself(Protocol):
    """A module that draws the values its own parameters start from."""

    def draw_initial(self, generator: torch.Generator) -> None:
        """Draw them in place."""


def activation(name: str) -> nn.Module:
    """The activation module of this name.

    Raises: InputError where there is none.
    """
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def initialise(
    network: nn.Module,
    activation: str,
    generator: torch.Generator,
    initial_scale: float = 1.0,
    output_scale: float = 1.0,
) -> nn.Module:
    """Fill a network in place: weights N(0, s² gain²/fan_in) (He et al. 2015), the last layer's gain 1, biases 0.

    s is ``initial_scale``, for the last layer times ``output_scale``. A layer that no activation follows says so by an
    attribute ``initial_gain``; a module with parameters of its own draws them in ``draw_initial``. Batch and layer norm
    start as the identity. Order of the draws: that of ``network.modules()``.
    """
    weighted = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = getattr(module, "initial_gain", _GAINS[activation])
                scale = initial_scale * (output_scale if module is weighted[-1] else gain)
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, scale / math.sqrt(fan_in), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.reset_parameters()
            elif isinstance(module, DrawsItself):
                module.draw_initial(generator)
    return network
