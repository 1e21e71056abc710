"""Networks under Gaussian weight noise, each example with a draw of its own; mathematics only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import conv2d, linear

from gapbench.measures.per_example import other_parameters, single_use_layers

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

EXAMPLES_AT_ONCE = 1000

EXAMPLES_A_DRAW = 128
"""Where examples must share a draw of weight noise (up to signs), this many do."""


@runtime_checkable
class Law(Protocol):
    """A law of independent Gaussian noise on every parameter."""

    @property
    def common_variance(self) -> float | None:
        """The variance, where it is the same for every parameter."""

    def variance(self, parameter: Tensor) -> Tensor:
        """The variance of the noise on each entry of a parameter."""


@dataclass(frozen=True)
class Noise:
    """Independent Gaussian noise on every parameter w_i, of variance ``absolute``² + ``relative``² w_i²."""

    absolute: float
    relative: float = 0.0

    @property
    def common_variance(self) -> float | None:
        """The variance, where it is the same for every parameter."""
        return self.absolute**2 if self.relative == 0 else None

    def variance(self, parameter: Tensor) -> Tensor:
        """The variance of the noise on each entry of a parameter."""
        if self.relative == 0:
            return torch.full_like(parameter, self.absolute**2)
        return self.relative**2 * parameter.square() + self.absolute**2


class NoisyNetwork:
    """Evaluates a network under weight noise with the exact law of every single example's logits, cheaply.

    A linear layer draws its noise in its outputs: given the inputs a they are Gaussian, independent over units, with
    variance Σ_k var(w_jk) a_k² + var(b_j) (local reparametrisation: Kingma, Salimans & Welling 2015). A convolution
    shares one draw among `EXAMPLES_A_DRAW` examples but flips its signs by example, input and output channel (flipout:
    Wen et al. 2018). Any other parameter has one draw for those examples. The mean over examples is unbiased for that
    under one common draw, and has far less variance, since the noise of different examples is nearly independent.
    The network itself is not changed.
    """

    def __init__(self, network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> None:
        self.network = network
        self.layers = single_use_layers(network, example)
        self.others = other_parameters(network, self.layers)
        local = not self.others and all(isinstance(layer, nn.Linear) for layer in self.layers.values())
        self.examples_a_draw = 1 if local else EXAMPLES_A_DRAW
        """How many examples, in order, share noise."""

    def logits(
        self, inputs: Float[Tensor, " n *shape"], noise: Law, generator: torch.Generator, *, sign: float = 1.0
    ) -> Float[Tensor, "n classes"]:
        """The logits of the examples under ``sign`` times noise drawn from the generator.

        The same generator state gives the same standard normals, so a sign of -1 gives the antithetic draw.
        """
        with torch.no_grad():
            return self.differentiable_logits(inputs, noise, generator, sign=sign)

    def differentiable_logits(
        self, inputs: Float[Tensor, " n *shape"], noise: Law, generator: torch.Generator, *, sign: float = 1.0
    ) -> Float[Tensor, "n classes"]:
        """As `logits`, with a graph to the network's parameters and to the variances of the noise."""
        batches = torch.split(inputs, EXAMPLES_AT_ONCE if self.examples_a_draw == 1 else self.examples_a_draw)
        return torch.cat([self._batch(batch, _Draws(noise, generator, sign)) for batch in batches])

    def _batch(self, inputs: Tensor, draws: _Draws) -> Tensor:
        def perturb_linear(layer: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            # The slope of the root is infinite at 0, where a gradient would be 0 times that.
            variance = _output_variance(layer, given[0], draws.noise)
            deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
            return torch.addcmul(output, deviation, draws.normals(output), value=draws.sign)

        def perturb_convolution(layer: nn.Conv2d, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + _flipped_convolution(layer, given[0], draws)

        handles = [
            layer.register_forward_hook(perturb_linear if isinstance(layer, nn.Linear) else perturb_convolution)
            for layer in self.layers.values()
        ]
        try:
            shared = {name: value + draws.of(value) for name, value in self.others.items()}
            logits: Tensor = functional_call(self.network, shared, inputs) if shared else self.network(inputs)
            return logits
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True)
class _Draws:
    """A stream of noise of one size and sign."""

    noise: Law
    generator: torch.Generator
    sign: float

    def normals(self, like: Tensor) -> Tensor:
        """Standard normals of the same shape and type."""
        return torch.randn(like.shape, dtype=like.dtype, generator=self.generator)

    def of(self, parameter: Tensor) -> Tensor:
        """A draw of the noise on a parameter."""
        return self.normals(parameter) * self.noise.variance(parameter).sqrt() * self.sign


def _output_variance(layer: nn.Linear, inputs: Tensor, noise: Law) -> Tensor:
    """The variance of each output under noise on weights and biases, (n, out), or (n, 1) where all units share it."""
    common = noise.common_variance
    if common is not None:
        return (inputs.square().sum(dim=1, keepdim=True) + float(layer.bias is not None)) * common
    bias = None if layer.bias is None else noise.variance(layer.bias)
    return linear(inputs.square(), noise.variance(layer.weight), bias)


def _flipped_convolution(layer: nn.Conv2d, inputs: Tensor, draws: _Draws) -> Tensor:
    """The change of a convolution's outputs: signs s ∘ convolution(r ∘ inputs, one kernel draw) + a bias draw each."""
    examples = len(inputs)
    kernel = draws.of(layer.weight)
    signs_in = _signs((examples, layer.in_channels, 1, 1), inputs.dtype, draws.generator)
    signs_out = _signs((examples, layer.out_channels, 1, 1), inputs.dtype, draws.generator)
    assert not isinstance(layer.padding, str)
    change = conv2d(inputs * signs_in, kernel, None, layer.stride, layer.padding, layer.dilation) * signs_out
    if layer.bias is None:
        return change
    biases = draws.normals(layer.bias.expand(examples, -1)) * draws.noise.variance(layer.bias).sqrt() * draws.sign
    return change + biases[:, :, None, None]


def _signs(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, dtype=dtype, generator=generator) * 2 - 1
