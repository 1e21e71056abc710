"""Drawn resamples of every score equal the plain score of a table that is really built with the recipes repeated."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.estimates import SCORES, estimates
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.randomisation import randomisation_auc
from gapbench.evaluate.statistics.rank import tau_a, tau_b, within_noise_tau
from gapbench.evaluate.statistics.resampling import quadratic_forms, resampled_counts

AXES = ["depth", "width", "rate"]


def zoo(values, seed, missing):
    """An incomplete grid with ties in both, a label noise without a gap, and runs that are missing."""
    rng = np.random.default_rng(seed)
    rows = itertools.product((1, 2), (1, 2, 3), (1, 2), (0.0, 0.5, 1.0), range(2))
    runs = pd.DataFrame(list(rows), columns=[*AXES, "label_noise", "seed"])
    runs["gap"] = rng.integers(0, values, len(runs)) / 8 + runs["label_noise"]
    runs.loc[runs["label_noise"] == 1.0, "gap"] = 0.5
    runs["measure"] = rng.integers(0, values, len(runs)) + runs["width"]
    return runs[rng.random(len(runs)) >= missing].reset_index(drop=True)


def rebuilt(runs, recipe, counts):
    copies = [runs[recipe == at].assign(copy=copy) for at, count in enumerate(counts) for copy in range(count)]
    return pd.concat(copies, ignore_index=True)


def granulated_by_loops(runs, table):
    """Comparisons of the copies' configurations, each with the share of its pair in the cell of the whole zoo."""
    means = runs.groupby([*AXES, "label_noise"])[["gap", "measure"]].mean().reset_index()
    copies = table[[*AXES, "label_noise", "copy"]].drop_duplicates().merge(means, on=[*AXES, "label_noise"])
    psis = {}
    for axis in AXES:
        others = [name for name in (*AXES, "label_noise") if name != axis]
        summed = total = 0.0
        cells = dict(list(copies.groupby(others)))
        for key, whole in means.groupby(others):
            pairs = len(whole) * (len(whole) - 1) / 2
            if pairs == 0 or np.ptp(whole["gap"].round(12)) == 0 or key not in cells:
                continue
            for (_, one), (_, other) in itertools.combinations(cells[key].iterrows(), 2):
                if one[axis] != other[axis]:
                    signs = [np.sign(round(one[name] - other[name], 9)) for name in ("gap", "measure")]
                    summed += signs[0] * signs[1] / pairs
                    total += 1 / pairs
        psis[axis] = summed / total if total else np.nan
    return psis


@pytest.mark.parametrize(("values", "missing"), [(1000, 0.0), (3, 0.0), (1000, 0.3), (3, 0.3)])
def test_resamples_are_those_of_the_table_with_its_recipes_repeated(values, missing):
    runs = zoo(values, 0, missing)
    design = Design.of(runs, AXES)
    gap, measure = (runs[name].to_numpy(float) for name in ("gap", "measure"))
    counts = resampled_counts(design.recipes, 8, np.random.default_rng(1))
    found = estimates(measure[:, None], gap, design, counts)[0]
    for draw, drawn in enumerate(counts):
        table = rebuilt(runs, design.recipe, drawn)
        repeated = Design.of(table, [*AXES, "copy"])
        y, x = (table[name].to_numpy(float) for name in ("gap", "measure"))
        expected = {
            "within_noise_tau": within_noise_tau(x, y, repeated).point,
            "tau_b": tau_b(x, y, repeated).point,
            "tau_a": tau_a(x, y, repeated).point,
            "randomisation_auc": randomisation_auc(x, repeated).point,
        }
        psis = granulated_by_loops(runs, table)
        expected |= {f"psi_{axis}": psi for axis, psi in psis.items()} | {
            "granulated_tau": np.nanmean(list(psis.values()))
        }
        for score, value in expected.items():
            assert found[score].resamples[draw] == pytest.approx(value, abs=1e-12, nan_ok=True), (score, draw)


def test_every_recipe_once_is_the_score_itself():
    runs = zoo(5, 2, 0.2)
    design = Design.of(runs, AXES)
    found = estimates(
        runs[["measure"]].to_numpy(float), runs["gap"].to_numpy(float), design, np.ones((1, design.recipes), int)
    )[0]
    for score in [*SCORES, *(f"psi_{axis}" for axis in AXES)]:
        assert found[score].resamples == pytest.approx(found[score].point, abs=1e-12)


def test_a_resample_without_an_order_is_undefined():
    runs = zoo(1000, 0, 0.0)
    design = Design.of(runs, AXES)
    counts = np.zeros((1, design.recipes), int)
    counts[0, 3] = design.recipes
    constant = np.full(len(runs), 0.25)
    found = estimates(runs[["measure"]].to_numpy(float), constant, design, counts)[0]
    assert np.isnan(found["tau_b"].resamples[0])
    assert found["tau_a"].resamples[0] == 0.0
    alone = estimates(runs[["measure"]].to_numpy(float), runs["gap"].to_numpy(float), design, counts)[0]
    assert np.isnan(alone["granulated_tau"].resamples[0])  # one recipe is compared with none


@pytest.mark.parametrize("largest", [50, 2**21])
def test_quadratic_forms_are_exact(largest):
    rng = np.random.default_rng(0)
    dyads = np.triu(rng.integers(-largest, largest, (40, 40))).astype(float)
    counts = resampled_counts(40, 5, rng)
    expected = [sum(int(a) * int(d) * int(b) for a, row in zip(c, dyads) for d, b in zip(row, c)) for c in counts]
    assert quadratic_forms(dyads, counts).tolist() == expected
