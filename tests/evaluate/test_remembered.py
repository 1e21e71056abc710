"""A remembered leaderboard is the computed one, and is forgotten when anything it depends on changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from gapbench.evaluate import remembered as module
from gapbench.evaluate.execute import run
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.remembered import remembered
from gapbench.evaluate.table import Table, table
from gapbench.evaluate.zoo import Zoo

ARGUMENTS: dict[str, Any] = {"target": "error_gap", "resamples": 20, "permutations": 20, "seed": 0}


@pytest.fixture
def made(tiny_zoo: Zoo, measure_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Table:
    out = tmp_path_factory.mktemp("zoo") / "tiny"
    run(tiny_zoo, out, ["weight_sum", "drawn", "without_value"], files=[measure_file], progress=False)
    whole = table(out)
    # Three epochs do not converge, and what has not converged is not ranked.
    return dataclasses.replace(whole, runs=whole.runs.assign(converged=True))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> pandas.DataFrame:
        calls.append(1)
        return leaderboard(*arguments, **options)

    monkeypatch.setattr(module, "leaderboard", counted)
    return calls


def test_the_same_frame_without_computing_it_again(made: Table, tmp_path: Path, count: list[int]) -> None:
    first = remembered(tmp_path, made, **ARGUMENTS)
    second = remembered(tmp_path, made, **ARGUMENTS)
    assert len(count) == 1
    pandas.testing.assert_frame_equal(first, second)
    # As text, because attributes hold NaN, which equals nothing.
    assert json.dumps(first.attrs) == json.dumps(second.attrs) == json.dumps(leaderboard(made, **ARGUMENTS).attrs)


def test_anything_that_changes_is_computed_again(
    made: Table, tmp_path: Path, count: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered(tmp_path, made, **ARGUMENTS)
    for arguments in ({"seed": 1}, {"resamples": 21}, {"target": "loss_gap"}):
        remembered(tmp_path, made, **{**ARGUMENTS, **arguments})
    assert len(count) == 4
    changed = made.values.copy()
    changed.iloc[0, 0] += 1e-9
    remembered(tmp_path, dataclasses.replace(made, values=changed), **ARGUMENTS)
    key = next(iter(made.measures))
    signs = {**made.measures, key: dataclasses.replace(made.measures[key], sign=-made.measures[key].sign)}
    remembered(tmp_path, dataclasses.replace(made, measures=signs), **ARGUMENTS)
    monkeypatch.setattr(module, "_code", lambda: "other code")
    remembered(tmp_path, dataclasses.replace(made, measures=signs), **ARGUMENTS)
    assert len(count) == 7


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    made: Table, tmp_path: Path, count: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    for _ in range(2):
        assert len(remembered(tmp_path, made, **ARGUMENTS))
    assert len(count) == 2
    assert not (tmp_path / "leaderboards").exists()
