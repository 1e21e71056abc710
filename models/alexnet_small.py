"""The small AlexNet of Zhang et al. 2017."""

from __future__ import annotations

import math

import torch
from torch import nn

from gapbench.models.images import convolution, dropped, image_shape
from gapbench.models.initialise import activation
from gapbench.models.norms import unit_norm
from gapbench.models.spec import RunSpec


def alexnet_small(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """``depth`` modules of a 5x5 convolution to ``width`` channels, norm, 3x3 max-pooling of stride 2, activation;
    two hidden layers of 6 and 3 times ``width`` units, each with dropout; a linear output layer.

    Zhang et al. 2017 (appendix A) have depth 2 and hidden layers of 384 and 192 units, here width 64, and local
    response normalisation where this has the norm of the spec. A module does not pool once a side is shorter than 2.
    Raises: InputError where the inputs are no images, depth or width is below 1, or the norm is unknown.
    """
    channels, side = image_shape(spec, input_shape)
    layers: list[nn.Module] = []
    for _ in range(spec.depth):
        pool = nn.MaxPool2d(3, stride=2, padding=1) if side >= 2 else None
        layers += convolution(spec, channels, spec.width, 5, pool=pool)
        side = (side + 1) // 2
        channels = spec.width
    with torch.no_grad():
        # Of the zeros' image only the shape is of interest.
        units = math.prod(nn.Sequential(*layers).eval()(torch.zeros(1, *input_shape)).shape)
    layers.append(nn.Flatten())
    for hidden in (6 * spec.width, 3 * spec.width):
        layers += [nn.Linear(units, hidden), *unit_norm(spec, hidden), activation(spec.activation), *dropped(spec)]
        units = hidden
    return nn.Sequential(*layers, nn.Linear(units, classes)).train()
