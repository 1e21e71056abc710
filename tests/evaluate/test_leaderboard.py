"""The leaderboard: its columns agree with the statistics, and say what entered."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.leaderboard import SCORES, leaderboard
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import granulated_tau
from gapbench.evaluate.statistics.randomisation import randomisation_auc
from gapbench.evaluate.statistics.rank import tau_a, tau_b, within_noise_tau


def declared(sign=1, **kind):
    return Declared("", "", "norms", "here", sign, 1, "", **kind)


def make(seed=0, noises=(0.0, 0.5, 1.0), test_size=60):
    rng = np.random.default_rng(seed)
    rows = itertools.product((1, 2), (64, 128), (0.1, 0.2), noises, range(2))
    runs = pd.DataFrame(rows, columns=["depth", "width", "learning_rate", "label_noise", "seed"])
    runs.index = pd.Index([f"run{i}" for i in range(len(runs))], name="run_id")
    rate = rng.uniform(0.1, 0.4, len(runs))
    noise = runs["label_noise"].to_numpy()[:, None]
    wrong = rng.random((len(runs), test_size)) < rate[:, None]
    errors = np.where(wrong, 1 - noise / 10, noise * 0.9).astype(np.float32)
    runs["train_error"], runs["test_error"] = 0.0, errors.mean(axis=1, dtype=float)
    runs["error_gap"] = runs["test_error"] - runs["train_error"]
    runs["loss_gap"] = 3 * runs["error_gap"] + rng.standard_normal(len(runs)) * 0.1
    runs["converged"] = True
    values = pd.DataFrame(
        {
            "good": runs["error_gap"] + 0.05 * rng.standard_normal(len(runs)),
            "inverse": -runs["error_gap"] + 0.05 * rng.standard_normal(len(runs)),
            "coin": rng.standard_normal(len(runs)),
            "partial": runs["error_gap"] + 0.05 * rng.standard_normal(len(runs)),
            "absent": np.nan,
        }
    )
    values.loc[values.index[::6], "partial"] = np.nan
    readings = values.reset_index().melt("run_id", var_name="measure", value_name="value")
    readings = readings.rename(columns={"run_id": "run"})
    readings["status"] = np.where(readings["value"].notna(), "ok", "undefined")
    readings.loc[(readings["measure"] == "absent") & (readings.index % 2 == 0), "status"] = "failed"
    readings["seconds"] = np.where(readings["measure"] == "good", 2.0, 0.5)
    measures = {"absent": declared(), "coin": declared(control=True), "good": declared(), "inverse": declared(sign=-1)}
    measures["partial"] = declared()
    return SimpleNamespace(
        runs=runs,
        values=values,
        readings=readings,
        measures=measures,
        axes=("depth", "width", "learning_rate"),
        test_errors=errors,
    )


@pytest.fixture(scope="module")
def table():
    return make()


@pytest.fixture(scope="module")
def board(table):
    return leaderboard(table, resamples=200, permutations=200)


def test_scores_are_those_of_the_statistics_with_the_declared_sign(table, board):
    design = Design.of(table.runs, table.axes)
    gap = table.runs["error_gap"].to_numpy().round(9)
    for key, sign in {"good": 1, "inverse": -1, "coin": 1, "partial": 1}.items():
        measure = sign * table.values[key].to_numpy()
        expected = {
            "tau_a": tau_a(measure, gap, design),
            "tau_b": tau_b(measure, gap, design),
            "within_noise_tau": within_noise_tau(measure, gap, design),
            "granulated_tau": granulated_tau(measure, gap, design).mean,
            "randomisation_auc": randomisation_auc(measure, design),
            "psi_width": granulated_tau(measure, gap, design).by_axis["width"],
        }
        for score, interval in expected.items():
            found = tuple(board.loc[key, [score, f"{score}_low", f"{score}_high"]])
            assert found == pytest.approx((interval.point, interval.low, interval.high), abs=1e-12), (key, score)


def test_coverage_stands_beside_the_scores(board, table):
    runs = len(table.runs)
    assert list(board.loc["good", ["n", "ok", "undefined", "failed"]]) == [runs, runs, 0, 0]
    covered = table.values["partial"].notna().sum()
    assert list(board.loc["partial", ["n", "ok", "undefined", "failed"]]) == [covered, covered, runs - covered, 0]
    assert list(board.loc["absent", ["n", "ok", "undefined", "failed"]]) == [0, 0, runs / 2, runs / 2]
    bounds = ("", "_low", "_high", "_null_low", "_null_high", "_p")
    assert board.loc["absent", [score + end for score in SCORES for end in bounds]].isna().all()
    assert board.loc["good", [score + end for score in SCORES for end in bounds]].notna().all()
    assert board.loc["good", "seconds"] == 2.0


def test_sorted_best_first_with_controls_in_place_but_unranked(board):
    scores = board["within_noise_tau"]
    assert list(scores.dropna()) == sorted(scores.dropna(), reverse=True)
    assert board.index[-1] == "absent"
    assert set(board.index[:3]) == {"good", "inverse", "partial"}
    assert bool(board.loc["coin", "control"])
    assert np.isnan(board.loc["coin", "rank"])
    assert sorted(board["rank"].dropna()) == [1, 2, 3]
    ranked = board.dropna(subset="rank")
    assert (ranked["rank_low"] <= ranked["rank"]).all()
    assert (ranked["rank"] <= ranked["rank_high"]).all()


def test_only_measures_are_ranked_and_features_are_left_out(table, board):
    """Each kind in turn takes the place of the second best measure, with the same values and scores."""
    assert set(board["kind"]) == {"measure", "control"}
    for name, option in (
        ("predictor", "predictor"), ("uses test inputs", "uses_unlabelled_test_inputs"), ("feature", "feature")
    ):  # fmt: skip
        marked = {**table.measures, "inverse": declared(-1, **{option: True})}
        found = leaderboard(SimpleNamespace(**vars(table) | {"measures": marked}), resamples=200, permutations=200)
        if name == "feature":
            assert "inverse" not in found.index
        else:
            assert found.loc["inverse", "kind"] == name
            assert np.isnan(found.loc["inverse", "rank"])
            assert found.loc["inverse", "tau_b"] == board.loc["inverse", "tau_b"]
        assert sorted(found["rank"].dropna()) == [1, 2]
        assert not found["control"].drop("coin").any()


def test_equal_scores_are_placed_one_after_the_other_as_they_stand():
    """A shift of one label noise leaves the tau within each as it is, and changes that over all."""
    table = make(noises=(0.0, 0.5))
    noise = table.runs["label_noise"] == 0.5
    table.values["shifted"] = table.values["good"] + np.where(noise, -5.0, 0.0)
    table.measures["shifted"] = declared()
    found = leaderboard(table, resamples=20, permutations=20)
    assert found.loc["shifted", "within_noise_tau"] == found.loc["good", "within_noise_tau"]
    assert found.loc["shifted", "tau_b"] < found.loc["good", "tau_b"]
    assert list(found["rank"].dropna()) == list(range(1, 5))
    assert found.loc["shifted", "rank"] == found.loc["good", "rank"] + 1


def test_every_bound_is_in_order(board):
    for score in SCORES:
        rows = board.dropna(subset=score)
        assert (rows[f"{score}_low"] <= rows[score]).all()
        assert (rows[score] <= rows[f"{score}_high"]).all()
        assert (rows[f"{score}_null_low"] <= rows[f"{score}_null_high"]).all()
        assert rows[f"{score}_p"].between(1 / 201, 1).all()


def test_attributes(board):
    attrs = board.attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert (attrs["target"], attrs["runs"], attrs["excluded_not_converged"]) == ("error_gap", 48, 0)
    assert (attrs["recipes"], attrs["configurations"], attrs["seeds"]) == (8, 24, 2)
    assert attrs["constant_gap"] == [1.0]
    assert attrs["cells"]["width"] == {"counted": 8, "single": 0, "constant_gap": 4}
    assert set(attrs["ceiling"]) == {"overall", "label_noise=0", "label_noise=0.5", "within_noise"}
    assert {"split_half", "ceiling", "low", "high"} <= set(attrs["ceiling"]["overall"])


def test_reproducible_by_its_seed_and_independent_of_the_other_measures(table, board):
    again = leaderboard(table, resamples=200, permutations=200)
    pd.testing.assert_frame_equal(again, board)
    fewer = SimpleNamespace(**vars(table) | {"measures": {"good": declared()}})
    alone = leaderboard(fewer, resamples=200, permutations=200)
    columns = [c for c in board.columns if not any(part in c for part in ("rank", "_behind", "_beats"))]
    pd.testing.assert_series_equal(alone.loc["good", columns], board.loc["good", columns])
    other = leaderboard(table, resamples=200, permutations=200, seed=1)
    assert other.loc["good", "tau_b"] == board.loc["good", "tau_b"]
    assert other.loc["good", "tau_b_null_low"] != board.loc["good", "tau_b_null_low"]


def test_runs_that_did_not_converge_are_left_out():
    whole = make()
    whole.runs.loc[whole.runs.index[:5], "converged"] = False
    whole.runs.loc[whole.runs.index[0], "error_gap"] = np.nan
    kept = whole.runs.index[5:]
    part = SimpleNamespace(
        **vars(whole)
        | {
            "runs": whole.runs.loc[kept],
            "values": whole.values.loc[kept],
            "readings": whole.readings[whole.readings["run"].isin(kept)],
            "test_errors": whole.test_errors[5:],
        }
    )
    found, expected = (leaderboard(t, resamples=50, permutations=50) for t in (whole, part))
    assert found.attrs.pop("excluded_not_converged") == 5
    assert expected.attrs.pop("excluded_not_converged") == 0
    pd.testing.assert_frame_equal(found, expected)


def test_other_targets_and_missing_test_errors_have_no_ceiling(table):
    assert leaderboard(table, target="loss_gap", resamples=10, permutations=10).attrs["ceiling"] == {}
    without = SimpleNamespace(**vars(table) | {"test_errors": None})
    assert leaderboard(without, resamples=10, permutations=10).attrs["ceiling"] == {}


def test_rounding_errors_of_a_constant_gap_make_no_order(table):
    rng = np.random.default_rng(0)
    runs = table.runs.copy()
    random_labels = runs["label_noise"] == 1.0
    runs.loc[random_labels, "error_gap"] += 1e-15 * rng.standard_normal(int(random_labels.sum()))
    found = leaderboard(SimpleNamespace(**vars(table) | {"runs": runs}), resamples=10, permutations=10)
    assert found.attrs["constant_gap"] == [1.0]


def test_a_zoo_without_label_noise_or_with_one_run():
    table = make(noises=(0.0,))
    found = leaderboard(table, resamples=20, permutations=20)
    assert found["randomisation_auc"].isna().all()
    assert found.loc["good", "within_noise_tau"] == found.loc["good", "tau_b"]
    one = SimpleNamespace(
        **vars(table)
        | {"runs": table.runs[:1], "values": table.values[:1], "test_errors": table.test_errors[:1], "axes": ()}
    )
    assert leaderboard(one, resamples=5, permutations=5)[list(SCORES)].isna().all(axis=None)


def test_a_wrong_target_is_named(table):
    with pytest.raises(InputError, match=r"unknown target 'error_gapp'.*error_gap"):
        leaderboard(table, target="error_gapp")
    runs = table.runs.copy()
    runs.loc["run7", "error_gap"] = np.inf
    with pytest.raises(InputError, match="error_gap of run run7 is inf"):
        leaderboard(SimpleNamespace(**vars(table) | {"runs": runs}))


def test_statistics_do_not_import_torch():
    code = "import sys, gapbench.evaluate.leaderboard; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_label_noises_of_few_recipes_make_no_stratum_of_their_own(table):
    recipe = table.runs.groupby(list(table.axes)).ngroup()
    runs = table.runs.assign(converged=(table.runs["label_noise"] != 0.5) | (recipe < 3))
    found = leaderboard(SimpleNamespace(**vars(table) | {"runs": runs}), resamples=20, permutations=100)
    assert found.attrs["few_recipes"] == [0.5]
    assert found.attrs["constant_gap"] == [1.0]
    clean = SimpleNamespace(**vars(table) | {"runs": runs.assign(converged=runs["label_noise"] == 0.0)})
    alone = leaderboard(clean, resamples=20, permutations=100)
    assert found.loc["good", "within_noise_tau"] == pytest.approx(alone.loc["good", "tau_b"])
    assert found.attrs["ceiling"]["within_noise"]["ceiling"] == found.attrs["ceiling"]["label_noise=0"]["ceiling"]


def test_null_bands_of_what_is_defined_in_part_hold():
    """Sixty measures that know nothing, defined at one label noise of two: 5 % of p-values are at most .05."""
    rng = np.random.default_rng(0)
    table = make(noises=(0.0, 0.5))
    names = [f"random{i}" for i in range(60)]
    values = pd.DataFrame(rng.standard_normal((len(table.runs), 60)), table.runs.index, names)
    values[table.runs["label_noise"] == 0.5] = np.nan
    blind = SimpleNamespace(**vars(table) | {"values": values, "measures": {name: declared() for name in names}})
    found = leaderboard(blind, resamples=2, permutations=200)
    assert (found["n"] == 16).all()
    for score in ("within_noise_tau", "tau_b", "granulated_tau"):
        assert (found[f"{score}_p"] <= 0.05).mean() <= 0.15, score


def test_a_zoo_in_which_nothing_converged_is_refused(table):
    with pytest.raises(InputError, match="none of the 48 runs converged"):
        leaderboard(SimpleNamespace(**vars(table) | {"runs": table.runs.assign(converged=False)}))
