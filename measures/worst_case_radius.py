"""The sharpness measures of Jiang et al.: the box of weights within which an adversary can cost 0.1 of accuracy."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING

import torch

from gapbench.measures import ascent
from gapbench.measures.adversary import LARGEST_RADIUS, Adversary
from gapbench.measures.pac_bayes import gaussian_complexity, propagated
from gapbench.measures.perturbation import MAGNITUDE_FLOOR, TARGET_DROP, PerturbationScale
from gapbench.measures.registry import Estimate, measure, per_sample, quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from gapbench.datasets.spec import Split

FIRST_RADIUS = 0.003

COARSE, FINE = 0.03, 0.005
"""The relative precision of a radius: while the direction is sought, and in the end."""

MOST_ROUNDS = 10

DELTA = 0.05
"""The failure probability in the magnitude-aware form."""


@quantity(cost="iterative")
def worst_case_radius(evaluated_float32: nn.Module, train: Split) -> PerturbationScale:
    """The half-width α of the smallest box around all weights and biases that holds a loss of 0.1 of training accuracy.

    Formula: max over |u_i| ≤ α of accuracy(w) − accuracy(w + u) = 0.1, on the full training set; see `search_radius`.
    The maximum is sought by ascents of the loss, so α is an upper estimate. A published code descends the loss instead.
    """
    return search_radius(evaluated_float32, train, lambda radius, weights: torch.full_like(weights, radius))


@quantity(cost="iterative")
def worst_case_radius_magnitude(evaluated_float32: nn.Module, train: Split) -> PerturbationScale:
    """The relative half-width α' of such a box with sides in proportion to the weights.

    Formula: as `worst_case_radius`, with |u_i| ≤ α'(|w_i| + 1e-3). Jiang et al. have α'|w_i| + ε; a floor that does not
    shrink with α' costs the accuracy of a large network by itself, and then no α' has the wanted drop.
    """
    return search_radius(evaluated_float32, train, lambda radius, weights: radius * (weights.abs() + MAGNITUDE_FLOOR))


@measure(source="jiang2020, eq. 51", sign=+1)
def sharpness_init(
    worst_case_radius: PerturbationScale,
    evaluated_parameters: Tensor,
    evaluated_initial_parameters: Tensor,
    train: Split,
) -> Estimate:
    """Squared distance from initialisation over the worst-case noise the weights bear.

    Formula: ‖w − w0‖² ln(2ω)/(4α²) + ln(m/σ) + 10, ω parameters, α of `worst_case_radius`, σ = α/√ln(2ω), the Gaussian
    noise whose ‖·‖²/(4σ²) is the first term. The equation as recalled; it leaves σ to its reader.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at w0, so larger predicts a larger gap.
    """
    return gaussian_complexity(
        _gaussian_in(worst_case_radius, evaluated_parameters),
        evaluated_parameters - evaluated_initial_parameters,
        len(train),
    )


@measure(source="jiang2020, eq. 52", sign=+1)
def sharpness_orig(worst_case_radius: PerturbationScale, evaluated_parameters: Tensor, train: Split) -> Estimate:
    """Squared norm of the weights over the worst-case noise they bear.

    Formula: ‖w‖² ln(2ω)/(4α²) + ln(m/σ) + 10, as in `sharpness_init`.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at zero, so larger predicts a larger gap.
    """
    return gaussian_complexity(_gaussian_in(worst_case_radius, evaluated_parameters), evaluated_parameters, len(train))


@measure(source="jiang2020, eq. 54", sign=+1)
def sharpness_flatness(worst_case_radius: PerturbationScale) -> Estimate:
    """Inverse square of the worst-case noise the weights bear.

    Formula: 1/α², α of `worst_case_radius`.
    Sign: a sharper minimum needs a more precise, costlier posterior: larger predicts a larger gap.
    """
    return propagated(worst_case_radius, lambda a: a**-2)


@measure(source="jiang2020, eq. 58", sign=+1)
def sharpness_mag_init(
    worst_case_radius_magnitude: PerturbationScale,
    evaluated_parameters: Tensor,
    evaluated_initial_parameters: Tensor,
    train: Split,
) -> Estimate:
    """Magnitude-aware distance from initialisation in units of the worst-case noise the weights bear.

    Formula: ¼ Σ_i ln[(ε² + (α'² + 4 ln(2ω/δ))‖w−w0‖²/ω) / (ε² + α'²(w_i−w_i0)²)] + ln(m/α') + 10, ε = 1e-3, δ = 0.05,
    ω parameters, α' of `worst_case_radius_magnitude`. As recalled, and in a public code.
    Sign: it is the complexity term of a PAC-Bayes bound, so larger predicts a larger gap.
    """
    moved = evaluated_parameters - evaluated_initial_parameters
    return _magnitude_aware(worst_case_radius_magnitude, moved, moved, len(train))


@measure(source="jiang2020, eq. 59", sign=+1)
def sharpness_mag_orig(
    worst_case_radius_magnitude: PerturbationScale,
    evaluated_parameters: Tensor,
    evaluated_initial_parameters: Tensor,
    train: Split,
) -> Estimate:
    """Magnitude-aware norm of the weights in units of the worst-case noise they bear.

    Formula: as `sharpness_mag_init` with ‖w‖² in the numerator; the denominator keeps the distance from initialisation,
    as in `pacbayes_mag_orig`.
    Sign: it is the complexity term of a PAC-Bayes bound, so larger predicts a larger gap.
    """
    return _magnitude_aware(
        worst_case_radius_magnitude,
        evaluated_parameters,
        evaluated_parameters - evaluated_initial_parameters,
        len(train),
    )


@measure(source="jiang2020, eq. 62", sign=+1)
def sharpness_mag_flatness(worst_case_radius_magnitude: PerturbationScale) -> Estimate:
    """Inverse squared relative size of the worst-case noise the weights bear.

    Formula: 1/α'², α' of `worst_case_radius_magnitude`.
    Sign: a minimum that bears less relative noise needs a more precise posterior: larger predicts a larger gap.
    """
    return propagated(worst_case_radius_magnitude, lambda a: a**-2)


per_sample(sharpness_init)
per_sample(sharpness_orig)
per_sample(sharpness_flatness)
per_sample(sharpness_mag_init)
per_sample(sharpness_mag_orig)
per_sample(sharpness_mag_flatness)


def _gaussian_in(scale: PerturbationScale, parameters: Tensor) -> PerturbationScale:
    """The Gaussian noise that goes with a box: σ = α/√ln(2ω)."""
    return PerturbationScale(scale.sigma / math.sqrt(math.log(2 * len(parameters))), converged=scale.converged)


def _magnitude_aware(scale: PerturbationScale, displacement: Tensor, moved: Tensor, examples: int) -> Estimate:
    mean_square, squares, floor = displacement.square().mean(), moved.square(), MAGNITUDE_FLOOR**2
    spread = 4 * math.log(2 * len(moved) / DELTA)

    def formula(a: Tensor) -> Tensor:
        logarithms = (floor + (a**2 + spread) * mean_square).log() - (floor + a**2 * squares).log()
        return logarithms.sum() / 4 + math.log(examples) - a.log() + 10

    return propagated(scale, formula)


def search_radius(
    network: nn.Module, train: Split, half_widths: Callable[[float, Tensor], Tensor]
) -> PerturbationScale:
    """The radius at which the box with these half-widths around the weights holds a loss of `TARGET_DROP`.

    Of the corners of the box where gradients meet it (`Adversary.corners`), the one is taken along which the radius is
    smallest; then, in the box of that radius, the loss is ascended from that corner to another, along which it is
    smaller; and so on until it no longer shrinks. Nothing is drawn at random. ``converged`` is False where no radius up
    to `LARGEST_RADIUS` has the drop, or the radius still shrinks after `MOST_ROUNDS` ascents.
    The direction is sought on the first 128 examples if they are images; how far to go along it, on all.
    How high: on four perceptrons it was 1.02 to 1.2 times the smallest from ascents that start towards and away from
    each of ten classes.
    """
    whole = Adversary.of(network, train)
    few = whole.scout()

    def along(corner: Tensor) -> Callable[[float], Tensor]:
        return lambda radius: half_widths(radius, whole.weights) * corner

    starts = [(few.radius(along(corner), TARGET_DROP, FIRST_RADIUS, COARSE), corner) for corner in few.corners()]
    radius, corner = min(starts, key=itemgetter(0))
    still = False
    for _ in range(MOST_ROUNDS):
        top, _ = few.climb(corner, half_widths(radius, few.weights), ascent.COARSE)
        shorter = few.radius(along(top), TARGET_DROP, radius, COARSE)
        still = shorter > radius * (1 - COARSE)
        if shorter < radius:
            radius, corner = shorter, top
        if still:
            break
    radius = whole.radius(along(corner), TARGET_DROP, radius, FINE)
    return PerturbationScale(radius, converged=still and radius < LARGEST_RADIUS)
