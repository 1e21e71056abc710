from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gapbench.reports import environments


@pytest.fixture(scope="module")
def seeded(tables: Callable[..., Any]) -> Any:
    """A zoo of five seeds whose gaps are told apart."""
    made = tables(10, seeds=5)
    return replace(made, runs=made.runs.assign(test_size=20000))


def test_environments_with_pairs_enough_are_named_in_full(seeded: Any) -> None:
    found = environments.environments(seeded, list(seeded.measures), "error_gap")
    assert found is not None
    assert not found.pooled
    assert 0 < found.strict <= found.candidates
    name = re.compile(
        r"width 64 → 256 at depth \d, learning_rate [\d.]+, batch_size \d+, weight_decay \S+, label noise \S"
    )
    assert any(name.fullmatch(one) for one in found.names)
    assert "have pairs enough" in environments.explanation(found)


def test_few_seeds_are_pooled_and_said_to_be(table: Any) -> None:
    runs = table.runs.assign(test_size=20000)
    found = environments.environments(replace(table, runs=runs), list(table.measures), "error_gap")
    assert found is not None
    assert found.pooled
    assert found.largest_size <= 4, "two seeds have four pairs"
    assert "width 64 → 256 at label noise 0" in found.names
    assert len(found.errors) <= 5 * 3
    assert "pooled over the other axes" in environments.explanation(found)


def test_a_zoo_that_cannot_say_says_so(table: Any) -> None:
    found = environments.environments(replace(table, runs=table.runs.assign(test_size=10)), ["num_params"], "error_gap")
    assert found is not None
    assert len(found.errors) == 0
    assert "this zoo cannot say" in environments.explanation(found)
    without = replace(table, runs=table.runs.drop(columns="test_size"))
    assert environments.environments(without, ["num_params"], "error_gap") is None


def test_rows_sum_up_the_errors_best_first(seeded: Any, boards: Callable[..., Any]) -> None:
    found = environments.environments(seeded, list(seeded.measures), "error_gap")
    assert found is not None
    rows = environments.rows(found, None, boards(seeded))
    means = [row["mean"] for row in rows if row["kind"] == "measure"]
    assert means == sorted(means)
    for row in rows:
        errors = found.errors[row["key"]].dropna()
        assert row["mean"] == pytest.approx(errors.mean())
        assert row["worst"] == errors.max()
        assert row["p90"] == pytest.approx(np.quantile(errors, 0.9))
        assert row["environments"] == len(errors)
    assert "never" not in [row["key"] for row in rows]


def test_the_worst_environments_are_the_worst(seeded: Any) -> None:
    found = environments.environments(seeded, list(seeded.measures), "error_gap")
    assert found is not None
    shown = environments.worst(found, "measure_00")
    assert len(shown) == 3
    largest = found.errors["measure_00"].nlargest(3).to_numpy()
    assert [float(error) for _, error in shown] == pytest.approx(largest, abs=0.005)
    places = [found.names.index(name) for name, _ in shown]
    assert sorted(found.errors["measure_00"].to_numpy()[places]) == pytest.approx(sorted(largest))
    assert environments.worst(found, "never") == environments.worst(None, "measure_00") == []
