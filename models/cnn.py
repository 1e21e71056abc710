"""A plain convolutional network."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from gapbench.datasets.errors import InputError
from gapbench.models.initialise import activation
from gapbench.models.norms import channel_norm
from gapbench.models.spec import RunSpec


def cnn(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` blocks of a 3x3 convolution to ``width`` channels, norm, 2x2 max-pooling, activation, dropout; then
    global average pooling and a linear output layer.

    The activation stands after the pooling: for a monotone activation this is the same function, computed on a
    quarter of the positions. A block does not pool once a side is shorter than 4.
    Raises: InputError where the inputs are not images, depth or width is below 1, or the norm is unknown.
    """
    if len(input_shape) != 3:
        raise InputError(f"a cnn needs images of shape (channels, height, width), not inputs of shape {input_shape}")
    if spec.depth < 1 or spec.width < 1:
        raise InputError(f"a cnn needs depth and width of at least 1, not {spec.depth} and {spec.width}")
    channels, *sides = input_shape
    side = min(sides)
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, spec.depth + 1):
        blocks[f"convolution{number}"] = nn.Conv2d(channels, spec.width, 3, padding=1)
        for norm in channel_norm(spec, spec.width):
            blocks[f"norm{number}"] = norm
        if side >= 4:
            blocks[f"pool{number}"] = nn.MaxPool2d(2)
            side //= 2
        blocks[f"activation{number}"] = activation(spec.activation)
        if spec.dropout > 0:
            blocks[f"dropout{number}"] = nn.Dropout(spec.dropout)
        channels = spec.width
    blocks["average"] = nn.AdaptiveAvgPool2d(1)
    blocks["flatten"] = nn.Flatten()
    blocks["output"] = nn.Linear(channels, classes)
    return nn.Sequential(blocks)
