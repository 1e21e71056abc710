"""The vision transformer."""

from __future__ import annotations

from torch import nn

from gapbench.models.images import image_shape
from gapbench.models.norms import token_norm
from gapbench.models.spec import RunSpec
from gapbench.models.tokens import MeanToken, Patches, Position, attention_block, patch_size


def vit(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Patches as tokens of ``width`` coordinates with learned positions, ``depth`` pre-norm blocks of attention and
    perceptron, norm, the mean over tokens, a linear output layer.

    After Dosovitskiy et al. 2021, with the mean token in place of a class token. A head for every 16 coordinates;
    patches of 4x4 pixels on images of side 28 and 32, 2x2 on side 8 (`models.tokens.patch_size`).
    Raises: InputError where the inputs are no images, depth or width is below 1, the width does not divide into heads,
    or the norm is neither none nor layer.
    """
    channels, _ = image_shape(spec, input_shape)
    size = patch_size(input_shape)
    tokens = input_shape[1] // size * (input_shape[2] // size)
    blocks = [part for _ in range(spec.depth) for part in attention_block(spec)]
    first = [Patches(channels, spec.width, size), Position(tokens, spec.width)]
    last = [*token_norm(spec, spec.width), MeanToken(), nn.Linear(spec.width, classes)]
    return nn.Sequential(*first, *blocks, *last)
