"""The multilayer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from gapbench.datasets.errors import InputError
from gapbench.models.initialise import activation
from gapbench.models.norms import unit_norm
from gapbench.models.spec import RunSpec


def mlp(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units: linear, norm, activation, dropout; then a linear output layer.

    Raises: InputError where depth or width is below 1, or the norm is unknown.
    """
    if spec.depth < 1 or spec.width < 1:
        raise InputError(f"an mlp needs depth and width of at least 1, not {spec.depth} and {spec.width}")
    blocks: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    units = math.prod(input_shape)
    for number in range(1, spec.depth + 1):
        blocks[f"linear{number}"] = nn.Linear(units, spec.width)
        for norm in unit_norm(spec, spec.width):
            blocks[f"norm{number}"] = norm
        blocks[f"activation{number}"] = activation(spec.activation)
        if spec.dropout > 0:
            blocks[f"dropout{number}"] = nn.Dropout(spec.dropout)
        units = spec.width
    blocks["output"] = nn.Linear(units, classes)
    return nn.Sequential(blocks)
