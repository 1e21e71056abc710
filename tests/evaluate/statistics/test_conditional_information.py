"""Conditional information against a worked grid, naive double loops, and the competition's own numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics import dominance
from gapbench.evaluate.statistics.conditional_information import (
    conditional_mutual_information,
    informations,
    pgdl_score,
    pgdl_scores,
    smallest,
)
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.information_null import information_replicates
from gapbench.evaluate.statistics.resampling import null_band, permuted

GAP = np.array([0.1, 0.14, 0.12, 0.2, 0.3, 0.33, 0.31, 0.26])
MEASURE = np.array([1, 2, 3, 2.5, 4, 6, 5, 7])
CUBE = Design.of(pd.DataFrame(itertools.product((0, 1), repeat=3), columns=list("ABC")), list("ABC"))
WORKED = {
    (): 0.3230581302,
    ("A",): 0.04085208297,
    ("B",): 0.4711201676,
    ("C",): 0.3902231454,
    ("A", "B"): 0.4280389598,
    ("A", "C"): 0.5,
    ("B", "C"): 0.5527637822,
}


def naive(codes, chosen, measure, gap, *, competition=False):
    """Every ordered pair, put into its cell one by one."""
    cells = {}
    for i, j in itertools.product(range(len(gap)), repeat=2):
        if i != j or competition:
            signs = np.sign(measure[i] - measure[j]), np.sign(gap[i] - gap[j])
            if competition:
                signs = tuple(1.0 if sign > 0 else -1.0 for sign in signs)
            cells.setdefault((*codes[i, chosen], *codes[j, chosen]), []).append(signs)
    information = entropy = 0.0
    total = sum(map(len, cells.values()))
    for found in cells.values():
        weight = 1 / len(cells) if competition else len(found) / total
        share = {key: found.count(key) / len(found) for key in set(found)}
        x = {a: sum(p for (u, _), p in share.items() if u == a) for a in (-1, 0, 1)}
        y = {b: sum(p for (_, v), p in share.items() if v == b) for b in (-1, 0, 1)}
        information += weight * sum(p * np.log(p / (x[a] * y[b])) for (a, b), p in share.items())
        entropy -= weight * sum(p * np.log(p) for p in y.values() if p > 0)
    return information / entropy


def grid(seed, values=6, keep=0.8):
    rng = np.random.default_rng(seed)
    runs = pd.DataFrame(itertools.product(range(3), range(2), range(2), range(2)), columns=["A", "B", "C", "seed"])
    runs = runs[rng.random(len(runs)) < keep].reset_index(drop=True)
    x, y = rng.integers(0, values, (2, len(runs))).astype(float)
    return runs, Design.of(runs, ["A", "B", "C"]), x, y


def test_worked_grid():
    found = conditional_mutual_information(MEASURE, GAP, CUBE)
    assert found.by_set == pytest.approx(WORKED, rel=1e-9)
    assert found.minimum.point == pytest.approx(0.04085208297, rel=1e-9)
    assert found.minimum.n == 8
    assert pgdl_score(MEASURE, GAP, CUBE).point == pytest.approx(32.55328199, rel=1e-9)
    swapped = MEASURE[[1, 0, 2, 3, 4, 5, 6, 7]]
    assert conditional_mutual_information(swapped, GAP, CUBE).by_set != pytest.approx(WORKED, rel=1e-3)
    assert pgdl_score(swapped, GAP, CUBE).point != pytest.approx(32.55328199, rel=1e-3)


@pytest.mark.parametrize("values", [6, 10**6])
@pytest.mark.parametrize("leaf", [192, 8])
def test_agrees_with_naive_loops_on_incomplete_grids_with_ties(values, leaf, monkeypatch):
    monkeypatch.setattr(dominance, "LEAF", leaf)
    for seed in range(3):
        _, design, x, y = grid(seed, values)
        found = conditional_mutual_information(x, y, design)
        for names, value in found.by_set.items():
            chosen = ["ABC".index(name) for name in names]
            assert value == pytest.approx(naive(design.codes, chosen, x, y), abs=1e-12)
        assert found.minimum.point == min(found.by_set.values())
        pairs = itertools.combinations(range(3), 2)
        expected = 100 * min(naive(design.codes, list(pair), x, y, competition=True) for pair in pairs)
        assert pgdl_score(x, y, design).point == pytest.approx(expected, abs=1e-12)


def test_it_does_not_see_the_sign_and_the_competition_hardly():
    _, design, x, y = grid(0, 10**6)
    there, back = (conditional_mutual_information(sign * x, y, design).minimum.point for sign in (1, -1))
    assert there == pytest.approx(back, abs=1e-12)


def test_the_gap_itself_knows_everything_and_a_constant_nothing():
    _, design, _, y = grid(0, 10**6)
    assert conditional_mutual_information(y, y, design).minimum.point == pytest.approx(1.0)
    assert conditional_mutual_information(np.ones(len(y)), y, design).minimum.point == 0.0


def test_a_measure_of_an_axis_alone_is_caught_by_conditioning_on_it():
    runs, design, _, y = grid(0, 10**6, keep=1.0)
    gap = 10.0 * runs["A"].to_numpy() + y / 1e6
    found = conditional_mutual_information(runs["A"].to_numpy(float), gap, design)
    assert found.by_set[()] > 0.5
    assert found.by_set[("A",)] == found.minimum.point == pytest.approx(0.0, abs=1e-12)


def test_the_label_noise_is_an_axis():
    runs = pd.DataFrame(
        itertools.product(range(2), range(3), (0.0, 0.5), range(2)), columns=["A", "B", "label_noise", "s"]
    )
    design = Design.of(runs.rename(columns={"s": "seed"}), ["A", "B"])
    noise = runs["label_noise"].to_numpy()
    gap = noise + 0.01 * np.random.default_rng(0).random(len(runs))
    found = conditional_mutual_information(noise, gap, design)
    assert found.by_set[()] > 0.3
    assert found.by_set[("label_noise",)] == pytest.approx(0.0, abs=1e-12)


def test_below_three_axes_it_is_undefined_and_runs_without_a_value_drop_out():
    two = Design.of(pd.DataFrame(itertools.product((0, 1), repeat=2), columns=list("AB")), list("AB"))
    assert np.isnan(conditional_mutual_information(MEASURE[:4], GAP[:4], two).minimum.point)
    _, design, x, y = grid(1)
    x[::5] = np.nan
    kept = np.isfinite(x)
    found = conditional_mutual_information(x, y, design)
    again = conditional_mutual_information(x[kept], y[kept], design.take(kept))
    assert found.by_set == again.by_set
    assert found.minimum.n == kept.sum() < len(x)


def test_bounds_come_from_leaving_out_recipes():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame(itertools.product(*[range(3)] * 4), columns=list("ABCD"))
    design, y = Design.of(runs, list("ABCD")), rng.standard_normal(81)
    found = conditional_mutual_information(y + 0.3 * rng.standard_normal(81), y, design, rng=rng).minimum
    assert 0.0 <= found.low < found.point < found.high
    assert found.high - found.low < 0.4


def test_replicates_agree_with_one_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    _, design, _, y = grid(0)
    x = np.stack([rng.integers(0, 5, len(y)), rng.permutation(len(y))], axis=1).astype(float)
    gaps = np.stack([y, *rng.integers(0, 5, (3, len(y)))], axis=1).astype(float)
    gaps[2, 1] = gaps[7, 1] = np.nan
    found = information_replicates(x, gaps, design)
    for j in range(4):
        kept = np.isfinite(gaps[:, j])
        expected = smallest(informations(x[kept], gaps[kept, j], design.take(kept))[1])
        assert found[:, j] == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("gapbench.evaluate.statistics.information_null.BLOCK", 64)
    assert information_replicates(x, gaps, design) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "cells"), [((2, 2, 3, 2), 36), ((2, 2, 3, 2), 8), ((2, 2, 3, 2), 4), ((7, 3, 2), 12)]
)
def test_replicates_do_not_depend_on_how_the_axes_are_grouped_and_runs_without_a_measure_drop_out(
    values, cells, monkeypatch
):
    monkeypatch.setattr("gapbench.evaluate.statistics.information_null._MOST_CELLS", cells)
    rng = np.random.default_rng(0)
    axes = list("ABCD")[: len(values)]
    runs = pd.DataFrame(itertools.product(*map(range, values), range(2)), columns=[*axes, "seed"])
    design, n = Design.of(runs, axes), len(runs)
    x = np.stack([rng.standard_normal(n), rng.integers(0, 4, n), rng.standard_normal(n), rng.integers(0, 4, n)], axis=1)
    x[rng.random(n) < 0.2, 2] = x[rng.random(n) < 0.3, 3] = np.nan
    gaps = np.stack([rng.standard_normal(n), rng.integers(0, 3, n), rng.standard_normal(n)], axis=1)
    gaps[3, 2] = np.nan
    found = information_replicates(x, gaps, design)
    for (i, measure), (j, gap) in itertools.product(enumerate(x.T), enumerate(gaps.T)):
        kept = np.isfinite(measure) & np.isfinite(gap)
        expected = smallest(informations(measure[kept][:, None], gap[kept], design.take(kept))[1])
        assert found[i, j] == pytest.approx(expected[0], abs=1e-12)


def test_a_random_measure_lies_inside_its_null_band_and_above_zero():
    """Plug-in information is biased upward: 0 is not what chance scores."""
    rng = np.random.default_rng(0)
    runs = pd.DataFrame(itertools.product(*[range(2)] * 5), columns=list("ABCDE"))
    design, y = Design.of(runs, list("ABCDE")), rng.standard_normal(32)
    x = rng.standard_normal((32, 40))
    null = information_replicates(x, permuted(y, design, 200, rng), design)
    points = smallest(informations(x, y, design)[1])
    bands = [null_band(point, row) for point, row in zip(points, null)]
    assert np.mean([band.low <= point <= band.high for point, band in zip(points, bands)]) > 0.8
    assert min(band.low for band in bands) >= 0.0
    assert np.median(null) > 0.001


@pytest.mark.parametrize(("models", "published"), [(32, 4.8), (64, 2.0), (96, 1.3)])
def test_the_competitions_score_of_a_random_measure_is_of_the_published_size(models, published):
    """Its 95th percentile, which several of the competition's own scores do not reach."""
    axes = {32: [2] * 5, 64: [2] * 6, 96: [3, 2, 2, 2, 2, 2]}[models]
    names = [f"axis{at}" for at in range(len(axes))]
    design = Design.of(pd.DataFrame(itertools.product(*map(range, axes)), columns=names), names)
    rng = np.random.default_rng(0)
    scores = pgdl_scores(rng.standard_normal((models, 400)), rng.standard_normal(models), design)
    assert np.quantile(scores, 0.95) == pytest.approx(published, rel=0.35)
