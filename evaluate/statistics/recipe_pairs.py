"""What the pairs of runs add up to by pairs of recipes: how they are ordered, and whether they differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.dominance import Dominance, GapTree
from gapbench.evaluate.statistics.pairs import BLOCK, Floats, Indices, Signs

RowSigns = Callable[[slice], Signs]
"""Some rows of the array (runs, runs) of signs."""


@runtime_checkable
class RecipePairs(Protocol):
    """Sums over the unordered pairs of some runs: (recipes, recipes), on and above the diagonal."""

    def concordance(self, values: Signs) -> Floats:
        """sgn of the values' differences times the gaps', added up by pairs of recipes; values (runs,) are ranks."""

    def untied(self, values: Signs) -> Floats:
        """How many of the pairs differ in the values, by pairs of recipes."""


def recipe_pairs(
    gap: Signs, recipe: Indices, level: Indices, recipes: int, *, between_noises: bool = False
) -> RecipePairs:
    """The sums of runs with these ranks of their gaps; with ``between_noises`` only those of different levels pair.

    Where few recipes have many runs each, through the tree over gaps, in time n log n times the recipes; else pair by
    pair, in time n².
    """
    groups = _groups(recipe, level if between_noises else np.zeros_like(level))
    if 2 * math.log2(max(len(gap), 2)) * len(groups.recipe) < len(gap):
        return _ByTree(groups, GapTree.of(gap.astype(np.float64)), recipes, between_noises)
    return _ByRows(gap, recipe, level if between_noises else None, recipes)


@dataclass(frozen=True)
class _Groups:
    """The runs by recipe and level: the group of each run, and the recipe and the level of each group."""

    of_run: Indices
    recipe: Indices
    level: Indices

    def members(self, order: Indices) -> Signs:
        """1 where a run, in this order, is of a group: (runs, groups)."""
        out = np.zeros((len(order), len(self.recipe)), np.float32)
        out[np.arange(len(order)), self.of_run[order]] = 1.0
        return out


def _groups(recipe: Indices, level: Indices) -> _Groups:
    levels = int(level.max(initial=0)) + 1
    codes, of_run = np.unique(recipe * levels + level, return_inverse=True)
    return _Groups(of_run.reshape(-1), codes // levels, codes % levels)


@dataclass(frozen=True)
class _ByTree:
    groups: _Groups
    tree: GapTree
    recipes: int
    between_noises: bool

    def concordance(self, values: Signs) -> Floats:
        members = self.groups.members(self.tree.order)
        net = Dominance(values.astype(np.float64), self.tree).net(members).astype(np.float64)
        found = members.astype(np.float64).T @ net
        return self._by_recipe(found + np.triu(found.T, 1))

    def untied(self, values: Signs) -> Floats:
        groups = len(self.groups.recipe)
        _, place = np.unique(values, return_inverse=True)
        distinct = int(place.max(initial=-1)) + 1
        equal = np.bincount(place.reshape(-1) * groups + self.groups.of_run, minlength=distinct * groups)
        counts = equal.reshape(distinct, groups).astype(np.float64)
        sizes = counts.sum(axis=0)
        pairs = np.outer(sizes, sizes) - counts.T @ counts
        pairs[np.diag_indices(groups)] /= 2
        return self._by_recipe(pairs)

    def _by_recipe(self, sums: Floats) -> Floats:
        """Sums by groups, of which those on and above the diagonal count, by recipes."""
        recipe, level = self.groups.recipe, self.groups.level
        if self.between_noises:
            sums = np.where(level[:, None] != level, sums, 0.0)
        out = np.zeros((self.recipes, self.recipes))
        first, second = np.triu_indices(len(recipe))
        # Groups ascend by recipe, so that the first recipe of a pair is never the larger.
        np.add.at(out, (recipe[first], recipe[second]), sums[first, second])
        return out


@dataclass(frozen=True)
class _ByRows:
    gap: Signs
    recipe: Indices
    level: NDArray[np.int64] | None
    recipes: int

    def concordance(self, values: Signs) -> Floats:
        return self._sums(partial(_products, partial(_sign_rows, values), self._rows(self.gap)))

    def untied(self, values: Signs) -> Floats:
        return self._sums(partial(_magnitudes, self._rows(values)))

    def _rows(self, values: Signs) -> RowSigns:
        rows = partial(_sign_rows, values)
        return rows if self.level is None else partial(_apart, rows, self.level)

    def _sums(self, rows: RowSigns) -> Floats:
        """A symmetric array over ordered pairs of runs, given by blocks of rows, added up; the recipes ascend."""
        present, starts = np.unique(self.recipe, return_index=True)
        # Blocks that stay in the cache take half the time of larger ones.
        n, size = len(self.recipe), max(1, (BLOCK >> 5) // max(len(self.recipe), 1))
        blocks = (rows(slice(at, at + size)) for at in range(0, n, size))
        if len(present) == n:
            sums = np.concatenate(list(blocks)).astype(np.float64)
        else:
            columns = [np.add.reduceat(block, starts, axis=1) for block in blocks]
            sums = np.add.reduceat(np.concatenate(columns), starts, axis=0, dtype=np.float64)
        out = np.zeros((self.recipes, self.recipes))
        out[np.ix_(present, present)] = np.triu(sums)
        out[np.diag_indices(self.recipes)] /= 2
        return out


def _sign_rows(values: Signs, block: slice) -> Signs:
    # Ranks and places are whole numbers: clipping takes the sign, in less than half the time.
    difference: Signs = values[block, None] - values
    return np.clip(difference, -1.0, 1.0, out=difference)


def _magnitudes(signs: RowSigns, block: slice) -> Signs:
    return np.abs(signs(block))


def _apart(signs: RowSigns, level: Indices, block: slice) -> Signs:
    out = signs(block)
    out *= level[block, None] != level
    return out


def _products(x: RowSigns, y: RowSigns, block: slice) -> Signs:
    product = x(block)
    product *= y(block)
    return product
