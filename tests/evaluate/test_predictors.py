"""Predictors are fitted to other recipes than they predict; the control is the gap plus noise of the stated size."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import sklearn.model_selection

from gapbench.evaluate.declared import Declared, kind
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.predictors import ORACLE_NOISE, with_predictors
from gapbench.evaluate.table import Table

PREDICTORS = ["predictor_boosted_trees", "predictor_linear"]


def make(gap, features=("first", "second"), seed=0):
    """40 recipes of two label noises and three seeds; ``gap``: f(runs, values, rng); features tell recipes apart."""
    rng = np.random.default_rng(seed)
    rows = itertools.product(range(8), range(5), (0.0, 1.0), range(3))
    runs = pd.DataFrame(rows, columns=["width", "depth", "label_noise", "seed"])
    runs.index = pd.Index([f"run{i}" for i in range(len(runs))], name="run_id")
    recipe = runs.groupby(["width", "depth"]).ngroup().to_numpy()
    values = {name: rng.standard_normal(40)[recipe] + 0.01 * rng.standard_normal(len(runs)) for name in features}
    values = pd.DataFrame({**values, "coin": rng.random(len(runs)), "norm": rng.random(len(runs))}, index=runs.index)
    runs["error_gap"] = gap(runs, values, rng) if callable(gap) else gap
    runs["converged"] = True
    readings = values.reset_index().melt("run_id", var_name="measure").rename(columns={"run_id": "run"})
    readings = readings.assign(revision=1, standard_error=0.0, status="ok", reason="", seconds=0.0)
    kinds = {**{name: {"feature": True} for name in features}, "coin": {"control": True}, "norm": {}}
    measures = {key: Declared(key, key, "test", "here", 1, 1, "", **kinds[key]) for key in values}
    return Table(runs, values, readings, measures, ("width", "depth"), None)


def learnable(runs, values, rng):
    return 0.3 + 0.1 * values["first"] - 0.05 * values["second"] + 0.3 * runs["label_noise"]


def by_recipe(runs, values, rng):
    return rng.standard_normal(40)[runs.groupby(["width", "depth"]).ngroup().to_numpy()]


def test_a_linear_law_is_predicted_on_recipes_that_were_not_seen():
    table = make(lambda runs, values, rng: 0.3 + 0.1 * values["first"] - 0.05 * values["second"])
    found = with_predictors(table)
    gap = table.runs["error_gap"]
    assert found.values["predictor_linear"].corr(gap) > 0.999
    assert found.values["predictor_boosted_trees"].corr(gap) > 0.6
    assert [kind(found.measures[key]) for key in PREDICTORS] == ["predictor"] * 2
    assert list(found.values)[: len(table.measures)] == list(table.values)
    assert "oracle_noisy" in found.measures
    pd.testing.assert_frame_equal(with_predictors(table).values, found.values)


def test_what_only_tells_recipes_apart_predicts_nothing(monkeypatch):
    """A gap drawn once a recipe cannot be predicted; folds that split recipes would say that it can."""
    table = make(by_recipe)
    gap = table.runs["error_gap"]
    assert with_predictors(table).values[PREDICTORS[0]].corr(gap) < 0.3

    class Split:
        def __init__(self, folds):
            self.folds = sklearn.model_selection.KFold(folds, shuffle=True, random_state=0)

        def split(self, rows, groups):
            return self.folds.split(rows)

    monkeypatch.setattr(sklearn.model_selection, "GroupKFold", Split)
    assert with_predictors(table).values[PREDICTORS[0]].corr(gap) > 0.8


def test_a_recipe_is_in_one_fold_with_its_seeds_and_labels(monkeypatch):
    seen = []
    real = sklearn.model_selection.GroupKFold

    class Watched(real):
        def split(self, X, y=None, groups=None):
            for fitted, left in super().split(X, y, groups):
                seen.append((set(X[fitted]), set(X[left])))
                yield fitted, left

    monkeypatch.setattr(sklearn.model_selection, "GroupKFold", Watched)
    table = make(learnable)
    with_predictors(table)
    assert len(seen) == 2 * 5
    recipes = table.runs.groupby(["width", "depth"]).ngroup().to_numpy()
    for fitted, left in seen:
        assert not {recipes[row] for row in fitted} & {recipes[row] for row in left}
    assert set.union(*(left for _, left in seen)) == set(range(len(table.runs)))


def test_runs_that_did_not_converge_or_lack_a_feature_are_left_out_and_told():
    table = make(learnable)
    table.runs.loc["run0", "converged"] = False
    table.runs.loc["run0", "error_gap"] = 1e9
    table.values.loc["run1", "first"] = np.nan
    found = with_predictors(table)
    for key in PREDICTORS:
        assert list(found.values.index[found.values[key].isna()]) == ["run0", "run1"]
        assert found.values[key].abs().max() < 10
        rows = found.readings[found.readings["measure"] == key].set_index("run")
        assert list(rows.index[rows["status"] == "undefined"]) == ["run0", "run1"]
        assert rows.loc["run1", "reason"] == "the run did not converge, or a feature is undefined on it"


def test_one_recipe_is_too_few():
    table = make(learnable)
    few = table.runs.index[:6]
    one = dataclasses.replace(
        table, runs=table.runs.loc[few], values=table.values.loc[few], readings=table.readings.iloc[:0]
    )
    found = with_predictors(one)
    assert found.values[PREDICTORS].isna().all(axis=None)
    assert "two recipes" in found.readings["reason"].iloc[0]


def test_the_oracle_has_noise_of_the_stated_size():
    table = make(lambda runs, values, rng: 0.1 * rng.standard_normal(len(runs)) + 5 * runs["label_noise"])
    noise = with_predictors(table).values["oracle_noisy"] - table.runs["error_gap"]
    spread = table.runs["error_gap"] - table.runs.groupby("label_noise")["error_gap"].transform("mean")
    assert noise.std() == pytest.approx(ORACLE_NOISE * spread.std(), rel=0.15)
    assert noise.std() < 0.1 * table.runs["error_gap"].std()
    other = with_predictors(table, seed=1).values["oracle_noisy"] - table.runs["error_gap"]
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.3


def test_the_leaderboard_lists_them_apart():
    board = leaderboard(with_predictors(make(learnable)), resamples=20, permutations=20)
    assert dict(board["kind"]) == {
        "coin": "control", "norm": "measure", "oracle_noisy": "control", **dict.fromkeys(PREDICTORS, "predictor")
    }  # fmt: skip
    assert list(board.index[board["rank"].notna()]) == ["norm"]
    assert board.loc["predictor_linear", "within_noise_tau"] > 0.9
    # r = 1/√(1 + .5²) of normal variables has τ = (2/π) arcsin r = .70.
    assert board.loc["oracle_noisy", "within_noise_tau"] == pytest.approx(0.7, abs=0.1)


def test_other_targets_have_their_own_fits_and_unknown_ones_are_left_to_the_leaderboard():
    table = make(learnable)
    table.runs["loss_gap"] = -3 * table.values["first"]
    found = with_predictors(table, target="loss_gap")
    assert found.values["predictor_linear"].corr(table.runs["loss_gap"]) > 0.99
    assert with_predictors(table, target="loss_gapp") is table


def test_a_choice_without_features_and_controls_gets_neither():
    table = make(learnable)
    only = dataclasses.replace(table, measures={"norm": table.measures["norm"]}, values=table.values[["norm"]])
    assert set(with_predictors(only).measures) == {"norm"}
