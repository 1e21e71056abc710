"""Double descent in closed form: least squares on some of many Gaussian features (Belkin, Hsu & Xu 2020).

y = ⟨β, x⟩ + σε with x standard Gaussian in R^D; the estimate sees p features, a random set T, and is the one of least
norm among those of least squares, or has the ridge that is best for the law. All risks are exact sums, no test set.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy
from numpy.typing import NDArray

from gapbench.datasets.regression import LinearModel, random_features
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.phenomenon import Row

Array = NDArray[numpy.float64]

TOTAL = 200
NOISE_STD = 0.5


def model() -> LinearModel:
    """The law: D = `TOTAL` features of unit variance, ‖β‖ = 1 spread evenly, noise of deviation `NOISE_STD`."""
    return LinearModel(numpy.ones(TOTAL), numpy.full(TOTAL, TOTAL**-0.5), NOISE_STD)


def ridgeless_risk(n: int, p: int, signal: float, rest: float) -> float:
    """The expected risk E(y − ⟨β̂, x⟩)² of the least-norm estimate from n examples of p Gaussian features.

    Formula, with ``signal`` S = ‖β_T‖² and ``rest`` R = ‖β_{T^c}‖² + σ²: R (1 + p/(n − p − 1)) for p ≤ n − 2,
    S (1 − n/p) + R (1 + n/(p − n − 1)) for p ≥ n + 2, infinite between.
    Source: Belkin, Hsu & Xu 2020, theorem 1 (arXiv:1903.07571).
    """
    if p <= n - 2:
        return rest * (1 + p / (n - p - 1))
    if p >= n + 2:
        return signal * (1 - n / p) + rest * (1 + n / (p - n - 1))
    return float("inf")


def best_ridge(p: int, signal: float, rest: float) -> float:
    """The λ in (XᵀX + λI)⁻¹Xᵀy that is best for a β_T of random direction: p R / S, noise over signal a feature."""
    return p * rest / signal


def estimates(x: Array, y: Array, ridge: float) -> tuple[Array, Array]:
    """The least-norm least-squares estimate and that with a ridge λ, from one singular value decomposition."""
    u, s, vt = numpy.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    kept = s > s.max() * 1e-12
    least_norm = vt.T @ numpy.where(kept, projected / numpy.where(kept, s, 1.0), 0.0)
    return least_norm, vt.T @ (s / (s**2 + ridge) * projected)


def sweep(pairs: list[tuple[int, int]], seed: int, bench: Bench) -> Iterator[Row]:
    """The exact risks at each (n, p) of one replicate: the samples, and the sets of features, are nested."""
    law = model()
    for n, p in pairs:
        sample, seen = random_features(law, n, p, bench.rng("weak features", seed))
        signal, rest = p / TOTAL, 1 - p / TOTAL + NOISE_STD**2
        found = estimates(sample.inputs, sample.targets, best_ridge(p, signal, rest))
        risks = []
        for estimate in found:
            full = numpy.zeros(TOTAL)
            full[seen] = estimate
            risks.append(law.excess_risk(full) + NOISE_STD**2)
        closed = ridgeless_risk(n, p, signal, rest)
        yield {"n": n, "p": p, "risk": risks[0], "ridge_risk": risks[1], "closed_form": closed}


def backtracking(curve: Array) -> float:
    """The sum of all rises of a curve over its span, largest less smallest: 0 for one that only falls."""
    return float(numpy.maximum(numpy.diff(curve), 0).sum() / numpy.ptp(curve))
