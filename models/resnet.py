"""Residual networks for small images."""

from __future__ import annotations

from torch import nn

from gapbench.models.images import classifier, convolution, dropped, image_shape
from gapbench.models.initialise import activation
from gapbench.models.residual import Residual
from gapbench.models.spec import RunSpec

STAGES = 3


def resnet(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A 3x3 convolution to ``width`` channels; three stages of ``depth`` basic blocks with ``width``, 2 ``width`` and
    4 ``width`` channels, halving the sides between stages; global average pooling and a linear output layer.

    A block is act(shortcut(x) + norm conv3x3 drop act norm conv3x3 x). He et al. 2016 (section 4.2): ResNet-20 is
    depth 3 and width 16 with batch norm. Where the shape changes, the shortcut is every second position and a 1x1
    convolution with norm (option B).
    Raises: InputError where the inputs are no images, depth or width is below 1, or the norm is unknown.
    """
    channels, side = image_shape(spec, input_shape)
    layers = convolution(spec, channels, spec.width, 3)
    channels = spec.width
    for stage in range(STAGES):
        for number in range(spec.depth):
            stride = 2 if stage and not number and side >= 2 else 1
            layers += [_block(spec, channels, spec.width * 2**stage, stride), activation(spec.activation)]
            channels, side = spec.width * 2**stage, (side + stride - 1) // stride
    return nn.Sequential(*layers, *classifier(channels, classes))


def _block(spec: RunSpec, into: int, out: int, stride: int) -> Residual:
    branch = [
        *convolution(spec, into, out, 3, stride=stride),
        *dropped(spec),
        *convolution(spec, out, out, 3, activated=False),
    ]
    if into == out and stride == 1:
        return Residual(nn.Sequential(*branch))
    # Max-pooling over one position is every second position. In float32, with few channels, PyTorch 2.15's backward
    # pass of a 1x1 convolution that has the stride itself writes outside its memory.
    skipped: list[nn.Module] = [nn.MaxPool2d(1, stride=stride)] if stride > 1 else []
    return Residual(nn.Sequential(*branch), nn.Sequential(*skipped, *convolution(spec, into, out, 1, activated=False)))
