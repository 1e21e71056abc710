"""PAC-Bayes measures: how far the weights are from their start, in units of the noise they bear; and proven bounds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from gapbench.datasets.spec import Split
from gapbench.measures.bounds import inverse_kl, maurer_budget
from gapbench.measures.label_probability import arc_cosine_kernel, log_label_probability
from gapbench.measures.layers import Layer
from gapbench.measures.perturbation import MAGNITUDE_FLOOR, PerturbationScale
from gapbench.measures.registry import Estimate, Undefined, measure, per_sample
from gapbench.measures.stochastic import Descent, StochasticNetwork, certified_error, fit, flat, learned_mean
from gapbench.measures.weight_code import compress

if TYPE_CHECKING:
    from torch import Tensor, nn


@measure(source="jiang2020, eq. 48", sign=+1, revision=3)
def pacbayes_init(
    sigma: PerturbationScale, evaluated_parameters: Tensor, evaluated_initial_parameters: Tensor, train: Split
) -> Estimate:
    """Squared distance from initialisation over the noise the weights bear.

    Formula: ‖w − w0‖²/(4σ²) + ln(m/σ) + 10, all parameters, σ of `sigma`.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at w0, so larger predicts a larger gap.
    """
    return gaussian_complexity(sigma, evaluated_parameters - evaluated_initial_parameters, len(train))


per_sample(pacbayes_init)


@measure(source="jiang2020, eq. 49", sign=+1, revision=3)
def pacbayes_orig(sigma: PerturbationScale, evaluated_parameters: Tensor, train: Split) -> Estimate:
    """Squared norm of the weights over the noise they bear.

    Formula: ‖w‖²/(4σ²) + ln(m/σ) + 10, all parameters, σ of `sigma`.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at zero, so larger predicts a larger gap.
    """
    return gaussian_complexity(sigma, evaluated_parameters, len(train))


per_sample(pacbayes_orig)


@measure(source="jiang2020, eq. 53", sign=+1, revision=3)
def pacbayes_flatness(sigma: PerturbationScale) -> Estimate:
    """Inverse variance of the noise the weights bear.

    Formula: 1/σ², σ of `sigma`.
    Sign: a sharper minimum bears less noise and needs a more precise, costlier posterior: larger predicts a larger gap.
    """
    return propagated(sigma, lambda s: s**-2)


@measure(source="jiang2020, eq. 56", sign=+1, revision=3)
def pacbayes_mag_init(
    sigma_magnitude: PerturbationScale, evaluated_parameters: Tensor, evaluated_initial_parameters: Tensor, train: Split
) -> Estimate:
    """Magnitude-aware distance from initialisation in units of the noise the weights bear.

    Formula: ¼ Σ_i ln[(ε² + (σ'²+1)‖w−w0‖²/ω) / (ε² + σ'²(w_i−w_i0)²)] + ln(m/σ') + 10, ε = 1e-3, ω parameters, σ' of
    `sigma_magnitude`.
    Sign: it is the complexity term of a PAC-Bayes bound, so larger predicts a larger gap.
    """
    moved = evaluated_parameters - evaluated_initial_parameters
    return _magnitude_aware(sigma_magnitude, moved, moved, len(train))


per_sample(pacbayes_mag_init)


@measure(source="jiang2020, eq. 57", sign=+1, revision=3)
def pacbayes_mag_orig(
    sigma_magnitude: PerturbationScale, evaluated_parameters: Tensor, evaluated_initial_parameters: Tensor, train: Split
) -> Estimate:
    """Magnitude-aware norm of the weights in units of the noise they bear.

    Formula: ¼ Σ_i ln[(ε² + (σ'²+1)‖w‖²/ω) / (ε² + σ'²(w_i−w_i0)²)] + ln(m/σ') + 10, ε = 1e-3, ω parameters, σ' of
    `sigma_magnitude`. As in the code of dziugaite2020, the denominator has the distance from initialisation.
    Sign: it is the complexity term of a PAC-Bayes bound, so larger predicts a larger gap.
    """
    return _magnitude_aware(
        sigma_magnitude, evaluated_parameters, evaluated_parameters - evaluated_initial_parameters, len(train)
    )


per_sample(pacbayes_mag_orig)


@measure(source="jiang2020, eq. 61", sign=+1, revision=3)
def pacbayes_mag_flatness(sigma_magnitude: PerturbationScale) -> Estimate:
    """Inverse squared relative size of the noise the weights bear.

    Formula: 1/σ'², σ' of `sigma_magnitude`.
    Sign: a minimum that bears less relative noise needs a more precise posterior: larger predicts a larger gap.
    """
    return propagated(sigma_magnitude, lambda s: s**-2)


BATCH_SIZE, SHARED_BATCH_SIZE = 256, 16
"""Examples a step of a descent, and where examples share draws of the weights, as they do in convolutions."""

NOISY_EVALUATIONS = 2048
"""The error of a stochastic classifier is estimated from at least this many pairs of an example and a draw."""


@measure(source="dziugaite2017, section 4", sign=+1, bound=True, cost="iterative", revision=2)
def dziugaite_roy(
    folded_float32: nn.Module,
    folded_initial: nn.Module,
    train: Split,
    rng: torch.Generator,
    *,
    steps: int = 50,
    mean_rate: float = 0.02,
    log_deviation_rate: float = 0.05,
    delta: float = 0.04,
    delta_draws: float = 0.01,
) -> Estimate:
    """Dziugaite & Roy's bound on the test error of a stochastic classifier fitted around the trained weights.

    The classifier draws all its weights from Q = N(μ, diag s²), found by a descent on the bound that starts at the
    trained weights (`stochastic.fit`); the prior is N(w0, λI) at the initialisation, λ = 0.1·e^(−j/100) for any j >= 1.
    Formula: kl⁻¹(q̂, (KL(Q‖P) + ln(π²j²/6) + ln(2√m/δ))/m), the PAC-Bayes-kl bound in Maurer's proven form (the paper
    has ln(mπ²j²/(6δ)) over m − 1), q̂ the upper confidence limit δ' of the training error of Q over fresh draws of the
    weights (`stochastic.certified_error`).
    It bounds, with probability 1 − δ − δ' and however good the descent, the error of that stochastic classifier under
    the law of the training labels, and so its gap; of the trained network itself it bounds neither. ``steps`` is short
    here: a long descent bounds better (benchmarks/dziugaite_roy.py).
    Raises: Undefined where a batch norm cannot be folded. Sign: it is the bound itself.
    """
    q = StochasticNetwork(folded_float32, train.inputs[:1], deviation=0.03)
    prior = flat(folded_initial)
    fit(q, prior, train, rng, Descent(steps, _batch_size(q), mean_rate, log_deviation_rate), delta)
    return certified_error(q, prior, train, rng, draws=_draws(train), delta=delta, delta_draws=delta_draws)


@measure(source="dziugaite2021, data-dependent priors", sign=+1, bound=True, cost="iterative", revision=2)
def dziugaite_roy_data_prior(
    folded_float32: nn.Module,
    folded_initial: nn.Module,
    train: Split,
    rng: torch.Generator,
    *,
    prior_steps: int = 30,
    prior_rate: float = 0.003,
    steps: int = 40,
    mean_rate: float = 0.02,
    log_deviation_rate: float = 0.05,
    delta: float = 0.04,
    delta_draws: float = 0.01,
) -> Estimate:
    """The bound of `dziugaite_roy` with a prior learnt on the first half of the sample, on the other half.

    The prior mean is what ``prior_steps`` of RMSprop on the first half make of the initial weights (of the folded
    network); Q, started at the trained weights, may look at everything, but its training error, KL and m are those of
    the second half, of which the prior is independent. It bounds what `dziugaite_roy` bounds, with the same confidence.
    Dziugaite et al. take the prior of a coupled run of the training itself (as recalled).
    Raises: Undefined where there are fewer than two training examples. Sign: it is the bound itself.
    """
    half = len(train) // 2
    if half == 0:
        raise Undefined(f"a prior learnt on half of the sample needs two training examples, not {len(train)}")
    first = Split(train.inputs[:half], train.labels[:half], train.classes)
    second = Split(train.inputs[half:], train.labels[half:], train.classes)
    q = StochasticNetwork(folded_float32, train.inputs[:1], deviation=0.01)
    prior = learned_mean(folded_initial, first, rng, steps=prior_steps, batch_size=_batch_size(q), rate=prior_rate)
    fit(q, prior, second, rng, Descent(steps, _batch_size(q), mean_rate, log_deviation_rate), delta)
    return certified_error(q, prior, second, rng, draws=_draws(second), delta=delta, delta_draws=delta_draws)


@measure(
    source="zhou2019",
    sign=+1,
    bound=True,
    cost="iterative",
    invariances=("unit_permutation",),
)
def compression_bound(
    folded_float32: nn.Module, folded_initial: nn.Module, train: Split, *, delta: float = 0.05
) -> float:
    """The bound on the test error of the network after pruning, quantising and coding what training did to its weights.

    Formula: kl⁻¹(train error of the compressed network, (bits·ln 2 + ln(1/δ))/m), the best of a grid of sparsities and
    numbers of values (sought on the first 128 examples); `weight_code` has the code, which counts positions, values
    and their order. The paper codes the weights, adds noise to them, and prunes while it trains; here the
    displacements from the initial weights are coded, which the decoder may know, and nothing is trained again; the
    classifier is deterministic, so the bound is Occam's, with Chernoff's inequality, rather than PAC-Bayes (as
    recalled).
    It bounds the error of the compressed network, under the law of the training labels, with probability 1 − δ; of the
    trained network itself it bounds nothing. Raises: Undefined where a batch norm cannot be folded.
    Sign: it is the bound itself.
    """
    return compress(folded_float32, copy.deepcopy(folded_initial).float(), train, delta).bound


@measure(source="valleperez2020, PAC-Bayes marginal-likelihood bound", sign=+1, bound=True, cost="iterative")
def gp_marginal_likelihood(
    layers: tuple[Layer, ...],
    train: Split,
    rng: torch.Generator,
    *,
    examples: int = 256,
    particles: int = 128,
    runs: int = 4,
    delta: float = 0.04,
    delta_draws: float = 0.01,
) -> Estimate:
    """The bound on the test error of an infinitely wide network drawn at random until it fits the training labels.

    Formula: 1 − exp(−(ln(1/P(S)) + ln(2√n/δ))/n), the PAC-Bayes-kl bound (Maurer's form; the paper's ends in ln n over
    n − 1, as recalled) of the prior given that it has the labels of S, the first n training examples, at most
    ``examples``, whose KL is ln(1/P(S)). The prior: C independent Gaussian processes, the largest of which is
    predicted, with the `arc_cosine_kernel` of as many hidden layers as the network has, whatever its activation.
    P(S) has no closed form: P̂, an unbiased estimate by ``runs`` runs of `log_label_probability`, is at most P(S)/δ'
    with probability 1 − δ' (Markov), so ln(1/P̂) + ln(1/δ') stands for ln(1/P(S)). P̂ is mostly far below P(S), which
    makes the bound looser, not wrong; more ``particles`` tighten it. The paper approximates P(S) by expectation
    propagation. Of the trained network it uses the depth and the sample: it bounds the error of the random network.
    Raises: Undefined where a layer is not linear (the kernel is that of fully connected networks), or an input is zero.
    Sign: it is the bound itself.
    """
    if any(layer.is_convolution for layer in layers):
        raise Undefined("the kernel is that of a fully connected network, and this one has convolutions")
    points, labels = train.inputs[:examples].flatten(1), train.labels[:examples]
    if not bool(points.any(dim=1).all()):
        raise Undefined("an input is zero, where every network without biases is zero")
    kernel = arc_cosine_kernel(points, len(layers) - 1)
    found = torch.tensor(
        [log_label_probability(kernel, labels, train.classes, rng, particles) for _ in range(runs)], dtype=kernel.dtype
    )
    complexity = math.log(runs) - float(found.logsumexp(dim=0)) + math.log(1 / delta_draws)
    bound = inverse_kl(0.0, maurer_budget(max(0.0, complexity), len(labels), delta))
    error = float(found.std()) / math.sqrt(runs) if runs > 1 else 0.0
    return Estimate(bound, (1 - bound) * error / len(labels))


def _batch_size(q: StochasticNetwork) -> int:
    return BATCH_SIZE if q.noisy.examples_a_draw == 1 else SHARED_BATCH_SIZE


def _draws(sample: Split) -> int:
    return max(2, math.ceil(NOISY_EVALUATIONS / len(sample)))


def propagated(scale: PerturbationScale, formula: Callable[[Tensor], Tensor]) -> Estimate:
    """A smooth function of σ with its standard error by the delta method, |formula'(σ)| · SE(σ)."""
    at = torch.tensor(scale.sigma, dtype=torch.float64, requires_grad=True)
    result = formula(at)
    slope = float(torch.autograd.grad(result, at)[0])
    return Estimate(float(result.detach()), abs(slope) * scale.standard_error, scale.converged)


def gaussian_complexity(scale: PerturbationScale, displacement: Tensor, examples: int) -> Estimate:
    """‖displacement‖²/(4σ²) + ln(m/σ) + 10 with its standard error."""
    square = displacement.square().sum()
    return propagated(scale, lambda s: square / (4 * s**2) + math.log(examples) - s.log() + 10)


def _magnitude_aware(scale: PerturbationScale, displacement: Tensor, moved: Tensor, examples: int) -> Estimate:
    mean_square, squares, floor = displacement.square().mean(), moved.square(), MAGNITUDE_FLOOR**2

    def formula(s: Tensor) -> Tensor:
        logarithms = (floor + (s**2 + 1) * mean_square).log() - (floor + s**2 * squares).log()
        return logarithms.sum() / 4 + math.log(examples) - s.log() + 10

    return propagated(scale, formula)
