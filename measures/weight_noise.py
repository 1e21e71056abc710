"""Networks under Gaussian weight noise, each example with a draw of its own; mathematics only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn
from torch.func import functional_call
from torch.nn.functional import linear
from torch.special import ndtr

from gapbench.measures.layers import Weighted, trace
from gapbench.measures.per_example import other_parameters, single_use_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float, Int
    from torch import Tensor

EXAMPLES_AT_ONCE = 1000

EXAMPLES_A_DRAW = 128
"""Where examples must share a draw of weight noise (up to signs), this many do."""


QUADRATURE_NODES = 12


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
    variance Σ_k var(w_jk) a_k² + var(b_j) (local reparametrisation: Kingma, Salimans & Welling 2015). A layer with
    several positions (a convolution, or linear on tokens) shares one draw among `EXAMPLES_A_DRAW` examples but flips
    its signs by example, input and output channel (flipout: Wen et al. 2018). Any other parameter has one draw for
    those examples. The mean over examples is unbiased for that under one common draw, and has far less variance, since
    the noise of different examples is nearly independent. The network itself is not changed.
    """

    def __init__(self, network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> None:
        self.network = network
        self.layers = single_use_layers(network, example)
        self.others = other_parameters(network, self.layers)
        with torch.no_grad():
            local = not self.others and all(
                _is_on_vectors(call.module, call.input) for call in trace(network, example) if call.name in self.layers
            )
        self.examples_a_draw = 1 if local else EXAMPLES_A_DRAW
        """How many examples, in order, share noise."""
        self.output_layer = _output_layer(network, self.layers, example)

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
        draws = _Draws(noise, generator, sign)
        return torch.cat([self._batch(batch, draws)[0] for batch in self._split(inputs)])

    def correct(
        self,
        inputs: Float[Tensor, " n *shape"],
        labels: Int[Tensor, " n"],
        noise: Law,
        generator: torch.Generator,
    ) -> Float[Tensor, " n"]:
        """The probability that each example is classified correctly, given the noise before the output layer.

        Given its inputs, a linear output layer under noise has independent Gaussian logits, over which the mean is
        taken by Gauss–Hermite quadrature: within 1e-3 where the deviations are alike, within .1 for an example whose
        right class has ten times those of the others; where the network ends otherwise this is 1 or 0, for one draw of
        all noise.
        """
        parts = zip(self._split(inputs), self._split(labels), strict=True)
        draws = _Draws(noise, generator, 1.0)
        with torch.no_grad():
            return torch.cat([_probability(*self._batch(batch, draws, spare=True), own) for batch, own in parts])

    def _split(self, examples: Tensor) -> tuple[Tensor, ...]:
        return torch.split(examples, EXAMPLES_AT_ONCE if self.examples_a_draw == 1 else self.examples_a_draw)

    def _batch(self, inputs: Tensor, draws: _Draws, *, spare: bool = False) -> tuple[Tensor, Tensor | None]:
        """The logits under noise; with ``spare``, of all but a linear output layer, and that layer's deviations."""
        spared: list[Tensor] = []

        def perturb(layer: Weighted, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not _is_on_vectors(layer, given[0]):
                return output + _flipped(layer, given[0], draws)
            assert isinstance(layer, nn.Linear)
            # The slope of the root is infinite at 0, where a gradient would be 0 times that.
            variance = _output_variance(layer, given[0], draws.noise)
            deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
            if spare and layer is self.output_layer:
                spared.append(deviation)
                return output
            return torch.addcmul(output, deviation, draws.normals(output), value=draws.sign)

        handles = [layer.register_forward_hook(perturb) for layer in self.layers.values()]
        try:
            shared = {name: value + draws.of(value) for name, value in self.others.items()}
            logits: Tensor = functional_call(self.network, shared, inputs) if shared else self.network(inputs)
            return logits, spared[0] if spared else None
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


def _output_layer(network: nn.Module, layers: Mapping[str, nn.Module], example: Tensor) -> nn.Linear | None:
    """The linear layer whose outputs are the logits as they are, if there is one."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda module, _, output: outputs.append((module, output)))
        for layer in layers.values()
        if isinstance(layer, nn.Linear)
    ]
    try:
        with torch.no_grad():
            logits = network(example)
    finally:
        for handle in handles:
            handle.remove()
    last = next((module for module, output in outputs if output is logits), None)
    return last if isinstance(last, nn.Linear) else None


def _probability(logits: Tensor, deviations: Tensor | None, labels: Tensor) -> Tensor:
    """P(f_y > f_j for all j ≠ y) for independent Gaussian logits of these means and deviations, (n,).

    Formula: E_z Π_{j≠y} Φ((μ_y + s_y z − μ_j)/s_j), z standard normal, by Gauss–Hermite quadrature.
    """
    if deviations is None:
        return (logits.argmax(dim=1) == labels).to(logits.dtype)
    nodes, weights = (torch.from_numpy(part).to(logits.dtype) for part in hermegauss(QUADRATURE_NODES))
    deviations = deviations.clamp_min(torch.finfo(logits.dtype).tiny).expand_as(logits)
    own = labels[:, None]
    drawn = logits.gather(1, own) + deviations.gather(1, own) * nodes
    above = ndtr((drawn[:, :, None] - logits[:, None]) / deviations[:, None])
    above.scatter_(2, own[:, :, None].expand(-1, len(nodes), 1), 1.0)
    probability: Tensor = above.prod(dim=2) @ (weights / weights.sum())
    return probability


def _output_variance(layer: nn.Linear, inputs: Tensor, noise: Law) -> Tensor:
    """The variance of each output under noise on weights and biases, (n, out), or (n, 1) where all units share it."""
    common = noise.common_variance
    if common is not None:
        return (inputs.square().sum(dim=1, keepdim=True) + float(layer.bias is not None)) * common
    bias = None if layer.bias is None else noise.variance(layer.bias)
    return linear(inputs.square(), noise.variance(layer.weight), bias)


def _is_on_vectors(layer: nn.Module, inputs: Tensor) -> bool:
    return isinstance(layer, nn.Linear) and inputs.ndim == 2


def _flipped(layer: Weighted, inputs: Tensor, draws: _Draws) -> Tensor:
    """The change of a layer's outputs: signs s ∘ layer(r ∘ inputs, one draw of the weights) + a bias draw each."""
    examples, single = len(inputs), [1] * (inputs.ndim - 2)
    weight = draws.of(layer.weight)
    if isinstance(layer, nn.Linear):
        into, out = (examples, *single, layer.in_features), (examples, *single, layer.out_features)
    else:
        into, out = (examples, layer.in_channels, *single), (examples, layer.out_channels, *single)
    flipped = inputs * _signs(into, inputs.dtype, draws.generator)
    signs_out = _signs(out, inputs.dtype, draws.generator)
    on_flipped = linear(flipped, weight) if isinstance(layer, nn.Linear) else layer._conv_forward(flipped, weight, None)
    change: Tensor = on_flipped * signs_out
    if layer.bias is None:
        return change
    biases = draws.normals(layer.bias.expand(examples, -1)) * draws.noise.variance(layer.bias).sqrt() * draws.sign
    return change + biases.view(out)


def _signs(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, dtype=dtype, generator=generator) * 2 - 1
