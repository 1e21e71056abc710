"""The zoo directory: a folder a run, the grid as given, and what the runs were read with.

    ZOO/  zoo.toml  provenance.json  sources.json  measures.json  outcomes.parquet  readings.parquet
          runs/<2 hex>/<run_id>/  spec.json  weights.safetensors  history.parquet  test.safetensors
                                  trajectory.safetensors  outcome.json  readings.jsonl  error.json  trainings.log
                                  memory.jsonl  claim

``outcome.json`` is the commit mark of training: it holds the digests of the files beside it. It, and every line of
readings.jsonl, has a check sum of its content and of the run it belongs to. Nothing here imports
torch, and nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.datasets.errors import InputError
from gapbench.evaluate import declared, files
from gapbench.evaluate.declared import Declared
from gapbench.models.spec import RunSpec, as_dict, from_dict, run_id
from gapbench.models.trained import Outcome

if TYPE_CHECKING:
    from gapbench.measures.read import Reading

WEIGHTS = "weights.safetensors"
HISTORY = "history.parquet"
TEST = "test.safetensors"
TRAJECTORY = "trajectory.safetensors"
_CHECK = "check"


@dataclass(frozen=True)
class Stored:
    """A finished training run: its spec, how it ended, and the SHA-256 digests of its files by name."""

    run: str
    spec: RunSpec
    outcome: Outcome
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Store:
    """A zoo directory. Methods that write in a run's folder are for the holder of its claim."""

    path: Path

    def folder(self, run: str) -> Path:
        """The folder of a run, whether it is there or not."""
        return self.path / "runs" / run[:2] / run

    def folders(self) -> Iterator[tuple[str, Path]]:
        """Every run that has a folder, finished or not, in the order of the ids."""
        try:
            shelves = sorted(entry.path for entry in os.scandir(self.path / "runs") if entry.is_dir())
        except FileNotFoundError:
            return
        for shelf in shelves:
            for run in sorted(entry.name for entry in os.scandir(shelf) if entry.is_dir()):
                yield run, Path(shelf, run)

    def runs(self) -> list[str]:
        """The ids of the finished runs."""
        return [run for run, _ in self.folders() if self.is_finished(run)]

    def is_finished(self, run: str) -> bool:
        """Whether a run is trained and stored."""
        return (self.folder(run) / "outcome.json").exists()

    def stored(self, run: str) -> Stored | None:
        """A finished run, `None` where it is not finished.

        Raises: Damaged where its files are damaged.
        """
        path = self.folder(run) / "outcome.json"
        record = files.read_json(path)
        if record is None:
            return None
        # Those of the first versions have no check sum.
        check = record.pop(_CHECK, None)
        if not {"outcome", "digests"} <= record.keys() or check not in (None, files.check_sum(run, record)):
            raise files.Damaged(
                f"{path} is damaged: it was changed, or is another run's; delete the folder {path.parent} and run "
                "again: the run is then trained anew, to the same bits"
            )
        return Stored(run, self.spec(run), _outcome(record["outcome"]), record["digests"])

    def spec(self, run: str) -> RunSpec:
        """The spec of a run that was begun.

        Raises: Damaged where it is missing or belongs to another run.
        """
        path = self.folder(run) / "spec.json"
        record = files.read_json(path)
        try:
            spec = from_dict(record or {})
            intact = run_id(spec) == run
        except (TypeError, KeyError):
            intact = False
        if not intact:
            raise files.Damaged(
                f"{path} is missing or does not belong to its folder: delete {path.parent} and run again"
            )
        return spec

    def write_spec(self, spec: RunSpec) -> None:
        """Store a run's spec unless it is there."""
        path = self.folder(run_id(spec)) / "spec.json"
        content = files.as_json(as_dict(spec))
        if not path.exists() or path.read_bytes() != content:
            files.write_file(path, content)

    def commit(self, spec: RunSpec, outcome: Outcome, contents: Mapping[str, bytes]) -> Stored:
        """Store a finished training: its files first, then outcome.json, which makes it count."""
        run = run_id(spec)
        folder = self.folder(run)
        for name, content in contents.items():
            files.write_file(folder / name, content)
        digests = {name: files.digest(content) for name, content in contents.items()}
        stored = self._mark(Stored(run, spec, outcome, digests))
        with files.storing(folder):
            (folder / "error.json").unlink(missing_ok=True)
        return stored

    def add(self, stored: Stored, name: str, content: bytes) -> Stored:
        """Store one more file of a finished run."""
        files.write_file(self.folder(stored.run) / name, content)
        digests = {**stored.digests, name: files.digest(content)}
        return self._mark(dataclasses.replace(stored, digests=digests))

    def _mark(self, stored: Stored) -> Stored:
        record = {"outcome": _outcome_record(stored.outcome), "digests": dict(stored.digests)}
        marked = {**record, _CHECK: files.check_sum(stored.run, record)}
        files.write_file(self.folder(stored.run) / "outcome.json", files.as_json(marked))
        return stored

    def content(self, stored: Stored, name: str) -> bytes:
        """A file of a finished run.

        Raises: Damaged where its digest is not the stored one.
        """
        return files.read_checked(self.folder(stored.run) / name, stored.digests[name])

    def write_error(self, run: str, message: str) -> None:
        """Record that training failed; it is tried again only on request."""
        files.write_file(self.folder(run) / "error.json", files.sealed(run, {"error": message}))

    def error(self, run: str) -> str | None:
        """Why training failed the last time, `None` where it did not.

        Raises: Damaged where the record of it is damaged.
        """
        path = self.folder(run) / "error.json"
        record = files.read_sealed(path, run, "delete it and run again: the training is then tried again")
        return None if record is None else str(record.get("error"))

    def append_readings(self, run: str, readings: Iterable[Reading]) -> None:
        """Store readings, in one write."""
        records = [dataclasses.asdict(reading) for reading in readings]
        lines = [json.dumps({**record, _CHECK: files.check_sum(run, record)}, allow_nan=False) for record in records]
        files.append_lines(self.folder(run) / "readings.jsonl", lines)

    def readings(self, run: str) -> dict[tuple[str, int], dict[str, Any]]:
        """The latest reading of each measure and revision, as stored.

        Raises: Damaged where a line is damaged.
        """
        path = self.folder(run) / "readings.jsonl"
        rows = files.read_lines(path)
        for number, row in enumerate(rows, 1):
            if row.pop(_CHECK, None) not in (None, files.check_sum(run, row)):
                raise files.Damaged(
                    f"{path}, line {number}, is damaged: it was changed, or is another run's; delete the line and run "
                    "again, and what it held is read again"
                )
        return {(row["measure"], row["revision"]): row for row in rows}

    def log_training(self, run: str, event: str) -> None:
        """Append "start" or "end" to trainings.log, so that work done twice can be counted."""
        files.append_lines(self.folder(run) / "trainings.log", [event])

    def trainings(self, run: str) -> list[str]:
        """The events of trainings.log."""
        path = self.folder(run) / "trainings.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return text.removesuffix("\n").split("\n") if text else []

    def declarations(self) -> dict[str, Declared]:
        """The measures that this zoo was read with, by key."""
        records = self.record("measures.json")
        return {key: declared.from_record(record) for key, record in records.items()}

    def declare(self, entries: Iterable[Declared]) -> None:
        """Remember these measures, in place of what was known of them."""

        def merge(old: dict[str, Any]) -> dict[str, Any]:
            return {**old, **{entry.key: declared.to_record(entry) for entry in entries}}

        self.update("measures.json", merge)

    def record_provenance(self, environment: Mapping[str, Any]) -> list[str]:
        """Add an environment to provenance.json unless it is there; the names of what differs from the first one."""
        first: dict[str, Any] = {}

        def merge(old: dict[str, Any]) -> dict[str, Any]:
            known = old.get("environments", [])
            first.update(known[0] if known else environment)
            return {"environments": known if environment in known else [*known, dict(environment)]}

        self.update("provenance.json", merge)
        return sorted(name for name in {*first, *environment} if first.get(name) != environment.get(name))

    def record(self, name: str) -> dict[str, Any]:
        """What a JSON file of the zoo holds, {} where it is missing.

        Raises: Damaged where it is damaged.
        """
        return files.read_sealed(self.path / name, name, "delete this file and run again: it is then made anew") or {}

    def update(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change a JSON file of the zoo under its lock; ``change`` is given what it holds, {} where it is missing."""
        with files.locked(self.path):
            old = self.record(name)
            new = change(old)
            if new != old:
                files.write_file(self.path / name, files.sealed(name, new))

    def source(self) -> str | None:
        """The grid, as given; `None` in a folder that is no zoo yet."""
        path = self.path / "zoo.toml"
        return path.read_text() if path.exists() else None


def begin(path: Path, source_text: str, runs: Iterable[str]) -> Store:
    """Open a zoo's folder for this grid, making it where it is missing.

    Raises: InputError where the folder holds finished runs that are not among ``runs`` (a grid may grow, but two
    grids do not share a folder), or is not empty and no zoo; StorageError where the file system refuses.
    """
    store = Store(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: name a folder for the zoo")
    if path.is_dir() and store.source() is None and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise InputError(f"{path} is not empty and is no zoo (it has no zoo.toml): name another folder")
    strange = set(store.runs()) - set(runs)
    if strange:
        raise InputError(
            f"{path} holds {len(strange)} runs that are not in this grid (say, {min(strange)}): "
            "name another folder, or give the grid and the seed it was begun with, to which values may be added"
        )
    files.make_folder(path)
    if store.source() != source_text:
        files.write_file(path / "zoo.toml", source_text.encode())
    files.make_folder(path / "runs")
    return store


def open_store(path: Path) -> Store:
    """An existing zoo.

    Raises: InputError where the folder is none.
    """
    store = Store(path)
    if store.source() is None:
        what = "is no zoo (it has no zoo.toml)" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: give the folder that `gapbench run` wrote")
    return store


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    # JSON has no infinity: the loss of a diverged run is written as text.
    fields = dataclasses.asdict(outcome)
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def _outcome(record: Mapping[str, Any]) -> Outcome:
    types = {field.name: field.type for field in dataclasses.fields(Outcome)}
    fields: dict[str, Any] = {name: float(v) if types.get(name) == "float" else v for name, v in record.items()}
    return Outcome(**fields)
