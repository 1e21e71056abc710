"""Linear regression with a random effect of the group, by restricted maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from gapbench.evaluate.statistics.pairs import Floats, Indices

_RATIOS = np.concatenate([[0.0], np.logspace(-6, 6, 37)])
"""Where the likelihood is looked at first: it may have more than one maximum."""


@dataclass(frozen=True)
class RandomIntercept:
    """``coefficients`` (columns,) with their ``errors``; ``ratio``: the variance of a group's effect over a run's."""

    coefficients: Floats
    errors: Floats
    ratio: float


def random_intercept(response: Floats, matrix: Floats, groups: Indices) -> RandomIntercept:
    """The fit of response = matrix · β + u[group] + e, with u and e normal.

    Formula: with θ = Var u / Var e and V = I + θ J (J: 1 where two runs share the group), β = (X'V⁻¹X)⁻¹ X'V⁻¹ y and θ
    minimises Σ_g log(1 + θ n_g) + (n − p) log r'V⁻¹r + log |X'V⁻¹X|, all from sums over groups, for V⁻¹ = I −
    θ / (1 + θ n_g) J. Errors: of the inverse observed information of β and θ with Var e profiled out, as statsmodels';
    where θ is 0, of β alone.

    ``response`` (runs,); ``matrix`` (runs, columns) of full rank, fewer columns than runs; ``groups`` (runs,) from 0.
    Raises: LinAlgError where the matrix has no full rank or nothing is left to explain.
    Source: Laird & Ware 1982; the information as Lindstrom & Bates 1988.
    """
    n, p = matrix.shape
    sizes = np.bincount(groups).astype(np.float64)
    columns = np.column_stack([matrix, response])
    sums = np.zeros((len(sizes), p + 1))
    np.add.at(sums, groups, columns)
    squares = columns.T @ columns

    def products(weights: Floats) -> Floats:
        return np.asarray((sums * weights[:, None]).T @ sums)

    def at(ratio: float) -> tuple[float, Floats, Floats]:
        """The criterion, the coefficients and [X y]'V⁻¹[X y]."""
        inner = squares - products(ratio / (1 + ratio * sizes))
        beta: Floats = np.linalg.solve(inner[:p, :p], inner[:p, p]).astype(np.float64)
        left = float(inner[p, p] - inner[:p, p] @ beta)
        if left <= 0:
            raise np.linalg.LinAlgError("nothing is left to explain")
        determinant = float(np.linalg.slogdet(inner[:p, :p])[1])
        value = float(np.log1p(ratio * sizes).sum()) + (n - p) * math.log(left) + determinant
        return value, beta, inner

    values = [at(ratio)[0] for ratio in _RATIOS]
    best = int(np.argmin(values))
    ratio = float(_RATIOS[best])
    bounds = _RATIOS[max(best - 1, 0)], _RATIOS[min(best + 1, len(_RATIOS) - 1)]
    found = scipy.optimize.minimize_scalar(
        lambda log: at(math.exp(log))[0],
        bounds=(math.log(max(bounds[0], 1e-9)), math.log(bounds[1])),
        method="bounded",
        options={"xatol": 1e-10},
    )
    if found.fun < values[best]:
        ratio = math.exp(float(found.x))
    _, beta, inner = at(ratio)
    residual = np.append(-beta, 1.0)
    scale = float(residual @ inner @ residual) / (n - p)
    information = np.zeros((p + 1, p + 1))
    information[:p, :p] = inner[:p, :p] / scale
    if ratio == 0.0:
        return RandomIntercept(beta, np.sqrt(np.diagonal(np.linalg.inv(information[:p, :p]))), ratio)
    spread = 1 + ratio * sizes
    first, second = -products(spread**-2), 2 * products(sizes * spread**-3)
    change, curvature = (float(residual @ part @ residual) / scale for part in (first, second))
    solved_first, solved_second = (np.linalg.solve(inner[:p, :p], part[:p, :p]) for part in (first, second))
    information[:p, p] = information[p, :p] = -(first @ residual)[:p] / scale
    information[p, p] = (
        -float(((sizes / spread) ** 2).sum())
        + curvature
        - change**2 / (n - p)
        + float(np.trace(solved_second) - np.trace(solved_first @ solved_first))
    ) / 2
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diagonal(np.linalg.inv(information))[:p])
    return RandomIntercept(beta, errors, ratio)
