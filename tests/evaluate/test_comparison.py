"""Changes of scores: paired where runs are the same, and with the right coverage."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.comparison import Scored, change, compare, scored_table, scored_zoo
from gapbench.evaluate.external import read_external
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.rank import tau_estimates


def frame(seed=0, models=60):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(models)
    values = {"good": y + rng.standard_normal(models), "bad": rng.standard_normal(models)}
    return pd.DataFrame({**values, "y": y})


def compared(a, b, **options):
    one, other = (read_external(table, target="y", **options) for table in (a, b))
    return compare(scored_table(one, other), scored_table(other, one))


def test_equal_tables_have_not_moved():
    found = compared(frame(), frame())
    assert (found[["change", "change_low", "change_high"]] == 0).all(axis=None)
    assert found["paired"].all()
    assert not found["beyond"].any()


def test_pairing_sees_a_small_change_that_independent_tables_would_hide():
    before = frame()
    after = before.assign(good=before["good"] + 0.15 * (before["y"] - before["good"]))
    paired = compared(before, after).set_index(["measure", "score"]).loc[("good", "kendall_tau_b")]
    shuffled = after.sample(frac=1, random_state=0).reset_index(drop=True)
    unpaired = compared(before, shuffled).set_index(["measure", "score"]).loc[("good", "kendall_tau_b")]
    assert paired["change"] == pytest.approx(unpaired["change"])
    assert paired["beyond"]
    assert paired["paired"]
    assert not unpaired["beyond"]
    assert not unpaired["paired"]
    assert paired["change_high"] - paired["change_low"] < 0.5 * (unpaired["change_high"] - unpaired["change_low"])


def test_axes_and_seed_find_the_same_rows_in_any_order():
    before = frame().assign(width=np.repeat(range(30), 2), seed=np.tile([0, 1], 30))
    shuffled = before.sample(frac=1, random_state=0)
    found = compared(before, shuffled, axes=["width"], seed="seed", measures=["good"])
    assert found["paired"].all()
    assert found["change_high"].abs().max() == 0


@pytest.mark.parametrize("shared", [0, 20, 40])
def test_intervals_of_the_change_cover(shared):
    """Nothing differs between the two laws; the runs are partly the same."""
    rng = np.random.default_rng(0)
    design = Design.of(pd.DataFrame({"width": range(40)}), ["width"])
    labels = np.where(np.arange(40) < shared, np.arange(40), 40 + np.arange(40))
    covered = []
    for _ in range(300):
        first, second = rng.standard_normal((2, 40, 2))
        second[:shared] = first[:shared]
        noisy = [0.7 * z[:, 0] + z[:, 1] + 0.3 * rng.standard_normal(40) for z in (first, second)]
        estimates = [
            tau_estimates(x[:, None], z[:, 0], design, [np.arange(40)], "b")[0] for x, z in zip(noisy, (first, second))
        ]
        found = change(*estimates, labels)
        covered.append(found.low <= 0 <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_groups_measures_and_sorting():
    before = frame().assign(series=["a", "b"] * 30)
    after = before.assign(good=before["y"], new=1.0).drop(columns="bad")
    found = compared(before, after, group="series")
    assert set(found["group"]) == {"a", "b"}
    assert set(found["measure"]) == {"good"}
    assert found.attrs["notes"] == ["only in the first: bad", "only in the second: new"]
    assert found["beyond"].iloc[0]
    with pytest.raises(InputError, match="no measure in common"):
        compare(Scored({}, {}), Scored({}, {}))


def zoo(seed=0, runs=None, prefix="run"):
    rng = np.random.default_rng(seed)
    rows = itertools.product(range(3), range(2), range(2), (0.0, 0.5), range(2))
    table = pd.DataFrame(rows, columns=["A", "B", "C", "label_noise", "seed"])
    table.index = pd.Index([f"{prefix}{at}" for at in range(len(table))], name="run_id")
    table["error_gap"] = table["label_noise"] + 0.1 * rng.standard_normal(len(table))
    table["converged"] = True
    values = pd.DataFrame({"m": table["error_gap"] + 0.1 * rng.standard_normal(len(table))})
    return SimpleNamespace(runs=table, values=values, axes=("A", "B", "C"), measures={"m": SimpleNamespace(sign=1)})


def test_zoos_are_paired_by_run():
    first, other = zoo(0), zoo(1, prefix="other")
    same = compare(*(scored_zoo(one, "error_gap") for one in (first, zoo(0))))
    assert set(same["score"]) == {"within_noise_tau", "granulated_tau", "tau_b", "randomisation_auc"}
    assert same["paired"].all()
    assert (same["change_high"] == 0).all()
    apart = compare(*(scored_zoo(one, "error_gap") for one in (first, other)))
    assert not apart["paired"].any()
    assert (apart["change_high"] > apart["change_low"]).all()
    first.values["m"] *= -1
    moved = compare(*(scored_zoo(one, "error_gap") for one in (zoo(0), first)))
    assert moved["beyond"].all()
    with pytest.raises(InputError, match="unknown target"):
        scored_zoo(first, "gap")


def test_a_change_from_or_to_nothing_is_not_zero():
    before = frame()
    found = compared(before, before.assign(good=1.0), measures=["good"]).set_index("score")
    assert np.isnan(found.loc["kendall_tau_b", "second"])
    assert np.isnan(found.loc["kendall_tau_b", "change"])
    assert not found.loc["kendall_tau_b", "beyond"]


def test_whole_numbers_find_the_same_rows_however_they_are_stored():
    before = frame().assign(width=np.repeat(range(30), 2), seed=np.tile([0, 1], 30))
    for kind in (float, str):
        found = compared(before, before.assign(width=before["width"].astype(kind)), axes=["width"], seed="seed")
        assert found["paired"].all()
        assert (found["change_high"] == 0).all()
