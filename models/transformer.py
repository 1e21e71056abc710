"""A transformer encoder on short sequences, such as the two operands of modular arithmetic."""

from __future__ import annotations

from torch import nn

from gapbench.datasets.errors import InputError
from gapbench.models.norms import token_norm
from gapbench.models.spec import RunSpec
from gapbench.models.tokens import MeanToken, Position, attention_block


def transformer(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A linear embedding of each token to ``width`` coordinates (of one-hot tokens: a table) with learned positions,
    ``depth`` pre-norm blocks of attention and perceptron, norm, the mean over tokens, a linear output layer.

    Inputs are (n, tokens, features). A head for every 16 coordinates.
    Raises: InputError where the inputs are no tokens, depth or width is below 1, the width does not divide into heads,
    or the norm is neither none nor layer.
    """
    if len(input_shape) != 2:
        raise InputError(f"a transformer needs tokens of shape (tokens, features), not inputs of shape {input_shape}")
    if spec.depth < 1 or spec.width < 1:
        raise InputError(f"a transformer needs depth and width of at least 1, not {spec.depth} and {spec.width}")
    tokens, features = input_shape
    embed = nn.Linear(features, spec.width)
    vars(embed)["initial_gain"] = 1.0
    blocks = [part for _ in range(spec.depth) for part in attention_block(spec)]
    last = [*token_norm(spec, spec.width), MeanToken(), nn.Linear(spec.width, classes)]
    return nn.Sequential(embed, Position(tokens, spec.width), *blocks, *last)
