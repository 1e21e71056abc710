"""Run a phenomenon: work the cells that are not stored, judge their table by the rule, keep the record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate import files
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.following import following
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Phenomenon, Row
from gapbench.evaluate.phenomena.progress import tracking
from gapbench.evaluate.phenomena.rows import Cells, code, header
from gapbench.evaluate.phenomena.verdict import Verdict
from gapbench.evaluate.progress import duration
from gapbench.evaluate.provenance import environment


@dataclass(frozen=True)
class Result:
    """A phenomenon as it was run: its table, its verdict, the published numbers, the measures that follow it.

    ``seconds``: processor seconds of all cells, whenever they were worked. ``worked``: how many cells were worked now.
    ``notes``: what the reader must know, such as code that has changed since some rows were made.
    """

    phenomenon: Phenomenon
    settings: str
    seed: int
    folder: Path
    table: pandas.DataFrame
    verdict: Verdict
    beside: tuple[Beside, ...]
    following: pandas.DataFrame
    seconds: float
    cells: int
    worked: int
    notes: tuple[str, ...] = ()


def folder(out: Path, name: str, settings: str, seed: int) -> Path:
    """Where a phenomenon is kept: OUT/NAME/quick, or quick-seed3 for another root seed than 0."""
    return out / name / (settings if seed == 0 else f"{settings}-seed{seed}")


def experiment(
    phenomenon: Phenomenon,
    settings: str,
    out: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    data_dir: Path | None = None,
    again: bool = False,
    progress: bool = True,
) -> Result:
    """Work the cells of a phenomenon that are not stored under ``out``, and judge it.

    ``settings``: "quick" or "full". ``again``: work every cell again. Killed at any moment, it goes on from the last
    finished cell. It writes cells.jsonl, table.csv and record.json.
    Raises: InputError where data are missing; StorageError where the file system refuses.
    """
    place, digest = folder(out, phenomenon.name, settings, seed), code(phenomenon)
    stored = Cells(place / "cells.jsonl", header(phenomenon, settings, seed))
    notes = ["cells of other settings, or of another revision, were replaced"] * (
        stored.begin(again=again) and not again
    )
    cells = list(phenomenon.cells(phenomenon.settings(settings)))
    bench = Bench(phenomenon.name, seed, data_dir)
    worked = _work_pending(phenomenon, settings, cells, stored, bench, jobs, progress=progress)
    finished = stored.finished()
    stale = sum(finished[cell.key]["code"] != digest for cell in cells)
    if stale:
        notes.append(f"{stale} of {len(cells)} cells were made by code that has changed since; --again makes them anew")
    table = pandas.DataFrame([row for cell in cells for row in finished[cell.key]["rows"]])
    result = Result(
        phenomenon=phenomenon,
        settings=settings,
        seed=seed,
        folder=place,
        table=table,
        verdict=phenomenon.judge(table),
        beside=tuple(phenomenon.beside(table)),
        following=following(table, phenomenon.follows),
        seconds=float(sum(finished[cell.key]["seconds"] for cell in cells)),
        cells=len(cells),
        worked=worked,
        notes=tuple(notes),
    )
    files.write_file(place / "table.csv", table.to_csv(index=False).encode())
    files.write_file(place / "record.json", files.as_json(record(result)))
    return result


def part(
    phenomenon: Phenomenon,
    settings: str,
    out: Path,
    where: Mapping[str, str],
    *,
    seed: int = 0,
    jobs: int = 1,
    data_dir: Path | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """The rows of those cells whose fields have these values, worked where they are not stored; nothing is judged.

    What is worked is stored, and `experiment` goes on from there.
    Raises: InputError where a field or a value is unknown, or data are missing; StorageError as `experiment`.
    """
    cells = list(phenomenon.cells(phenomenon.settings(settings)))
    for field, value in where.items():
        known = {str(cell.where[field]) for cell in cells if field in cell.where}
        if not known:
            raise unknown("field", field, {field for cell in cells for field in cell.where})
        if value not in known:
            raise unknown(f"value of {field}", value, known)
    cells = [cell for cell in cells if all(str(cell.where.get(field)) == value for field, value in where.items())]
    if not cells:
        raise InputError(f"no cell of {phenomenon.name} has {', '.join(f'{k}={v}' for k, v in where.items())} at once")
    stored = Cells(folder(out, phenomenon.name, settings, seed) / "cells.jsonl", header(phenomenon, settings, seed))
    stored.begin(again=False)
    _work_pending(phenomenon, settings, cells, stored, Bench(phenomenon.name, seed, data_dir), jobs, progress=progress)
    finished = stored.finished()
    return pandas.DataFrame([row for cell in cells for row in finished[cell.key]["rows"]])


def _work_pending(
    phenomenon: Phenomenon,
    settings: str,
    cells: Sequence[Cell],
    stored: Cells,
    bench: Bench,
    jobs: int,
    *,
    progress: bool,
) -> int:
    """Work and store those of the cells that are not stored; how many there were."""
    finished, digest = stored.finished(), code(phenomenon)
    pending = [cell for cell in cells if cell.key not in finished]
    with tracking(phenomenon.name, sum(cell.work for cell in pending), shown=progress and bool(pending)) as report:
        for cell, rows, seconds in _worked(phenomenon, pending, phenomenon.settings(settings), bench, jobs):
            stored.append(cell.key, rows, seconds, digest)
            report(cell.work, cell.key)
    return len(pending)


def _worked(
    phenomenon: Phenomenon, cells: Sequence[Cell], settings: Any, bench: Bench, jobs: int
) -> Iterator[tuple[Cell, list[Row], float]]:
    if jobs == 1:
        yield from (_work(phenomenon.name, cell, settings, bench, phenomenon) for cell in cells)
        return
    # Functions of a module travel by name, so the worker looks the phenomenon up itself.
    tasks = (joblib.delayed(_work)(phenomenon.name, cell, settings, bench) for cell in cells)
    yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)


def _work(
    name: str, cell: Cell, settings: Any, bench: Bench, phenomenon: Phenomenon | None = None
) -> tuple[Cell, list[Row], float]:
    if phenomenon is None:
        from gapbench.evaluate.phenomena import PHENOMENA

        phenomenon = PHENOMENA[name]
    started = time.process_time()
    rows = [{**cell.where, **row} for row in phenomenon.run(cell, settings, bench)]
    return cell, rows, time.process_time() - started


def record(result: Result) -> dict[str, Any]:
    """The result as JSON: all but the table, which stands beside it in table.csv."""
    return {
        **header(result.phenomenon, result.settings, result.seed),
        "settings_name": result.settings,
        "source": result.phenomenon.source,
        **{name.lower(): result.phenomenon.section(name) for name in ("Paper", "Claim", "Rule", "Tried")},
        "seen": result.verdict.seen,
        "statement": result.verdict.statement,
        "conditions": [_condition(condition) for condition in result.verdict.conditions],
        "published": [asdict(beside) for beside in result.beside],
        "following": result.following.to_dict(orient="records"),
        "processor_seconds": round(result.seconds, 2),
        "cells": result.cells,
        "notes": list(result.notes),
        "environment": environment(),
    }


def _condition(condition: Any) -> dict[str, Any]:
    fields = asdict(condition)
    # JSON has no NaN: a bound that is not defined is null.
    fields["interval"] = {name: None if value != value else value for name, value in fields["interval"].items()}
    fields["holds"] = bool(condition.holds)
    return fields


def plan(phenomenon: Phenomenon, settings: str, out: Path, seed: int = 0) -> str:
    """What `experiment` would do, in a line, with the time it takes if cells of any settings are stored under ``out``.

    The time scales the processor seconds of stored cells by their declared relative work.
    """
    values = phenomenon.settings(settings)
    cells = phenomenon.cells(values)
    finished = Cells(folder(out, phenomenon.name, settings, seed) / "cells.jsonl", header(phenomenon, settings, seed))
    done = finished.finished()
    pending = sum(cell.work for cell in cells if cell.key not in done)
    line = f"{phenomenon.name}, {settings}: {len(cells)} cells, {sum(cell.key not in done for cell in cells)} to do"
    if not pending:
        return line
    for known in ("quick", "full"):
        place = folder(out, phenomenon.name, known, seed) / "cells.jsonl"
        measured = Cells(place, header(phenomenon, known, seed)).finished()
        work = sum(cell.work for cell in phenomenon.cells(phenomenon.settings(known)) if cell.key in measured)
        if work:
            seconds = sum(line["seconds"] for line in measured.values())
            return f"{line}, about {duration(seconds / work * pending)} of processor time (from {known} cells here)"
    return f"{line}, {pending / phenomenon.work(phenomenon.quick):.3g} times the work of quick settings"
