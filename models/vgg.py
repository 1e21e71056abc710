"""VGG for small images."""

from __future__ import annotations

from torch import nn

from gapbench.models.images import classifier, convolution, dropped, image_shape
from gapbench.models.spec import RunSpec


def vgg(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` stages of two 3x3 convolutions and 2x2 max-pooling, of ``width``, 2 ``width``, 4 ``width`` … channels,
    at most 8 ``width``; each convolution with norm and activation, each stage with dropout; then global average pooling
    and a linear output layer.

    After Simonyan & Zisserman 2015, with one output layer as is usual on small images. A stage does not pool once a
    side is shorter than 2.
    Raises: InputError where the inputs are no images, depth or width is below 1, or the norm is unknown.
    """
    channels, side = image_shape(spec, input_shape)
    layers: list[nn.Module] = []
    for stage in range(spec.depth):
        width = spec.width * 2 ** min(stage, 3)
        pool = nn.MaxPool2d(2) if side >= 2 else None
        layers += convolution(spec, channels, width, 3)
        layers += convolution(spec, width, width, 3, pool=pool)
        layers += dropped(spec)
        channels, side = width, side // 2 if side >= 2 else side
    return nn.Sequential(*layers, *classifier(channels, classes))
