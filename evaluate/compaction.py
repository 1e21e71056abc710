"""All runs and readings of a zoo as two frames, and the two Parquet files that make opening it quick."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from gapbench.evaluate import files
from gapbench.evaluate.store import Store
from gapbench.models.spec import as_dict, from_dict
from gapbench.models.trained import Outcome

_ARROW = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
_OUTCOME = {field.name: _ARROW[str(field.type)] for field in dataclasses.fields(Outcome)}
_TEXTS = ("run", "spec", "digests", "outcome_stamp", "readings_stamp")
OUTCOMES = pyarrow.schema({**dict.fromkeys(_TEXTS, pyarrow.string()), **_OUTCOME})
"""Columns of outcomes.parquet: the spec and the digests as JSON, the fields of `Outcome`, and the stamps of the files
they were made from."""
READINGS = pyarrow.schema(
    {
        "run": pyarrow.string(),
        "measure": pyarrow.string(),
        "revision": pyarrow.int64(),
        "digest": pyarrow.string(),
        "value": pyarrow.float64(),
        "standard_error": pyarrow.float64(),
        "status": pyarrow.string(),
        "reason": pyarrow.string(),
        "seconds": pyarrow.float64(),
        "second_runs": pyarrow.string(),
    }
)
"""Columns of readings.parquet: the latest reading of each run, measure and revision."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """The finished runs of a zoo (columns `OUTCOMES`) and their readings (columns `READINGS`), in the order of ids."""

    outcomes: pandas.DataFrame
    readings: pandas.DataFrame


def frames(store: Store) -> Frames:
    """Every finished run and reading: from the Parquet files where these are up to date, else from the runs' own.

    A run is taken from the Parquet files only if its outcome.json and readings.jsonl have the size and the time of
    modification they were made from. Damaged or missing Parquet files cost time, nothing else.

    Raises: Damaged where a run's own file is damaged.
    """
    made = cached(store)
    known = {} if made is None else _stamps(made.outcomes)
    fresh: set[str] = set()
    outcome_rows: list[dict[str, Any]] = []
    reading_rows: list[dict[str, Any]] = []
    for run, folder in store.folders():
        # Joining texts, not paths, takes half the time of opening a large zoo.
        stamps = (stamp(f"{folder}/outcome.json"), stamp(f"{folder}/readings.jsonl"))
        if not stamps[0]:
            continue
        if known.get(run) == stamps:
            fresh.add(run)
        else:
            outcome_rows.append(_outcome_row(store, run, stamps))
            reading_rows += [{"run": run, **row} for row in store.readings(run).values()]
    if made is not None and not outcome_rows and len(fresh) == len(known):
        return made
    outcomes, readings = _frame(outcome_rows, OUTCOMES), _frame(reading_rows, READINGS)
    if made is not None and fresh:
        outcomes = _join(made.outcomes, outcomes, fresh)
        readings = _join(made.readings, readings, fresh)
    return Frames(outcomes, readings)


def compact(store: Store) -> None:
    """Make readings.parquet and outcomes.parquet anew; they hold nothing that the runs' own files do not.

    Raises: Damaged where a run's own file is damaged; StorageError where the file system refuses.
    """
    made = frames(store)
    token = secrets.token_hex(8)
    for name, frame, schema in (("readings", made.readings, READINGS), ("outcomes", made.outcomes, OUTCOMES)):
        content = io.BytesIO()
        table = pyarrow.Table.from_pandas(frame, schema=schema, preserve_index=False)
        table = table.replace_schema_metadata({"compaction": token})
        pyarrow.parquet.write_table(table, content, write_page_checksum=True)
        files.write_file(store.path / f"{name}.parquet", content.getvalue())


def cached(store: Store) -> Frames | None:
    """What the Parquet files hold, up to date or not; `None` where they are missing or damaged."""
    try:
        tables = [
            pyarrow.parquet.read_table(store.path / f"{name}.parquet", page_checksum_verification=True)
            for name in ("outcomes", "readings")
        ]
    except (OSError, pyarrow.ArrowException):
        return None
    # Two files of two compactions, one of them interrupted, do not belong together.
    tokens = [(table.schema.metadata or {}).get(b"compaction") for table in tables]
    if tokens[0] != tokens[1] or any(
        table.schema.names != schema.names for table, schema in zip(tables, (OUTCOMES, READINGS))
    ):
        return None
    return Frames(tables[0].to_pandas(), tables[1].to_pandas())


def _stamps(outcomes: pandas.DataFrame) -> Mapping[str, tuple[str, str]]:
    return {
        run: (outcome, reading)
        for run, outcome, reading in zip(outcomes["run"], outcomes["outcome_stamp"], outcomes["readings_stamp"])
    }


def readings_by_run(made: Frames) -> dict[str, tuple[str, set[tuple[str, int]]]]:
    """Of each run, the stamp of the outcome.json it was made from, and the measures and revisions read."""
    stamps = dict(zip(made.outcomes["run"], made.outcomes["outcome_stamp"]))
    found: dict[str, tuple[str, set[tuple[str, int]]]] = {run: (stamp, set()) for run, stamp in stamps.items()}
    for run, measure, revision in zip(*(made.readings[name] for name in ("run", "measure", "revision"))):
        found[run][1].add((measure, int(revision)))
    return found


def stamp(path: Path | str) -> str:
    """What tells whether a file has changed: its size and the time of its modification; "" where it is missing."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _outcome_row(store: Store, run: str, stamps: tuple[str, str]) -> dict[str, Any]:
    stored = store.stored(run)
    if stored is None:
        raise files.Damaged(f"{store.folder(run)} was deleted while it was read; run the same command again")
    return {
        "run": run,
        "spec": json.dumps(as_dict(stored.spec)),
        "digests": json.dumps(dict(stored.digests)),
        "outcome_stamp": stamps[0],
        "readings_stamp": stamps[1],
        **dataclasses.asdict(stored.outcome),
    }


def _frame(rows: list[dict[str, Any]], schema: pyarrow.Schema) -> pandas.DataFrame:
    frame: pandas.DataFrame = pyarrow.Table.from_pylist(rows, schema=schema).to_pandas()
    return frame


def _join(cached: pandas.DataFrame, direct: pandas.DataFrame, fresh: set[str]) -> pandas.DataFrame:
    kept = cached[cached["run"].isin(fresh)]
    joined = kept if direct.empty else pandas.concat([kept, direct], ignore_index=True)
    return joined.sort_values("run", kind="stable", ignore_index=True)


def specs(made: Frames) -> dict[str, Any]:
    """The specs of the finished runs, by id."""
    return {run: from_dict(json.loads(text)) for run, text in zip(made.outcomes["run"], made.outcomes["spec"])}
