"""Stochastic classifiers with Gaussian weights: fitting one to a PAC-Bayes bound, and certifying its error.

Mathematics only, nothing is registered. The classifier draws its weights anew for every prediction, from
Q = N(μ, diag s²) over all parameters of a folded network. The prior is P = N(w0, λI).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from gapbench.measures.bounds import inverse_kl, maurer_budget, mean_of_draws_bound, quadratic
from gapbench.measures.perturbation import mean_standard_error
from gapbench.measures.quantities import channels_last
from gapbench.measures.registry import Estimate
from gapbench.measures.weight_noise import EXAMPLES_A_DRAW, EXAMPLES_AT_ONCE, NoisyNetwork
from gapbench.models.flat import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Bool, Float
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split

PRECISION, LARGEST_VARIANCE = 100, 0.1
"""b and c of Dziugaite & Roy: prior variances are c·e^(−j/b), j = 1, 2, …, the j-th at confidence 6δ/(π²j²)."""

PARAMETERS_A_EXAMPLE, FEWEST_A_DRAW = 10_000, 8
"""Where a draw of all weights is certified, it is for one example for each so many parameters, which keeps drawing
cheaper than passing them, and at least for so many."""

FORGETTING = 0.9
"""RMSprop averages squared gradients over about ten steps."""


@dataclass(frozen=True)
class Deviations:
    """Noise with a standard deviation of its own for every parameter, given by its logarithm."""

    logarithms: Mapping[Tensor, Tensor]

    @property
    def common_variance(self) -> float | None:
        """None: the parameters differ."""
        return None

    def variance(self, parameter: Tensor) -> Tensor:
        """The variance of the noise on each entry of a parameter."""
        return (2 * self.logarithms[parameter]).exp()


class StochasticNetwork:
    """Q = N(μ, diag s²): μ starts at the parameters of ``network``, which is copied, and s at one ``deviation``.

    μ and ln s are the vectors ``mean`` and ``log_deviation``; their gradients are added into vectors of those names.
    """

    def __init__(self, network: nn.Module, example: Float[Tensor, " 1 *shape"], deviation: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_()
        spread = copy.deepcopy(self.network)
        self.mean, self.mean_gradient = flatten(self.network)
        self.log_deviation, self.log_deviation_gradient = flatten(spread)
        self.log_deviation.fill_(math.log(deviation))
        self.noise = Deviations(dict(zip(self.network.parameters(), spread.parameters(), strict=True)))
        self.noisy = NoisyNetwork(self.network, example)

    def logits(self, inputs: Float[Tensor, " n *shape"], rng: torch.Generator) -> Float[Tensor, "n classes"]:
        """The logits of the examples, each under a draw of the weights (see `NoisyNetwork`), differentiable."""
        return self.noisy.differentiable_logits(inputs, self.noise, rng)

    @property
    def examples_a_draw(self) -> int:
        """How many examples, in order, share a draw in `wrong`: few, since those count as one in a confidence limit."""
        if self.noisy.examples_a_draw == 1:
            return 1
        return min(EXAMPLES_A_DRAW, max(FEWEST_A_DRAW, len(self.mean) // PARAMETERS_A_EXAMPLE))

    def wrong(self, sample: Split, rng: torch.Generator, draws: int) -> Bool[Tensor, "draws n"]:
        """Which examples are misclassified in each draw; its mean estimates the error of Q on the sample."""
        inputs, single = channels_last(sample.inputs.to(self.mean.dtype)), [1] * (sample.inputs.ndim - 1)
        if self.examples_a_draw > 1:
            return torch.stack([self._drawn_logits(inputs, rng).argmax(dim=1) != sample.labels for _ in range(draws)])
        found, together = [], max(1, EXAMPLES_AT_ONCE // len(inputs))
        for start in range(0, draws, together):
            copies = min(together, draws - start)
            logits = self.noisy.logits(inputs.repeat(copies, *single), self.noise, rng)
            found.append(logits.argmax(dim=1).view(copies, -1) != sample.labels)
        return torch.cat(found)

    def _drawn_logits(self, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """The logits, with all weights drawn anew for each of the groups of examples that share a draw."""
        drawn, deviation = copy.deepcopy(self.network), self.log_deviation.exp()
        weights, _ = flatten(drawn)
        found = []
        with torch.no_grad():
            for few in torch.split(inputs, self.examples_a_draw):
                weights.normal_(generator=rng).mul_(deviation).add_(self.mean)
                found.append(drawn(few))
        return torch.cat(found)


def divergence(squares: Float[Tensor, " p"], log_deviation: Float[Tensor, " p"], variance: float) -> float:
    """KL(Q‖N(w0, λI)) in nats, from ``squares`` = s² + (μ − w0)², ln s and λ.

    Formula: ½ Σ_i [(s_i² + (μ_i − w0_i)²)/λ − 1 + ln λ − ln s_i²].
    """
    return float((squares / variance - 1 + math.log(variance) - 2 * log_deviation).sum()) / 2


def prior_variance(index: int) -> float:
    """The j-th prior variance, c·e^(−j/b)."""
    return LARGEST_VARIANCE * math.exp(-index / PRECISION)


def prior_cost(index: int) -> float:
    """What the choice of the j-th prior variance adds to KL: ln(π²j²/6), since Σ_j 6/(π²j²) = 1."""
    return math.log(math.pi**2 * index**2 / 6)


@dataclass(frozen=True)
class Descent:
    """How `fit` looks for a good Q; nothing in it needs to be right for the bound to hold.

    ``steps`` of RMSprop on ``batch_size`` examples each, at rates that fall linearly to zero.
    """

    steps: int
    batch_size: int
    mean_rate: float
    log_deviation_rate: float


def fit(
    q: StochasticNetwork,
    prior: Float[Tensor, " p"],
    sample: Split,
    rng: torch.Generator,
    descent: Descent,
    delta: float,
) -> None:
    """Lower the bound of q, in place, by descent on μ and ln s.

    Formula: the `quadratic` bound of the mean cross-entropy over ln C (for two classes the logistic loss in bits, which
    is at least the error), at `maurer_budget` with the prior variance that minimises KL, which is s² + (μ − w0)² on
    average. Dziugaite & Roy descend on the bound here called `mcallester`.
    """
    inputs, examples = channels_last(sample.inputs.to(q.mean.dtype)), len(sample)
    rules = (
        RMSprop(q.mean, q.mean_gradient, descent.mean_rate),
        RMSprop(q.log_deviation, q.log_deviation_gradient, descent.log_deviation_rate),
    )
    for step in range(descent.steps):
        rows = batch(examples, descent.batch_size, rng)
        moved, own = q.mean - prior, (2 * q.log_deviation).exp()
        squares = own + moved.square()
        variance = min(float(squares.mean()), LARGEST_VARIANCE)
        complexity = divergence(squares, q.log_deviation, variance)
        budget = torch.tensor(maurer_budget(complexity, examples, delta), requires_grad=True)
        loss = cross_entropy(q.logits(inputs[rows], rng), sample.labels[rows]) / math.log(sample.classes)
        q.mean_gradient.zero_()
        q.log_deviation_gradient.zero_()
        quadratic(loss, budget).backward()  # type: ignore[no-untyped-call]
        assert budget.grad is not None
        price = float(budget.grad) / examples
        q.mean_gradient.add_(moved, alpha=price / variance)
        q.log_deviation_gradient.add_(own / variance - 1, alpha=price)
        for rule in rules:
            rule.step(1 - step / descent.steps)


def learned_mean(
    network: nn.Module, sample: Split, rng: torch.Generator, *, steps: int, batch_size: int, rate: float
) -> Float[Tensor, " p"]:
    """The parameters, float32, after a short training of a copy of the network on the cross-entropy, by RMSprop."""
    learner = copy.deepcopy(network).float().requires_grad_()
    values, gradients = flatten(learner)
    inputs, rule = channels_last(sample.inputs.to(values.dtype)), RMSprop(values, gradients, rate)
    for step in range(steps):
        rows = batch(len(sample), batch_size, rng)
        gradients.zero_()
        cross_entropy(learner(inputs[rows]), sample.labels[rows]).backward()  # type: ignore[no-untyped-call]
        rule.step(1 - step / steps)
    return values


def batch(examples: int, size: int, rng: torch.Generator) -> Tensor:
    """The rows of a batch drawn with replacement; all of them, in order, where there are no more than ``size``."""
    return torch.randint(examples, (size,), generator=rng) if size < examples else torch.arange(examples)


def flat(network: nn.Module) -> Float[Tensor, " p"]:
    """The parameters of a network as one vector, float32, in the order of `StochasticNetwork`."""
    return flatten(copy.deepcopy(network).float().requires_grad_())[0]


class RMSprop:
    """RMSprop (Tieleman & Hinton 2012) on one vector, its average of squares corrected for its start."""

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], rate: float) -> None:
        self.values, self.gradients, self.rate = values, gradients, rate
        self.squares, self.steps = torch.zeros_like(values), 0

    def step(self, fraction: float) -> None:
        """One step at this fraction of the rate."""
        self.steps += 1
        self.squares.mul_(FORGETTING).addcmul_(self.gradients, self.gradients, value=1 - FORGETTING)
        scale = (self.squares / (1 - FORGETTING**self.steps)).sqrt_().add_(1e-10)
        self.values.addcdiv_(self.gradients, scale, value=-self.rate * fraction)


def certified_error(
    q: StochasticNetwork,
    prior: Float[Tensor, " p"],
    sample: Split,
    rng: torch.Generator,
    *,
    draws: int,
    delta: float,
    delta_draws: float,
) -> Estimate:
    """An upper bound on the error of the stochastic classifier under the law of the sample.

    It holds with probability 1 − ``delta`` over the sample and 1 − ``delta_draws`` over ``rng``, for a prior mean that
    does not depend on this sample. Formula: the error of Q on the sample is at most `mean_of_draws_bound` of its mean
    over ``draws`` of the weights for each example, q̂; then ε <= kl⁻¹(q̂, (KL + ln(π²j²/6) + ln(2√m/δ))/m) for every
    prior variance c·e^(−j/b), of which the best is taken.
    The standard error is that over the draws, for the Q found.
    """
    wrong = q.wrong(sample, rng, draws)
    examples, mean = len(sample), float(wrong.double().mean())
    # Examples that share a draw count as one; the weight of a block in the mean is its share of all evaluations.
    independent = draws * examples / min(q.examples_a_draw, examples)
    empirical = mean_of_draws_bound(mean, independent, delta_draws)
    log_deviation = q.log_deviation.double()
    squares = (2 * log_deviation).exp() + (q.mean.double() - prior.double()).square()
    index = math.floor(PRECISION * math.log(LARGEST_VARIANCE / float(squares.mean())))
    budget = min(
        maurer_budget(divergence(squares, log_deviation, prior_variance(j)) + prior_cost(j), examples, delta)
        for j in (max(1, index), max(1, index + 1))
    )
    bound = inverse_kl(empirical, budget)
    error = mean_standard_error(wrong, q.examples_a_draw)
    return Estimate(bound, inverse_kl(min(1.0, empirical + error), budget) - bound)
