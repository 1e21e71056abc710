"""The noise that the weights of a network bear: accuracy under Gaussian perturbation, and the sigma search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gapbench.measures.registry import quantity
from gapbench.measures.weight_noise import Noise, NoisyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split

TARGET_DROP = 0.1
"""The sigma search looks for the noise that lowers the training accuracy by this much on average …"""

TOLERANCE = 0.01
"""… and accepts a mean drop this close to it (then interpolates)."""

SMALLEST_SIGMA, LARGEST_SIGMA = 1e-6, 10.0

MAGNITUDE_FLOOR = 1e-3
"""ε: the standard deviation of magnitude-aware noise on a weight that is zero (Jiang et al. 2020)."""

NOISY_EVALUATIONS = 2048
"""The last step of a search averages over at least this many pairs of an example and a draw."""

COARSE_EXAMPLES = 128
"""The first steps of a search look at this many training examples, with one draw."""

MOST_EVALUATIONS = 40

SHORTEST_SECANT = 0.05
"""A slope is taken between two evaluations at least this far apart in log σ."""

SMALLEST_SLOPE = 0.02
"""A drop that rises more slowly than this with log σ is taken to rise so fast: its slope is noise."""


@dataclass(frozen=True)
class PerturbationScale:
    """The result of a sigma search.

    ``sigma`` is a standard deviation; ``standard_error`` is that of its estimate over the random draws. ``draws``: for
    each training example in the last step; ``evaluations``: of the mean accuracy, coarse ones included. Where no noise
    between the smallest sigma and ``cap`` has the target drop, ``converged`` is False and ``sigma`` is the end reached.
    """

    sigma: float
    standard_error: float = 0.0
    draws: int = 0
    evaluations: int = 0
    converged: bool = True
    cap: float = LARGEST_SIGMA


@quantity(cost="iterative")
def sigma(evaluated_float32: nn.Module, logits: Tensor, train: Split, rng: torch.Generator) -> PerturbationScale:
    """The standard deviation σ of noise N(0, σ²) on every weight and bias that costs 0.1 of training accuracy.

    Formula: accuracy(w) − E accuracy(w + u) = 0.1 within 0.01, u ~ N(0, σ² I), over the full training set.
    Source: Jiang et al. 2020 (appendix on PAC-Bayes measures), Dziugaite et al. 2020. The noise is drawn with the
    standard deviation σ; a widely copied code draws it with σ² where a standard deviation is expected.
    """
    return search_sigma(evaluated_float32, logits, train, rng, Noise, guess=0.15)


@quantity(cost="iterative")
def sigma_magnitude(
    evaluated_float32: nn.Module, logits: Tensor, train: Split, rng: torch.Generator
) -> PerturbationScale:
    """The relative size σ' of magnitude-aware noise that costs 0.1 of training accuracy.

    Formula: as `sigma`, with u_i ~ N(0, σ'² w_i² + ε²), ε = 1e-3.
    Source: Jiang et al. 2020 (magnitude-aware perturbation bounds), Dziugaite et al. 2020.
    """
    return search_sigma(evaluated_float32, logits, train, rng, lambda size: Noise(MAGNITUDE_FLOOR, size), guess=0.4)


def search_sigma(
    network: nn.Module,
    logits: Tensor,
    train: Split,
    rng: torch.Generator,
    noise: Callable[[float], Noise],
    *,
    guess: float,
    evaluations_at_least: int = NOISY_EVALUATIONS,
) -> PerturbationScale:
    """The size at which ``noise(size)`` lowers the training accuracy by `TARGET_DROP` on average.

    False position on log σ with common random numbers from ``guess``: first one draw on a few examples, which also
    gives the slope of the drop; then all examples, there with a third of the draws (at least two are made in all), one
    Newton step on with all of them, and further only where that is not within the tolerance; the accepted σ is
    corrected along the slope between these, both with the first third. Each example has noise of its own, and that of a
    linear output layer is integrated out (see `NoisyNetwork.correct`), which leaves the mean drop, all that the search
    looks at, unbiased but for the quadrature there. The standard error is that of the mean drop over its slope (delta
    method).
    """
    noisy = NoisyNetwork(network, train.inputs[:1])
    right = logits.argmax(dim=1) == train.labels
    coarse_seed, seed = torch.randint(2**62, (2,), generator=rng).tolist()
    few = slice(COARSE_EXAMPLES)
    draws = max(2, math.ceil(evaluations_at_least / len(train)))
    third = math.ceil(draws / 3)

    def coarse(log_size: float) -> float:
        correct = correct_under_noise(
            noisy, train.inputs[few], train.labels[few], noise(math.exp(log_size)), coarse_seed, 1
        )
        return float(right[few].double().mean() - correct.double().mean()) - TARGET_DROP

    def excess(correct: Tensor) -> float:
        return float(right.double().mean() - correct.double().mean()) - TARGET_DROP

    def correct(log_size: float, draws: int) -> Tensor:
        return correct_under_noise(noisy, train.inputs, train.labels, noise(math.exp(log_size)), seed, draws)

    last: dict[float, Tensor] = {}

    def fine(log_size: float) -> float:
        last[log_size] = correct(log_size, draws)
        return excess(last[log_size])

    start = crossing(coarse, math.log(guess), first_step=1.0)
    slope = max(SMALLEST_SLOPE, (coarse(start.at + 0.25) - coarse(start.at - 0.25)) / 0.5)
    first = excess(correct(start.at, third))
    end = crossing(fine, start.at - max(-0.5, min(0.5, first / slope)), first_step=0.1)
    evaluations = start.evaluations + 3 + end.evaluations
    if not end.converged:
        return PerturbationScale(math.exp(end.at), 0.0, draws, evaluations, False)
    if abs(end.at - start.at) >= SHORTEST_SECANT:
        slope = max(SMALLEST_SLOPE, (excess(last[end.at][:third]) - first) / (end.at - start.at))
    size = math.exp(end.at - end.value / slope)
    error = mean_standard_error(last[end.at], noisy.examples_a_draw)
    return PerturbationScale(size, size * error / slope, draws, evaluations)


def correct_under_noise(
    noisy: NoisyNetwork, inputs: Tensor, labels: Tensor, noise: Noise, seed: int, draws: int
) -> Float[Tensor, "draws n"]:
    """How probably each example is classified correctly, in each draw of the noise: its mean is the accuracy."""
    # Images are convolved about twice as fast in float32 with the channels last in memory.
    layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
    inputs = inputs.to(next(noisy.network.parameters()).dtype, memory_format=layout)
    generator = torch.Generator().manual_seed(seed)
    if noisy.examples_a_draw == 1:  # no two rows share noise, so all draws can be made together
        inputs, labels = inputs.repeat(draws, *[1] * (inputs.ndim - 1)), labels.repeat(draws)
        return noisy.correct(inputs, labels, noise, generator).view(draws, -1)
    return torch.stack([noisy.correct(inputs, labels, noise, generator) for _ in range(draws)])


def mean_standard_error(values: Tensor, examples_a_draw: int) -> float:
    """The standard error, over the noise, of the mean of (draws, n) values whose consecutive examples share noise.

    Formula: blocks of examples that share noise are independent of each other and across draws, so the variance of the
    mean is Σ_blocks Var_draws(block sum) / (draws · n²). Needs two draws.
    """
    draws, examples = values.shape
    sums = (
        torch.stack([block.sum(dim=1) for block in torch.split(values.double(), examples_a_draw, dim=1)])
        if examples_a_draw > 1
        else values.double().T
    )
    return float((sums.var(dim=1).sum() / draws).sqrt() / examples)


@dataclass(frozen=True)
class Crossing:
    """Where an increasing function was found within `TOLERANCE` of zero, and its value there."""

    at: float
    value: float
    evaluations: int
    converged: bool = True


def crossing(function: Callable[[float], float], start: float, *, first_step: float) -> Crossing:
    """A zero of an increasing function of log σ: steps that double until they bracket it, then false position.

    False position is in the Illinois form: where one end of the bracket stays, its value is halved. ``converged`` is
    False where the function does not change sign between the smallest and the largest sigma, or jumps over zero.
    """
    a, at_a, evaluations = start, function(start), 1
    b, at_b, step = a, at_a, first_step
    low, high = math.log(SMALLEST_SIGMA), math.log(LARGEST_SIGMA)
    while at_a * at_b > 0 and abs(at_b) > TOLERANCE:
        if b == (high if at_b < 0 else low):
            return Crossing(b, at_b, evaluations, converged=False)
        a, at_a = b, at_b
        b = min(high, b + step) if at_b < 0 else max(low, b - step)
        at_b, step, evaluations = function(b), 2 * step, evaluations + 1
    weight = at_a
    while abs(at_b) > TOLERANCE:
        if evaluations == MOST_EVALUATIONS:
            return Crossing(b, at_b, evaluations, converged=False)
        c = (a * at_b - b * weight) / (at_b - weight)
        at_c, evaluations = function(c), evaluations + 1
        if at_c * at_b < 0:
            a, weight = b, at_b
        else:
            weight /= 2
        b, at_b = c, at_c
    return Crossing(b, at_b, evaluations)
