"""The small Inception of Zhang et al. 2017."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.models.images import classifier, convolution, dropped, image_shape
from gapbench.models.spec import RunSpec

_BASE = 96
_STAGES: tuple[tuple[int | None, tuple[tuple[int, int], ...]], ...] = (
    (None, ((32, 32), (32, 48))),
    (80, ((112, 48), (96, 64), (80, 80), (48, 96))),
    (96, ((176, 160), (176, 160))),
)
"""A stage: the channels of the convolution that halves the sides before it, and of the 1x1 and 3x3 branches of each of
its modules, where the first convolution has 96 (Zhang et al. 2017, figure 3)."""


class Branches(nn.Module):
    """The outputs of several branches on the same inputs, their channels one after another."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels height width"]:
        """The concatenated outputs."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def inception_small(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A 3x3 convolution to ``width`` channels; the first ``depth`` of three stages of modules that put a 1x1 and a 3x3
    convolution side by side, each later stage beginning with a 3x3 convolution of stride 2 beside max-pooling; then
    global average pooling, dropout and a linear output layer. Every convolution has norm and activation.

    Zhang et al. 2017 (appendix A, figure 3) have width 96, depth 3, batch norm, and the same without it; the channels
    of the modules scale with the width.
    Raises: InputError where the inputs are no images, width is below 1, depth not from 1 to 3, or the norm is unknown.
    """
    channels, side = image_shape(spec, input_shape, deepest=len(_STAGES))

    def scaled(number: int) -> int:
        return max(1, round(number * spec.width / _BASE))

    layers = convolution(spec, channels, spec.width, 3)
    channels = spec.width
    for halving, modules in _STAGES[: spec.depth]:
        if halving is not None and side >= 2:
            strided = nn.Sequential(*convolution(spec, channels, scaled(halving), 3, stride=2))
            layers.append(Branches(strided, nn.MaxPool2d(3, stride=2, padding=1)))
            channels, side = scaled(halving) + channels, (side + 1) // 2
        for ones, threes in modules:
            branches = [convolution(spec, channels, scaled(ones), 1), convolution(spec, channels, scaled(threes), 3)]
            layers.append(Branches(*(nn.Sequential(*branch) for branch in branches)))
            channels = scaled(ones) + scaled(threes)
    pool, flat, output = classifier(channels, classes)
    return nn.Sequential(*layers, pool, flat, *dropped(spec), output)
