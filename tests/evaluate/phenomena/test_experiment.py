"""A phenomenon made for tests: run, killed, run again, asked for with other settings."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.phenomena import PHENOMENA
from gapbench.evaluate.phenomena.bench import MEASURE, Bench
from gapbench.evaluate.phenomena.experiment import _work, experiment, folder, part, plan
from gapbench.evaluate.phenomena.intervals import mean_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, shown, verdict


@dataclass(frozen=True)
class Settings:
    places: tuple[int, ...]
    seeds: int


WORKED: list[str] = []
BROKEN: set[str] = set()


def cells(settings: Settings) -> list[Cell]:
    return [Cell({"x": x, "seed": seed}, work=2.0) for x in settings.places for seed in range(settings.seeds)]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    if cell.key in BROKEN:
        raise KeyboardInterrupt
    WORKED.append(cell.key)
    noise = float(bench.rng("noise", cell.where["x"], cell.where["seed"]).normal())
    height = cell.where["x"] + 0.01 * noise
    yield {"y": height, "nothing": float("nan"), f"{MEASURE}height": height}


def judge(table: pandas.DataFrame) -> Verdict:
    return verdict([above("tests", "mean of y", mean_interval(table["y"]), 1.0)])


def beside(table: pandas.DataFrame) -> list[Beside]:
    return [Beside("mean of y", "2", "nowhere", shown(mean_interval(table["y"])))]


PLANTED = Phenomenon(
    name="planted",
    source="unpublished",
    quick=Settings((1, 2, 3, 4), 3),
    full=Settings((1, 2, 3, 4, 5), 30),
    cells=cells,
    run=run,
    judge=judge,
    panels=(),
    beside=beside,
    follows=(Follow("y", "along x"),),
)


@pytest.fixture(autouse=True)
def clean() -> None:
    WORKED.clear()
    BROKEN.clear()


def test_it_is_worked_judged_and_kept(tmp_path: Path) -> None:
    result = experiment(PLANTED, "quick", tmp_path, progress=False)
    assert result.verdict.seen
    assert (result.cells, result.worked, len(result.table)) == (12, 12, 12)
    record = json.loads((tmp_path / "planted/quick/record.json").read_text())
    assert record["seen"] is True
    assert record["conditions"][0]["interval"]["low"] > 1
    assert record["published"] == [
        {"what": "mean of y", "published": "2", "where": "nowhere", "ours": result.beside[0].ours}
    ]
    assert record["following"][0]["measure"] == "height"
    assert record["following"][0]["correlation"] == pytest.approx(1)
    assert record["settings"] == {"places": [1, 2, 3, 4], "seeds": 3}
    stored = pandas.read_csv(tmp_path / "planted/quick/table.csv")
    assert stored["y"].tolist() == pytest.approx(result.table["y"].tolist())
    assert stored["nothing"].isna().all()


def test_a_second_run_works_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = experiment(PLANTED, "quick", tmp_path, progress=False)
    kept = (tmp_path / "planted/quick/record.json").read_bytes()
    WORKED.clear()
    second = experiment(PLANTED, "quick", tmp_path, progress=False)
    assert WORKED == []
    assert second.table.equals(first.table)
    assert (tmp_path / "planted/quick/record.json").read_bytes() == kept
    experiment(PLANTED, "quick", tmp_path, progress=False, again=True)
    assert len(WORKED) == 12


def test_killed_it_goes_on_from_the_last_finished_cell(tmp_path: Path) -> None:
    whole = experiment(PLANTED, "quick", tmp_path / "whole", progress=False)
    BROKEN.add("x=3, seed=1")
    with pytest.raises(KeyboardInterrupt):
        experiment(PLANTED, "quick", tmp_path, progress=False)
    # A write that the kill tore is ignored.
    with (tmp_path / "planted/quick/cells.jsonl").open("a") as file:
        file.write('{"cell": "x=3, seed=1", "rows": [{"y"')
    BROKEN.clear()
    WORKED.clear()
    result = experiment(PLANTED, "quick", tmp_path, progress=False)
    assert WORKED == ["x=3, seed=1", "x=3, seed=2", "x=4, seed=0", "x=4, seed=1", "x=4, seed=2"]
    assert result.table.equals(whole.table)


def test_a_part_works_its_cells_alone_and_the_whole_goes_on_from_there(tmp_path: Path) -> None:
    WORKED.clear()
    rows = part(PLANTED, "quick", tmp_path, {"x": "2", "seed": "1"}, progress=False)
    assert rows[["x", "seed"]].to_numpy().tolist() == [[2, 1]]
    assert len(WORKED) == 1
    assert len(part(PLANTED, "quick", tmp_path, {"x": "2"}, progress=False)) == 3
    assert len(WORKED) == 3, "what is stored is not worked again"
    whole = experiment(PLANTED, "quick", tmp_path, progress=False)
    assert (len(WORKED), whole.worked) == (12, 9)
    assert whole.table.loc[whole.table["x"] == 2, "y"].iloc[1] == rows["y"].item()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"n": "2"}, "unknown field 'n'.*seed"),
        ({"x": "7"}, "unknown value of x '7'"),
        ({"seed": "one"}, "value of seed"),
    ],
)
def test_a_part_that_is_not_there_is_said(tmp_path: Path, where: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        part(PLANTED, "quick", tmp_path, where, progress=False)


def test_other_seeds_and_settings_are_kept_apart_and_another_revision_replaces(tmp_path: Path) -> None:
    first = experiment(PLANTED, "quick", tmp_path, progress=False)
    other = experiment(PLANTED, "quick", tmp_path, seed=1, progress=False)
    assert folder(tmp_path, "planted", "quick", 1).is_dir()
    assert other.table["y"].tolist() != first.table["y"].tolist()
    WORKED.clear()
    revised = experiment(dataclasses.replace(PLANTED, revision=2), "quick", tmp_path, progress=False)
    assert len(WORKED) == 12
    assert "replaced" in revised.notes[0]


def test_changed_code_is_said(tmp_path: Path) -> None:
    experiment(PLANTED, "quick", tmp_path, progress=False)

    def run_differently(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
        yield {"y": 0.0}

    changed = experiment(dataclasses.replace(PLANTED, run=run_differently), "quick", tmp_path, progress=False)
    assert "12 of 12 cells were made by code that has changed" in changed.notes[0]
    # Positive control: the same code is not reported.
    assert experiment(PLANTED, "quick", tmp_path, progress=False).notes == ()


def test_the_plan_scales_measured_seconds_by_work(tmp_path: Path) -> None:
    assert "150 cells, 150 to do, 12.5 times the work of quick settings" in plan(PLANTED, "full", tmp_path)
    experiment(PLANTED, "quick", tmp_path, progress=False)
    assert plan(PLANTED, "quick", tmp_path) == "planted, quick: 12 cells, 0 to do"


def test_a_worker_finds_the_phenomenon_by_its_name() -> None:
    """What `--jobs 2` sends to a process: the name, a cell, the settings and a bench."""
    entry = PHENOMENA["sample_complexity"]
    cell, bench = entry.cells(entry.quick)[0], Bench("sample_complexity")
    sent = pickle.loads(pickle.dumps((_work, ("sample_complexity", cell, entry.quick, bench))))
    here = _work("sample_complexity", cell, entry.quick, bench, entry)
    there = sent[0](*sent[1])
    assert there[:2] == here[:2]


def test_progress_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(PLANTED, "quick", tmp_path)
    assert "planted: 100% (x=4, seed=2), 0 s left" in capsys.readouterr().err
