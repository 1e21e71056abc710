"""The harness is tested by planted measures, whose scores are known."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.declared import Declared
from gapbench.evaluate.leaderboard import SCORES, leaderboard
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.rank import noise_strata, within_noise_replicates

TAUS = ("tau_a", "tau_b", "granulated_tau", "within_noise_tau")


def zoo(columns, seed=0):
    """Two data sets, two hyper-parameters, two label noises, two seeds; ``columns``: name -> f(runs, rng)."""
    rng = np.random.default_rng(seed)
    rows = itertools.product(("digits", "mnist"), (32, 64, 128), (1, 2), (0.0, 0.5), range(2))
    runs = pd.DataFrame(rows, columns=["dataset", "width", "depth", "label_noise", "seed"])
    runs.index = pd.Index([f"run{i}" for i in range(len(runs))], name="run_id")
    recipe = runs.groupby(["dataset", "width", "depth"]).ngroup().to_numpy()
    effect = 0.03 * rng.standard_normal(recipe.max() + 1)[recipe] + 0.005 * rng.standard_normal(len(runs))
    runs["error_gap"] = 0.2 + 0.4 * runs["label_noise"] + 0.1 * (runs["dataset"] == "mnist") + effect
    runs["converged"] = True
    values = pd.DataFrame({name: column(runs, rng) for name, column in columns.items()}, index=runs.index)
    readings = values.reset_index().melt("run_id", var_name="measure").rename(columns={"run_id": "run"})
    return SimpleNamespace(
        runs=runs,
        values=values,
        readings=readings.assign(status="ok", seconds=0.0),
        measures={key: Declared(key, key, "planted", "here", 1, 1, "", control=True) for key in values},
        axes=("dataset", "width", "depth"),
        test_errors=None,
    )


PLANTED = {
    "gap": lambda runs, rng: runs["error_gap"],
    "negation": lambda runs, rng: -runs["error_gap"],
    "increasing": lambda runs, rng: np.exp(20 * runs["error_gap"]),
    "label_noise": lambda runs, rng: runs["label_noise"],
    "across_datasets": lambda runs, rng: (runs["dataset"] == "mnist").astype(float),
    "constant": lambda runs, rng: 0.1,
    "width": lambda runs, rng: runs["width"].astype(float),
}


@pytest.fixture(scope="module")
def board():
    return leaderboard(zoo(PLANTED), resamples=100, permutations=500)


@pytest.mark.parametrize("key", ["gap", "increasing"])
def test_the_gap_itself_scores_one_on_every_statistic(board, key):
    assert (board.loc[key, list(SCORES)] == 1.0).all()
    assert (board.loc[key, [f"{score}_high" for score in SCORES]] == 1.0).all()
    assert (board.loc[key, [f"{score}_low" for score in SCORES]] > 0.5).all()
    assert (board.loc[key, [f"{score}_p" for score in SCORES]] < 0.01).all()


def test_its_negation_scores_minus_one(board):
    assert (board.loc["negation", list(TAUS)] == -1.0).all()
    assert board.loc["negation", "randomisation_auc"] == 0.0


def test_a_measure_that_only_sees_the_label_noise(board):
    row = board.loc["label_noise"]
    assert row["tau_b"] > 0.6
    assert row["tau_b_p"] < 0.01
    assert row["randomisation_auc"] == 1.0
    assert np.isnan(row["within_noise_tau"])
    assert row["granulated_tau"] == 0.0
    assert row["granulated_tau_p"] == 1.0


def test_a_measure_that_works_only_across_datasets(board):
    row = board.loc["across_datasets"]
    assert row["within_noise_tau"] > 0.5
    assert row["psi_dataset"] == 1.0
    assert row["psi_width"] == row["psi_depth"] == 0.0
    assert row["granulated_tau"] == pytest.approx(1 / 3)
    assert row["randomisation_auc"] == 0.5


def test_a_constant_measure_scores_nothing(board):
    row = board.loc["constant"]
    assert row["tau_a"] == row["granulated_tau"] == 0.0
    assert np.isnan(row["tau_b"])
    assert np.isnan(row["within_noise_tau"])
    assert row["randomisation_auc"] == 0.5


def test_the_order_puts_the_gap_first_and_the_undefined_last(board):
    assert set(board.index[:2]) == {"gap", "increasing"}
    assert set(board.index[-2:]) == {"label_noise", "constant"}
    assert board.index[-3] == "negation"


def test_a_null_that_does_not_keep_recipes_together_rejects_coins():
    """The positive control of the next test: the twins and seeds of a recipe share one toss."""
    table = zoo({f"coin{i}": per_recipe for i in range(100)}, seed=1)
    design, gap = Design.of(table.runs, table.axes), table.runs["error_gap"].to_numpy()
    gaps = np.empty((len(gap), 200))
    for rows in noise_strata(gap, design):
        gaps[rows] = np.random.default_rng(0).permuted(np.tile(gap[rows], (200, 1)), axis=1).T
    strata = noise_strata(gap, design)
    null = within_noise_replicates(table.values.to_numpy(), gaps, strata)
    points = within_noise_replicates(table.values.to_numpy(), gap[:, None], strata)[:, 0]
    low, high = np.quantile(null, [0.025, 0.975], axis=1)
    assert ((low <= points) & (points <= high)).mean() < 0.85


def per_run(runs, rng):
    return rng.standard_normal(len(runs))


def per_recipe(runs, rng):
    recipe = runs.groupby(["dataset", "width", "depth"]).ngroup().to_numpy()
    return rng.standard_normal(recipe.max() + 1)[recipe]


@pytest.mark.parametrize(
    ("coin", "undefined"), [(per_run, ()), (per_recipe, ("randomisation_auc",))], ids=["per_run", "per_recipe"]
)
def test_a_coin_lies_inside_its_null_band_in_95_percent_of_200_seeds(coin, undefined):
    """200 coins on one zoo; three binomial standard errors about 95 %, and p-values that are uniform."""
    board = leaderboard(zoo({f"coin{i}": coin for i in range(200)}, seed=1), resamples=2, permutations=200)
    for score in set(SCORES) - set(undefined):
        inside = board[score].between(board[f"{score}_null_low"] - 1e-9, board[f"{score}_null_high"] + 1e-9).mean()
        assert 0.90 <= inside <= 0.995, score
        assert (board[f"{score}_p"] <= 0.05).mean() <= 0.10, score
        # The AUC of few recipes takes few values, which makes its p-value conservative.
        assert (0.25 if score == "randomisation_auc" else 0.38) <= (board[f"{score}_p"] <= 0.5).mean() <= 0.62, score
    for score in undefined:
        assert (board[score] == 0.5).all()
        assert (board[f"{score}_p"] == 1.0).all()
