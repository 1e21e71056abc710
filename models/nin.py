"""Network in network."""

from __future__ import annotations

from torch import nn

from gapbench.models.images import classifier, convolution, dropped, image_shape
from gapbench.models.spec import RunSpec


def nin(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` blocks of a 3x3 convolution and two 1x1 convolutions to ``width`` channels, each with norm and
    activation; dropout after a block; then global average pooling and a linear output layer.

    A block's first convolution has stride 2 until a side is shorter than 4. After the networks of Jiang et al. 2020 and
    Dziugaite et al. 2020, who vary width, depth and dropout of such blocks (as recalled); their last 1x1 convolution
    before the average is our linear layer after it, the same function.
    Raises: InputError where the inputs are no images, depth or width is below 1, or the norm is unknown.
    """
    channels, side = image_shape(spec, input_shape)
    layers: list[nn.Module] = []
    for _ in range(spec.depth):
        stride = 2 if side >= 4 else 1
        side = (side + stride - 1) // stride
        layers += convolution(spec, channels, spec.width, 3, stride=stride)
        layers += convolution(spec, spec.width, spec.width, 1)
        layers += convolution(spec, spec.width, spec.width, 1)
        layers += dropped(spec)
        channels = spec.width
    return nn.Sequential(*layers, *classifier(channels, classes))
