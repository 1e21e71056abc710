"""The linear classifier."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from gapbench.datasets.errors import InputError
from gapbench.models.spec import RunSpec


def linear(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """One linear layer from the inputs to the classes.

    Raises: InputError unless depth is 0 and width 1: other values would be the same network under another name.
    """
    if (spec.depth, spec.width) != (0, 1):
        raise InputError(
            f"a linear classifier has no hidden layer: give depth = 0 and width = 1, not {spec.depth} and {spec.width}"
        )
    if spec.norm != "none" or spec.dropout > 0:
        raise InputError(
            f"a linear classifier has no hidden units to norm or drop out: leave out norm = {spec.norm!r} "
            f"and dropout = {spec.dropout}"
        )
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), output=nn.Linear(math.prod(input_shape), classes)))
