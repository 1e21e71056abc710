"""PAC-Bayes measures of Jiang et al.: how far the weights are from their start, in units of the noise they bear."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from gapbench.measures.perturbation import MAGNITUDE_FLOOR, PerturbationScale
from gapbench.measures.registry import Estimate, measure, per_sample

if TYPE_CHECKING:
    from torch import Tensor

    from gapbench.datasets.spec import Split


@measure(source="jiang2020, eq. 48", sign=+1)
def pacbayes_init(
    sigma: PerturbationScale, evaluated_parameters: Tensor, evaluated_initial_parameters: Tensor, train: Split
) -> Estimate:
    """Squared distance from initialisation over the noise the weights bear.

    Formula: ‖w − w0‖²/(4σ²) + ln(m/σ) + 10, all parameters, σ of `sigma`.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at w0, so larger predicts a larger gap.
    """
    return gaussian_complexity(sigma, evaluated_parameters - evaluated_initial_parameters, len(train))


per_sample(pacbayes_init)


@measure(source="jiang2020, eq. 49", sign=+1)
def pacbayes_orig(sigma: PerturbationScale, evaluated_parameters: Tensor, train: Split) -> Estimate:
    """Squared norm of the weights over the noise they bear.

    Formula: ‖w‖²/(4σ²) + ln(m/σ) + 10, all parameters, σ of `sigma`.
    Sign: it is the complexity term of a PAC-Bayes bound with a prior at zero, so larger predicts a larger gap.
    """
    return gaussian_complexity(sigma, evaluated_parameters, len(train))


per_sample(pacbayes_orig)


@measure(source="jiang2020, eq. 53", sign=+1)
def pacbayes_flatness(sigma: PerturbationScale) -> Estimate:
    """Inverse variance of the noise the weights bear.

    Formula: 1/σ², σ of `sigma`.
    Sign: a sharper minimum bears less noise and needs a more precise, costlier posterior: larger predicts a larger gap.
    """
    return propagated(sigma, lambda s: s**-2)


@measure(source="jiang2020, eq. 56", sign=+1)
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


@measure(source="jiang2020, eq. 57", sign=+1)
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


@measure(source="jiang2020, eq. 61", sign=+1)
def pacbayes_mag_flatness(sigma_magnitude: PerturbationScale) -> Estimate:
    """Inverse squared relative size of the noise the weights bear.

    Formula: 1/σ'², σ' of `sigma_magnitude`.
    Sign: a minimum that bears less relative noise needs a more precise posterior: larger predicts a larger gap.
    """
    return propagated(sigma_magnitude, lambda s: s**-2)


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
