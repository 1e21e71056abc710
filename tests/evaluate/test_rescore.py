"""Scores of a table from elsewhere equal scipy's and numpy's, group by group."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.evaluate.external import read_external
from gapbench.evaluate.rescore import rescore


def published(seed=0):
    """A table like a published one: groups of many sizes, ties, missing values, an infinite entry."""
    rng = np.random.default_rng(seed)
    sizes = {"VGG": 8, "ResNet-1K": 19, "a single one": 1, "pair": 2, "rest": 40, "constant": 5}
    frame = pd.DataFrame({"series": np.repeat(list(sizes), list(sizes.values()))})
    frame = frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
    frame["top1"] = rng.uniform(20, 40, len(frame)).round(1)
    for name in ("log norm", "alpha", "weighted alpha"):
        frame[name] = frame["top1"] * rng.uniform(-1, 1) + rng.normal(0, 5, len(frame)).round(1)
        frame.loc[rng.random(len(frame)) < 0.15, name] = np.nan
    frame["layers"] = rng.integers(1, 6, len(frame))
    frame.loc[frame["series"] == "constant", "layers"] = 3
    frame.loc[3, "alpha"] = np.inf
    frame.loc[rng.random(len(frame)) < 0.05, "top1"] = np.nan
    return frame


def naive(measure, target):
    both = np.isfinite(measure) & np.isfinite(target)
    x, y = measure[both].to_numpy(float), target[both].to_numpy(float)
    out = {"n": len(x), **dict.fromkeys(("kendall_tau_b", "tau_a", "spearman", "a", "b", "r2", "rmse"), np.nan)}
    if len(x) < 2:
        return out
    signs = [np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i in range(len(x)) for j in range(i)]
    out["tau_a"] = np.mean(signs)
    if np.ptp(x) > 0:
        out["kendall_tau_b"] = scipy.stats.kendalltau(x, y).statistic
        out["spearman"] = scipy.stats.spearmanr(x, y).statistic
        out["b"], out["a"] = np.polyfit(x, y, 1)
        residuals = y - out["a"] - out["b"] * x
    else:
        residuals = y - y.mean()
    out["rmse"] = np.sqrt(np.mean(residuals**2))
    out["r2"] = 1 - (residuals**2).sum() / ((y - y.mean()) ** 2).sum()
    return out


@pytest.mark.parametrize("seed", range(3))
def test_every_group_and_measure_agrees_with_other_packages(seed):
    frame = published(seed)
    found = rescore(read_external(frame, target="top1", group="series", drop_nonfinite=True))
    measures = ["log norm", "alpha", "weighted alpha", "layers"]
    order = [(group, measure) for group in frame["series"].unique() for measure in measures]
    assert list(zip(found["group"], found["measure"])) == order
    for _, row in found.iterrows():
        rows = frame[frame["series"] == row["group"]]
        expected = naive(rows[row["measure"]].replace(np.inf, np.nan), rows["top1"])
        assert {k: row[k] for k in expected} == pytest.approx(expected, abs=1e-9, nan_ok=True), row


def test_a_missing_value_is_no_zero():
    frame = published()
    kept = read_external(frame, target="top1", drop_nonfinite=True)
    right = rescore(kept).set_index("measure").loc["alpha"]
    zero = frame.assign(alpha=frame["alpha"].replace(np.inf, np.nan).fillna(0.0))
    wrong = rescore(read_external(zero, target="top1")).set_index("measure").loc["alpha"]
    assert right["n"] < wrong["n"]
    assert abs(right["kendall_tau_b"] - wrong["kendall_tau_b"]) > 0.005


def test_intervals_are_of_configurations():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"width": np.repeat(np.arange(12), 5), "seed": np.tile(np.arange(5), 12)})
    effect = rng.standard_normal((2, 12)).cumsum(axis=0)
    frame["m"], frame["y"] = effect[:, frame["width"]] + 0.05 * rng.standard_normal((2, 60))
    alone = rescore(read_external(frame, target="y", measures=["m"])).iloc[0]
    grouped = rescore(read_external(frame, target="y", measures=["m"], axes=["width"], seed="seed")).iloc[0]
    for name in ("kendall_tau_b", "spearman", "b", "r2", "rmse"):
        assert alone[name] == grouped[name]
        assert alone[f"{name}_low"] <= alone[name] <= alone[f"{name}_high"]
    for name in ("kendall_tau_b", "spearman", "b"):
        width, wider = (row[f"{name}_high"] - row[f"{name}_low"] for row in (alone, grouped))
        assert wider > 1.4 * width
    assert np.isfinite(grouped["granulated_tau"])
    assert "granulated_tau" not in alone


def test_rows_without_a_group_are_told():
    frame = pd.DataFrame({"g": ["a", None, "a"], "m": [1.0, 2, 3], "y": [1.0, 2, 3]})
    found = rescore(read_external(frame, target="y", group="g"))
    assert found["n"].tolist() == [2]
    assert found.attrs["notes"] == ["1 rows have no group and are left out"]
    assert rescore(read_external(frame, target="y"))["group"].tolist() == [None]
