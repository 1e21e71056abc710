"""The MLP-Mixer."""

from __future__ import annotations

from torch import nn

from gapbench.models.images import image_shape
from gapbench.models.norms import token_norm
from gapbench.models.residual import Residual
from gapbench.models.spec import RunSpec
from gapbench.models.tokens import MeanToken, Patches, Transposed, patch_size, perceptron, token_perceptron


def mixer(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Patches as tokens of ``width`` coordinates, ``depth`` blocks of a perceptron along the tokens and one along the
    coordinates, each a residual branch behind a norm; norm, the mean over tokens, a linear output layer.

    After Tolstikhin et al. 2021: hidden layers of twice the tokens and four times the coordinates. Patches as in `vit`.
    Raises: InputError where the inputs are no images, depth or width is below 1, or the norm is neither none nor layer.
    """
    channels, _ = image_shape(spec, input_shape)
    size = patch_size(input_shape)
    tokens = input_shape[1] // size * (input_shape[2] // size)
    layers: list[nn.Module] = [Patches(channels, spec.width, size)]
    for _ in range(spec.depth):
        along_tokens = Transposed(nn.Sequential(*perceptron(spec, tokens, 2 * tokens)))
        layers += [Residual(nn.Sequential(*token_norm(spec, spec.width), along_tokens)), token_perceptron(spec)]
    return nn.Sequential(*layers, *token_norm(spec, spec.width), MeanToken(), nn.Linear(spec.width, classes))
