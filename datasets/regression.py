"""Regression from a known Gaussian law, so that the risk of a linear estimate is a sum and needs no test set.

The targets are real numbers, which a `Split` does not hold: these are samples for linear estimators and kernels, not
data sets that a network of a zoo is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from jaxtyping import Float
from numpy.random import Generator
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError

Array = NDArray[numpy.float64]


@dataclass(frozen=True)
class Regression:
    """A sample: inputs (n, d) and targets (n,), float64."""

    inputs: Array
    targets: Array


@dataclass(frozen=True)
class LinearModel:
    """x = √λ ∘ z, z standard Gaussian in R^d; y = ⟨β, x⟩ + noise_std ε, ε standard Gaussian.

    ``spectrum`` λ (d,): the eigenvalues of the covariance, which is diagonal; ``coefficients`` β (d,).
    Raises: InputError where the two differ in length, or an eigenvalue or the noise is negative.
    """

    spectrum: Array
    coefficients: Array
    noise_std: float

    def __post_init__(self) -> None:
        if self.spectrum.shape != self.coefficients.shape or self.spectrum.ndim != 1:
            raise InputError(
                f"linear_regression: a spectrum of shape {self.spectrum.shape} needs as many coefficients, "
                f"not {self.coefficients.shape}"
            )
        if (self.spectrum < 0).any() or self.noise_std < 0:
            raise InputError("linear_regression: eigenvalues and noise_std are at least 0")

    def excess_risk(self, estimate: Float[numpy.ndarray, " d"]) -> float:
        """E(⟨β̂ − β, x⟩²) = Σ_i λ_i (β̂_i − β_i)²: the risk above that of the true coefficients, exactly."""
        return float(self.spectrum @ (estimate - self.coefficients) ** 2)


def linear_regression(model: LinearModel, size: int, generator: Generator) -> Regression:
    """``size`` examples of a linear model; a smaller sample of a generator in the same state begins a larger one."""
    # One row an example, its noise last, so that the draws of an example do not depend on the size.
    draws = generator.standard_normal((size, len(model.spectrum) + 1))
    inputs = draws[:, :-1] * numpy.sqrt(model.spectrum)
    return Regression(inputs, inputs @ model.coefficients + model.noise_std * draws[:, -1])


def random_features(
    model: LinearModel, size: int, features: int, generator: Generator
) -> tuple[Regression, NDArray[numpy.int64]]:
    """A sample of a linear model of which only ``features`` features, drawn without replacement, are seen; which ones.

    The set is the beginning of a random permutation, so fewer features of a generator in the same state are a part of
    more. What is not seen acts as noise, and the risk first falls with more features, then diverges where there are as
    many as examples, then falls again: Belkin, Hsu & Xu 2020 (arXiv:1903.07571) in closed form.
    Raises: InputError where there are not so many features.
    """
    if not 1 <= features <= len(model.spectrum):
        raise InputError(f"random_features: {features} of {len(model.spectrum)} features cannot be drawn")
    seen = generator.permutation(len(model.spectrum))[:features]
    sample = linear_regression(model, size, generator)
    return Regression(sample.inputs[:, seen], sample.targets), seen
