"""The further statistics of a table agree with the functions they come from, and say what is missing."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate import assessment as module
from gapbench.evaluate.assessment import adjusted_p, assessment, settled_gap
from gapbench.evaluate.statistics.adjusted import partial_correlation
from gapbench.evaluate.statistics.affine_oracle import affine_oracle
from gapbench.evaluate.statistics.conditional_information import conditional_mutual_information
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.multiplicity import holm
from gapbench.evaluate.statistics.sign_error import sign_errors
from gapbench.evaluate.statistics.spearman import spearman


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    rows = itertools.product(range(2), range(2), range(3), (0.0, 0.5), range(4))
    runs = pd.DataFrame(rows, columns=["A", "B", "C", "label_noise", "seed"])
    runs.index = pd.Index([f"run{at}" for at in range(len(runs))], name="run_id")
    effect = rng.uniform(0.1, 0.3, (2, 2, 3))[runs["A"], runs["B"], runs["C"]]
    runs["test_error"] = effect + 0.5 * runs["label_noise"] + 0.02 * rng.standard_normal(len(runs))
    runs["train_error"], runs["test_size"], runs["converged"] = 0.0, 2000, True
    runs["error_gap"] = runs["test_error"]
    runs.loc["run5", "converged"] = False
    noise = rng.standard_normal((2, len(runs)))
    values = pd.DataFrame(
        {"good": -(effect + 0.02 * noise[0]), "coin": noise[1], "bound": 2 * runs["error_gap"], "few": effect},
        runs.index,
    )
    values.loc[runs.index[40:], "few"] = np.nan
    measures = {
        key: SimpleNamespace(
            sign=-1 if key == "good" else 1,
            bound=key == "bound",
            control=key == "coin",
            feature=False,
            uses_unlabelled_test_inputs=False,
        )
        for key in values
    }
    return SimpleNamespace(runs=runs, values=values, measures=measures, axes=("A", "B", "C"))


@pytest.fixture(scope="module")
def frame(table):
    return assessment(table, permutations=60)


def test_it_agrees_with_the_functions(table, frame):
    kept = table.runs["converged"].to_numpy()
    runs = table.runs[kept]
    design, gap = Design.of(runs, table.axes), runs["error_gap"].to_numpy()
    for key, sign in (("good", -1), ("coin", 1), ("few", 1)):
        x = sign * table.values[key].to_numpy()[kept]
        row = frame.loc[key]
        assert row["spearman"] == pytest.approx(spearman(x, gap, design).point, abs=1e-12)
        assert row["spearman_low"] == pytest.approx(spearman(x, gap, design).low, abs=1e-12)
        information = conditional_mutual_information(x, gap, design).minimum.point
        assert row["conditional_mutual_information"] == pytest.approx(information, abs=1e-12)
        assert row["partial_correlation"] == pytest.approx(partial_correlation(x, gap, design).point, abs=1e-9)
        assert row["sign_error"] == pytest.approx(sign_errors(x, gap, design, 2000).mean.point, nan_ok=True)
        oracle = affine_oracle(x, gap, design)
        assert row["affine_oracle"] == pytest.approx(oracle.held_out.point, rel=1e-9)
        assert row["affine_oracle_constant"] == pytest.approx(oracle.constant.point, rel=1e-9)
        assert row["affine_oracle_in_sample"] == pytest.approx(oracle.in_sample.point, rel=1e-9)


def test_a_good_measure_and_a_coin_are_told_apart(frame):
    good, coin = frame.loc["good"], frame.loc["coin"]
    name = "conditional_mutual_information"
    assert good[name] > good[f"{name}_null_high"]
    assert good[f"{name}_p"] < 0.05 < coin[f"{name}_p"]
    assert good["partial_correlation_low"] > 0 > coin["partial_correlation_low"]
    assert good["r2_increment"] > coin["r2_increment"]
    assert good["selection_regret"] < coin["selection_regret"]
    assert good["better_than_random_low"] > 0
    assert good["sign_error"] < 0.2 < coin["sign_error"]
    tests = frame.drop(index="coin")
    assert np.isnan(frame.loc["coin", f"{name}_holm"])
    assert (tests[f"{name}_holm"] >= tests[f"{name}_p"]).all()
    assert holm(tests[f"{name}_p"].to_numpy()) == pytest.approx(tests[f"{name}_holm"].to_numpy())


def test_bounds_are_reported_for_bounds_only(frame):
    assert frame["bound_held"].notna().tolist() == [key == "bound" for key in frame.index]
    assert frame.loc["bound", "bound_held"] == 1.0
    assert frame.loc["bound", "bound_ratio"] == pytest.approx(2.0)


def test_incompleteness_and_power_are_told(table, frame):
    assert frame.attrs["completeness"] == "24 of 24 configurations (100 %), 3 to 4 run(s) each"
    assert frame.attrs["complete"]
    assert not frame.attrs["balanced"]
    assert 0.2 < frame.attrs["smallest_detectable"] < 0.9
    without_seeds = SimpleNamespace(**{**vars(table), "runs": table.runs[table.runs["seed"] == 0]})
    found = assessment(without_seeds, permutations=20)
    assert found["mixed_model"].isna().all()
    assert (found["sign_error_environments"] == 0).all()
    with pytest.raises(InputError, match="unknown target"):
        assessment(table, target="gap")


def test_a_large_zoo_has_no_null_band_of_the_conditional_information(table, monkeypatch):
    few = SimpleNamespace(**{**vars(table), "runs": table.runs[table.runs["seed"] == 0], "measures": {}})
    few.measures = {key: table.measures[key] for key in ("good", "coin")}
    name = "conditional_mutual_information"
    assert assessment(few, permutations=5, mixed=False)[f"{name}_p"].notna().all()
    monkeypatch.setattr(module, "MOST_RUNS", 5)
    found = assessment(few, permutations=5, mixed=False)
    assert found[name].notna().all()
    assert found[[f"{name}_null_low", f"{name}_p", f"{name}_holm"]].isna().all(axis=None)


def test_progress_is_told_measure_by_measure(table):
    told = []
    assessment(table, permutations=5, mixed=False, progress=lambda done, total: told.append((done, total)))
    assert told == [(at, 5) for at in range(1, 6)], "four measures and the null band"


def test_adjusted_p_counts_what_is_ranked():
    kinds, same = ["measure", "measure", "control", "measure"], ["", "", "", "a"]
    names = ["a", "b", "coin", "a_per_sample"]
    board = pd.DataFrame({"tau_b_p": [0.01, 0.04, 0.001, 0.01], "kind": kinds, "same_as": same}, index=names)
    found = adjusted_p(board, ("tau_b",))
    assert found["tau_b_holm"].tolist()[:2] == pytest.approx([0.02, 0.04])
    assert found.loc[["coin", "a_per_sample"], ["tau_b_bh", "tau_b_holm"]].isna().all(axis=None)


def test_settled_gap_keeps_its_units():
    gap = np.array([0.1 + 0.2, 0.3, 0.5])
    assert settled_gap(gap)[0] == settled_gap(gap)[1]
    assert settled_gap(gap) == pytest.approx(gap, abs=1e-9)


def test_bounds_and_sign_errors_are_of_the_error_gap_whatever_the_target(table, frame):
    runs = table.runs.assign(loss_gap=50 * table.runs["error_gap"] + 1)
    found = assessment(SimpleNamespace(**{**vars(table), "runs": runs}), target="loss_gap", permutations=5, mixed=False)
    assert found.loc["bound", "bound_held"] == frame.loc["bound", "bound_held"]
    assert "sign_error" not in found


def test_controls_and_repeats_are_no_tests_of_the_conditional_information(table):
    values = table.values.assign(again=np.exp(-table.values["good"]))
    measures = {**table.measures, "again": SimpleNamespace(**{**vars(table.measures["good"]), "sign": 1})}
    more = SimpleNamespace(**{**vars(table), "values": values, "measures": measures})
    found = assessment(more, permutations=20, mixed=False)
    p, adjusted = (found[f"conditional_mutual_information_{name}"] for name in ("p", "holm"))
    assert p[["coin", "again"]].notna().all()
    assert adjusted[["coin", "again"]].isna().all()
    assert adjusted["good"] == pytest.approx(3 * p["good"])


def test_a_target_that_is_not_finite_is_refused(table):
    runs = table.runs.copy()
    runs.loc[runs.index[0], "error_gap"] = np.inf
    with pytest.raises(InputError, match="is inf: every run that converged needs a finite one"):
        assessment(SimpleNamespace(**{**vars(table), "runs": runs}), permutations=5)
    with pytest.raises(InputError, match=r"none of the \d+ runs converged"):
        assessment(SimpleNamespace(**{**vars(table), "runs": runs.assign(converged=False)}), permutations=5)
