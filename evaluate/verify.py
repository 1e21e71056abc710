"""Every file of a zoo looked at: which are damaged, and how only what they hold is done again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gapbench.datasets.errors import InputError
from gapbench.evaluate import files, memory
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import parse

DAMAGED = "damaged"


@dataclass(frozen=True)
class Fault:
    """A damaged file, in words; ``run`` is whose it is, `None` for the zoo's own."""

    run: str | None
    what: str


def verify(store: Store) -> Iterator[Fault]:
    """Every damaged file of a zoo: digests, check sums, and whether each file is of the run whose folder it is in.

    Parquet files are not looked at: they are made from the others, and made again where they do not fit these.
    """
    try:
        parse(store.source() or "", str(store.path / "zoo.toml"))
    except (InputError, UnicodeDecodeError) as error:
        yield Fault(None, f"{store.path / 'zoo.toml'}: {error}; give the grid again: gapbench run GRID.toml --out …")
    for name in ("measures.json", "provenance.json", "sources.json"):
        try:
            files.read_json(store.path / name)
        except files.Damaged as error:
            yield Fault(None, str(error))
    for run, folder in store.folders():
        yield from (Fault(run, what) for what in _faults(store, run, folder))


def _faults(store: Store, run: str, folder: Path) -> Iterator[str]:
    try:
        if (folder / "spec.json").exists():
            store.spec(run)
        stored = store.stored(run)
        for name in () if stored is None else stored.digests:
            assert stored is not None
            store.content(stored, name)
    except files.Damaged as error:
        yield str(error)
    for check in (store.readings, store.error, lambda run: files.read_lines(folder / memory.RECORD)):
        try:
            check(run)
        except files.Damaged as error:
            yield str(error)


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
