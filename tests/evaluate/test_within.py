"""A part of a zoo holds the runs that meet the conditions, everywhere in the table."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.table import Table
from gapbench.evaluate.within import within


@pytest.fixture(scope="module")
def whole() -> Table:
    rows = itertools.product(("mlp", "cnn"), (8, 16, 32), (0.0, 5e-4), (0.0, 0.5), range(2))
    runs = pd.DataFrame(rows, columns=["architecture", "width", "weight_decay", "label_noise", "seed"])
    runs.index = pd.Index([f"run{at}" for at in range(len(runs))], name="run_id")
    rng = np.random.default_rng(0)
    runs["error_gap"], runs["converged"], runs["train_error"] = rng.random(len(runs)), True, 0.0
    values = pd.DataFrame({"m": rng.random(len(runs))}, runs.index)
    readings = pd.DataFrame({"run": runs.index, "measure": "m", "value": values["m"].to_numpy(), "status": "ok"})
    readings["seconds"] = 0.1
    entry = Declared("m", "m", "norms", "here", 1, 1, "")
    errors = rng.random((len(runs), 50)).astype(np.float32)
    return Table(runs, values, readings, {"m": entry}, ("architecture", "width", "weight_decay"), errors)


def test_every_part_of_the_table_is_cut_alike(whole: Table) -> None:
    part = within(whole, ["architecture=cnn", "weight_decay=0.0005"])
    expected = whole.runs[(whole.runs["architecture"] == "cnn") & (whole.runs["weight_decay"] == 5e-4)].index
    assert list(part.runs.index) == list(part.values.index) == list(part.readings["run"]) == list(expected)
    assert part.axes == ("width",), "what no longer varies is no axis"
    assert part.test_errors is not None
    assert whole.test_errors is not None
    np.testing.assert_array_equal(part.test_errors, whole.test_errors[whole.runs.index.isin(expected)])
    assert leaderboard(part, resamples=10, permutations=10).attrs["runs"] == len(expected) == 12


def test_two_values_of_one_axis_are_alternatives(whole: Table) -> None:
    part = within(whole, ["width=8", "width=32.0", "seed=1"])
    assert set(part.runs["width"]) == {8, 32}
    assert set(part.runs["seed"]) == {1}
    assert "width" in part.axes


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["width"], "write AXIS=VALUE"),
        (["widht=8"], "did you mean width"),
        (["width=9"], "no run has width=9; its values are: 16, 32, 8"),
        (["architecture=8"], "its values are: cnn, mlp"),
        (["error_gap=0"], "unknown axis"),
    ],
)
def test_a_wrong_condition_is_named(whole: Table, conditions: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        within(whole, conditions)


def test_a_combination_that_the_grid_lacks_is_named(whole: Table) -> None:
    runs = whole.runs[~((whole.runs["width"] == 8) & (whole.runs["architecture"] == "cnn"))]
    part = Table(runs, whole.values.loc[runs.index], whole.readings, whole.measures, whole.axes, None)
    with pytest.raises(InputError, match="the grid lacks this combination"):
        within(part, ["width=8", "architecture=cnn"])
