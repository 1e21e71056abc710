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

SORTED = 3000
"""From so many runs on, sorting takes less time than a product of the signs of all pairs."""

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


def rank_signs(ranks: Signs, rows: slice, out: Signs) -> Signs:
    """sgn(rank of a row − rank of each later row) for a block of rows, into ``out``: (pairs, columns); NaN kept.

    ``ranks`` (runs, columns): as `dense_ranks`. Whole numbers differ by at least 1, so that clipping takes the sign, in
    a quarter of the time.
    """
    at = 0
    for row in range(rows.start, rows.stop):
        later = out[at : at + len(ranks) - row - 1]
        np.subtract(ranks[row], ranks[row + 1 :], out=later)
        at += len(later)
    return np.clip(out[:at], -1.0, 1.0, out=out[:at])


def row_blocks(runs: int, size: int) -> Iterator[slice]:
    """The runs but the last in blocks, so that a block's rows stand before at most about ``size`` rows together."""
    rows = max(1, size // max(runs, 1))
    for start in range(0, runs - 1, rows):
        yield slice(start, min(start + rows, runs - 1))


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
    a block's sums stay below 2^24. From `SORTED` runs on by sorting, in time n log n.
    """
    x, y = x[members], y[members]
    runs, measures, replicates = len(members), x.shape[1], y.shape[1]
    gaps_in_x, gaps_in_y = bool(np.isnan(x).any()), bool(np.isnan(y).any())
    if runs >= SORTED:
        return _sorted_kendall_sums(x, y)
    concordance = np.zeros((measures, replicates))
    untied_x = np.zeros((measures, replicates if gaps_in_y else 1))
    untied_y = np.zeros((measures if gaps_in_x else 1, replicates))
    pairs = np.zeros((untied_y.shape[0], untied_x.shape[1]))
    size = max(1, BLOCK // max(replicates, measures, 1))
    room = max(size, runs)
    x_room, y_room = np.empty((room, measures), np.float32), np.empty((room, replicates), np.float32)
    for rows in row_blocks(runs, size):
        x_signs, y_signs = rank_signs(x, rows, x_room), rank_signs(y, rows, y_room)
        x_valid = _valid(x_signs) if gaps_in_x else np.ones((len(x_signs), 1), np.float32)
        y_valid = _valid(y_signs) if gaps_in_y else np.ones((len(y_signs), 1), np.float32)
        concordance += x_signs.T @ y_signs
        untied_x += np.abs(x_signs, out=x_signs).T @ y_valid
        untied_y += x_valid.T @ np.abs(y_signs, out=y_signs)
        pairs += x_valid.T @ y_valid
    return KendallSums(concordance, untied_x, untied_y, pairs)


def _sorted_kendall_sums(x: Signs, y: Signs) -> KendallSums:
    from gapbench.evaluate.statistics.discordance import discordant_and_tied

    concordance, untied_x, untied_y, pairs = np.zeros((4, x.shape[1], y.shape[1]))
    for measures, with_x in _by_presence(x):
        for replicates, with_y in _by_presence(y):
            both, cell = with_x & with_y, np.ix_(measures, replicates)
            gaps = y[np.ix_(both, replicates)]
            pairs[cell] = both.sum() * (both.sum() - 1) / 2
            untied_y[cell] = [distinct_pairs(gap) for gap in gaps.T]
            for measure in measures:
                values = x[both, measure]
                discordant, tied = discordant_and_tied(values, gaps)
                untied_x[measure, replicates] = untied = distinct_pairs(values)
                untied_in_both = untied + untied_y[measure, replicates] - pairs[measure, replicates] + tied
                concordance[measure, replicates] = untied_in_both - 2 * discordant
    columns = slice(None) if np.isnan(y).any() else slice(1)
    rows = slice(None) if np.isnan(x).any() else slice(1)
    return KendallSums(concordance, untied_x[:, columns], untied_y[rows], pairs[rows, columns])


def _by_presence(values: Signs) -> list[tuple[Indices, NDArray[np.bool_]]]:
    """The columns that have a value, not NaN, in the same rows, and these rows."""
    present = ~np.isnan(values)
    found: dict[bytes, list[int]] = {}
    for column, rows in enumerate(present.T):
        found.setdefault(rows.tobytes(), []).append(column)
    return [(np.array(columns), present[:, columns[0]]) for columns in found.values()]


def distinct_pairs(values: Floats | Signs) -> float:
    """How many unordered pairs of the values differ."""
    n = len(values)
    sizes = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((n * n - (sizes**2).sum()) / 2)


def _valid(signs: Signs) -> Signs:
    """1 where there is a sign and 0 where there is NaN, which becomes 0 in ``signs``."""
    missing = np.isnan(signs)
    signs[missing] = 0.0
    return (~missing).astype(np.float32)


def by_recipe_pair(first: Indices, second: Indices, weights: Floats | None, recipes: int) -> Floats:
    """The weights of pairs of recipes added up: (recipes, recipes), on and above the diagonal."""
    code = np.minimum(first, second) * recipes + np.maximum(first, second)
    return np.bincount(code, weights, minlength=recipes * recipes).reshape(recipes, recipes).astype(np.float64)
