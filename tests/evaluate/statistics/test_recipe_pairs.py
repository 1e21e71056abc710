"""Sums over pairs of runs by pairs of recipes, by either way, against a loop over the pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gapbench.evaluate.statistics import recipe_pairs
from gapbench.evaluate.statistics.pairs import Floats, Indices, Signs


def by_hand(
    values: Signs, gap: Signs, recipe: Indices, level: Indices, recipes: int, between: bool
) -> tuple[Floats, Floats]:
    concordance, untied = np.zeros((2, recipes, recipes))
    for i, j in itertools.combinations(range(len(gap)), 2):
        if not between or level[i] != level[j]:
            at = tuple(sorted((recipe[i], recipe[j])))
            concordance[at] += np.sign(values[i] - values[j]) * np.sign(gap[i] - gap[j])
            untied[at] += values[i] != values[j]
    return concordance, untied


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("different", [7, 10_000])
def test_both_ways_are_a_loop_over_the_pairs(between: bool, different: int) -> None:
    rng = np.random.default_rng(3)
    recipe = np.sort(rng.integers(0, 5, 700))
    recipe[recipe == 3] = 2  # a recipe without runs
    level = rng.integers(0, 3, 700)
    values, gap = rng.integers(0, different, (2, 700)).astype(np.float32)
    sums = recipe_pairs.recipe_pairs(gap, recipe, level, 5, between_noises=between)
    assert isinstance(sums, recipe_pairs._ByTree)
    rows = recipe_pairs._ByRows(gap, recipe, level if between else None, 5)
    concordance, untied = by_hand(values, gap, recipe, level, 5, between)
    for way in (sums, rows):
        assert np.array_equal(way.concordance(values), concordance)
        assert np.array_equal(way.untied(values), untied)
    assert not np.array_equal(sums.concordance(values[::-1]), concordance), "control"


def test_many_recipes_of_few_runs_go_pair_by_pair() -> None:
    recipe = np.arange(300) // 2
    sums = recipe_pairs.recipe_pairs(np.arange(300, dtype=np.float32), recipe, 0 * recipe, 150)
    assert isinstance(sums, recipe_pairs._ByRows)
