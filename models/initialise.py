"""Activations, and the values a network starts from, drawn from a generator of the caller."""

from __future__ import annotations

import math

import torch
from torch import nn

from gapbench.datasets.errors import unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}

_GAINS = {"relu": math.sqrt(2.0), "tanh": 5.0 / 3.0, "gelu": math.sqrt(2.0)}


def activation(name: str) -> nn.Module:
    """The activation module of this name.

    Raises: InputError where there is none.
    """
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def initialise(network: nn.Module, activation: str, generator: torch.Generator) -> nn.Module:
    """Fill a network in place: weights N(0, gain²/fan_in) (He et al. 2015), the last layer's gain 1, biases 0.

    Batch and layer norm start as the identity. Order of the draws: that of ``network.modules()``.
    """
    weighted = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = 1.0 if module is weighted[-1] else _GAINS[activation]
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.reset_parameters()
    return network
