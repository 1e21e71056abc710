"""Kendall sums: pairs of runs, the signs of their differences, and what the signs add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Signs = NDArray[np.float32]
Indices = NDArray[np.int64]
Array = TypeVar("Array", Floats, Signs)

BLOCK = 1 << 22
"""Entries of the largest temporary array; 16 MiB of single precision."""


def dense_ranks(values: Floats) -> Signs:
    """Each column's values replaced by their ranks, ties equal, NaN kept; exact in single precision to 2^24 values."""
    ranks = np.full(values.shape, np.nan, np.float32)
    for column in range(values.shape[1]):
        present = ~np.isnan(values[:, column])
        ranks[present, column] = np.unique(values[present, column], return_inverse=True)[1]
    return ranks


def settled(values: Floats, digits: int = 12) -> Floats:
    """The values in units of the largest magnitude, rounded, so that rounding error makes no order among equal ones.

    For differences of numbers of about that magnitude, as gaps are.
    """
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    return np.round(values / largest, digits) if largest > 0 else values


def significant(values: Floats) -> Floats:
    """Each value rounded to 40 binary digits of its own (relative 1e-12), for values of any range."""
    mantissa, exponent = np.frexp(values)
    rounded: Floats = np.ldexp(np.round(np.ldexp(mantissa, 40)), exponent - 40)
    return rounded


def signs(values: Array, first: Indices, second: Indices) -> Array:
    """sgn(value of first − value of second), (pairs, columns); 0 for ties and where either is NaN."""
    difference = values[first]
    difference -= values[second]
    np.sign(difference, out=difference)
    if np.isnan(values).any():
        difference[np.isnan(difference)] = 0.0
    return difference


def pair_blocks(members: Indices, size: int) -> Iterator[tuple[Indices, Indices]]:
    """Every unordered pair of the members once, in blocks of about ``size`` pairs."""
    n = len(members)
    rows = max(1, size // max(n, 1))
    for start in range(0, n - 1, rows):
        above = np.arange(n)[None, :] > np.arange(start, min(start + rows, n - 1))[:, None]
        first, second = np.nonzero(above)
        yield members[first + start], members[second]


@dataclass(frozen=True)
class KendallSums:
    """Over the unordered pairs of a set of runs: concordant less discordant, untied in x, untied in y, and all.

    Arrays (measures, replicates), or broadcastable to it.
    """

    concordance: Floats
    untied_x: Floats
    untied_y: Floats
    pairs: Floats

    def tau_a(self) -> Floats:
        """concordance / pairs; NaN without pairs."""
        return ratio(self.concordance, self.pairs)

    def tau_b(self) -> Floats:
        """concordance / √(untied_x · untied_y); NaN where x or y is constant."""
        return ratio(self.concordance, np.sqrt(self.untied_x * self.untied_y))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, NaN where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    out = np.full(shape, np.nan)
    np.divide(numerator, denominator, out=out, where=np.broadcast_to(denominator > 0, shape))
    return out


def kendall_sums(x: Signs, y: Signs, members: Indices) -> KendallSums:
    """The Kendall sums of each column of x (runs, measures) with each column of y (runs, replicates), by ranks.

    A pair counts where both runs have a value of x and of y (no NaN). One matrix product a block of pairs: exact, since
    a block's sums stay below 2^24.
    """
    measures, replicates = x.shape[1], y.shape[1]
    gaps_in_x, gaps_in_y = bool(np.isnan(x[members]).any()), bool(np.isnan(y[members]).any())
    concordance = np.zeros((measures, replicates))
    untied_x = np.zeros((measures, replicates if gaps_in_y else 1))
    untied_y = np.zeros((measures if gaps_in_x else 1, replicates))
    pairs = np.zeros((untied_y.shape[0], untied_x.shape[1]))
    for first, second in pair_blocks(members, max(1, BLOCK // max(replicates, measures))):
        x_signs, y_signs = signs(x, first, second), signs(y, first, second)
        x_valid = _valid(x, first, second) if gaps_in_x else np.ones((len(first), 1), np.float32)
        y_valid = _valid(y, first, second) if gaps_in_y else np.ones((len(first), 1), np.float32)
        concordance += x_signs.T @ y_signs
        untied_x += np.abs(x_signs, out=x_signs).T @ y_valid
        untied_y += x_valid.T @ np.abs(y_signs, out=y_signs)
        pairs += x_valid.T @ y_valid
    return KendallSums(concordance, untied_x, untied_y, pairs)


def _valid(values: Signs, first: Indices, second: Indices) -> Signs:
    present = ~np.isnan(values)
    return (present[first] & present[second]).astype(np.float32)


def by_recipe_pair(first: Indices, second: Indices, weights: Floats | None, recipes: int) -> Floats:
    """The weights of pairs of recipes added up: (recipes, recipes), on and above the diagonal."""
    code = np.minimum(first, second) * recipes + np.maximum(first, second)
    return np.bincount(code, weights, minlength=recipes * recipes).reshape(recipes, recipes).astype(np.float64)
