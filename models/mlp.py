"""The multilayer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from gapbench.datasets.errors import InputError, unknown
from gapbench.models.initialise import activation
from gapbench.models.spec import RunSpec

_NORMS = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units: linear, norm, activation, dropout; then a linear output layer.

    Raises: InputError where depth or width is below 1, or the norm is unknown.
    """
    if spec.depth < 1 or spec.width < 1:
        raise InputError(f"an mlp needs depth and width of at least 1, not {spec.depth} and {spec.width}")
    if spec.norm not in _NORMS:
        raise unknown("norm for an mlp", spec.norm, _NORMS)
    norm = _NORMS[spec.norm]
    blocks: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    units = math.prod(input_shape)
    for number in range(1, spec.depth + 1):
        blocks[f"linear{number}"] = nn.Linear(units, spec.width)
        if norm is not None:
            blocks[f"norm{number}"] = norm(spec.width)
        blocks[f"activation{number}"] = activation(spec.activation)
        if spec.dropout > 0:
            blocks[f"dropout{number}"] = nn.Dropout(spec.dropout)
        units = spec.width
    blocks["output"] = nn.Linear(units, classes)
    return nn.Sequential(blocks)
