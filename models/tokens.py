"""Networks on tokens: attention, the blocks around it, and how images become tokens."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.errors import InputError
from gapbench.models.images import dropped
from gapbench.models.initialise import activation
from gapbench.models.norms import token_norm
from gapbench.models.residual import Residual
from gapbench.models.spec import RunSpec

HEAD_WIDTH = 16


class Attention(nn.Module):
    """Multi-head self-attention: out(concat over heads of softmax(q kᵀ/√d) v), q, k and v linear in the tokens.

    A head has ``width / heads`` = d coordinates.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (_plain(width, width) for _ in range(4))

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """The attended tokens."""
        q, k, v = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        attended: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return attended

    def _heads(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n heads tokens d"]:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Position(nn.Module):
    """Adds a learned vector to each token; they start at N(0, .02²)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(1, tokens, width))

    def draw_initial(self, generator: torch.Generator) -> None:
        """Draw the vectors that training starts from."""
        self.vectors.normal_(0.0, 0.02, generator=generator)

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """The sum."""
        return x + self.vectors


class MeanToken(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n width"]:
        """(n, width)."""
        return x.mean(dim=1)


class Transposed(nn.Module):
    """A network along the tokens in place of the coordinates."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """The network's outputs on the transposed tokens, transposed back."""
        mixed: Tensor = self.network(x.mT).mT
        return mixed


class Patches(nn.Module):
    """An image as tokens: a linear map of each of its square patches."""

    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.embed = _plain(channels * size * size, width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens width"]:
        """The tokens, row by row."""
        count, channels, height, width = x.shape
        rows, columns, size = height // self.size, width // self.size, self.size
        # reshape, not view: images are laid out channels last.
        patches = x.reshape(count, channels, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
        tokens: Tensor = self.embed(patches.reshape(count, rows * columns, -1))
        return tokens


def patch_size(input_shape: tuple[int, ...]) -> int:
    """The largest divisor of both sides that is at most 4 and at most a quarter of the shorter side.

    32 and 28: 4; 8: 2.
    """
    height, width = input_shape[1:]
    most = max(1, min(4, min(height, width) // 4))
    return max(size for size in range(1, most + 1) if height % size == 0 and width % size == 0)


def attention_block(spec: RunSpec) -> list[nn.Module]:
    """Two residual branches, each behind a norm: attention, and a two-layer perceptron on every token.

    Raises: InputError where the width does not divide into heads, or the norm is neither none nor layer.
    """
    heads = max(1, spec.width // HEAD_WIDTH)
    if spec.width % heads:
        raise InputError(
            f"{spec.architecture} has a head for every {HEAD_WIDTH} coordinates: width {spec.width} is no multiple of "
            f"{heads}; give a multiple of {HEAD_WIDTH}, or less than {2 * HEAD_WIDTH}"
        )
    attended = nn.Sequential(*token_norm(spec, spec.width), Attention(spec.width, heads), *dropped(spec))
    return [Residual(attended), token_perceptron(spec)]


def token_perceptron(spec: RunSpec) -> Residual:
    """norm, linear to 4 ``width``, activation, linear back, dropout, on every token by itself."""
    return Residual(nn.Sequential(*token_norm(spec, spec.width), *perceptron(spec, spec.width, 4 * spec.width)))


def perceptron(spec: RunSpec, size: int, hidden: int) -> list[nn.Module]:
    """linear, activation, linear back, dropout."""
    return [nn.Linear(size, hidden), activation(spec.activation), _plain(hidden, size), *dropped(spec)]


def _plain(into: int, out: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    vars(layer)["initial_gain"] = 1.0  # no activation follows it
    return layer
