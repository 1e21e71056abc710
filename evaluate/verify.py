"""Every file of a zoo looked at: which are damaged, and how only what they hold is done again."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gapbench.datasets.errors import InputError
from gapbench.evaluate import compaction, files, memory
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import parse
from gapbench.models.spec import run_id

DAMAGED = "damaged"


@dataclass(frozen=True)
class Fault:
    """A damaged file, in words; ``run`` is whose it is, `None` for the zoo's own."""

    run: str | None
    what: str


def verify(store: Store) -> Iterator[Fault]:
    """Every damaged file of a zoo: digests, check sums, and whether each file is of the run whose folder it is in.

    Parquet files are made from the others, and made again where they do not fit these; but what they hold of a run and
    the run's own file lacks was lost from that.
    """
    yield from (Fault(None, what) for what in _own_faults(store))
    cached = compaction.cached(store)
    known = {} if cached is None else compaction.readings_by_run(cached)
    for run, folder in store.folders():
        yield from (Fault(run, what) for what in _faults(store, run, folder, known.get(run)))


def _own_faults(store: Store) -> Iterator[str]:
    grid = store.path / "zoo.toml"
    again = "give the grid again: gapbench run GRID.toml --out …"
    for name in ("measures.json", "provenance.json", "sources.json"):
        try:
            store.record(name)
        except files.Damaged as error:
            yield str(error)
    try:
        wanted = {
            run_id(spec) for root in _root_seeds(store) for spec in parse(store.source() or "", str(grid), root).specs
        }
    except (InputError, UnicodeDecodeError) as error:
        yield f"{grid}: {error}; {again}"
        return
    strange = sorted(set(store.runs()) - wanted)
    if strange:
        yield f"{grid} was changed, or is another zoo's: {len(strange)} runs (say, {strange[0]}) are not on it; {again}"


def _root_seeds(store: Store) -> set[int]:
    found = set()
    for run in store.runs():
        with contextlib.suppress(files.Damaged):
            found.add(store.spec(run).root_seed)
    return found or {0}


def _faults(store: Store, run: str, folder: Path, known: tuple[str, set[tuple[str, int]]] | None) -> Iterator[str]:
    try:
        if (folder / "spec.json").exists():
            store.spec(run)
        stored = store.stored(run)
        for name in () if stored is None else stored.digests:
            assert stored is not None
            store.content(stored, name)
    except files.Damaged as error:
        yield str(error)
    for check in (store.readings, store.error, lambda run: memory.check(folder, run)):
        try:
            check(run)
        except files.Damaged as error:
            yield str(error)
    # A file that somebody is writing may well end in the middle of a line.
    if not (folder / "claim").exists():
        yield from _torn(folder)
    if known is not None:
        with contextlib.suppress(files.Damaged):
            yield from _lost(store, run, folder, *known)
    events = store.trainings(run)
    if not set(events) <= {"start", "end"}:
        yield f"{folder / 'trainings.log'} is damaged: it has other lines than start and end; delete it: it only counts"


def _torn(folder: Path) -> Iterator[str]:
    for name in ("readings.jsonl", memory.RECORD, "trainings.log"):
        path = folder / name
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):
            yield (
                f"{path} ends in the middle of a line: its writer was killed, or it was truncated; run again, and what "
                "is missing is read again"
            )


def _lost(store: Store, run: str, folder: Path, stamp: str, rows: set[tuple[str, int]]) -> Iterator[str]:
    # Another outcome.json is that of a run done again, whose readings are not expected to be there already.
    if stamp != compaction.stamp(folder / "outcome.json"):
        return
    lost = sorted(rows - store.readings(run).keys())
    if lost:
        yield (
            f"{folder / 'readings.jsonl'} lacks {len(lost)} readings that were in it (say, {lost[0][0]}): run again, "
            "and they are read again"
        )


def set_aside(store: Store, run: str) -> Path:
    """Move a run's folder to ZOO/damaged, so that the next `run` does this run, and nothing else, again.

    Raises: InputError where somebody is working on it.
    """
    folder = store.folder(run)
    with claimed(folder, store.path) as claim:
        if claim is None:
            raise InputError(f"{folder} is being worked on: try again when that is over")
        claim.path.unlink()
        target = store.path / DAMAGED / f"{run}-{secrets.token_hex(4)}"
        files.make_folder(target.parent)
        with files.storing(target):
            folder.rename(target)
    return target
