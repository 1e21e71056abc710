"""What a zoo is doing right now, from its folder alone: whoever is working on it, on whatever machine."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gapbench.datasets.errors import InputError
from gapbench.evaluate.claim import Holder, holders
from gapbench.evaluate.compaction import Frames, frames, specs
from gapbench.evaluate.store import Store, open_store
from gapbench.evaluate.zoo import parse
from gapbench.models.spec import run_id

RATE_SECONDS = 3600.0
"""The rate is that of the last hour."""


@dataclass(frozen=True)
class Status:
    """Counts of runs by state, and who is at work.

    A run is in one state: ``waiting`` (not begun), ``training``, ``trained`` (readings are missing, nobody is at it),
    ``reading``, ``done`` (every measure that the zoo was ever read with is read), or ``failed`` (its training failed).
    ``readings``: by status, with "missing"; ``not_converged``: finished runs that did not converge; ``per_hour``: runs
    written to in the last hour, over the part of it since the first; ``seconds_left``: for the runs that are not
    trained, at that rate, and once all are, for those that are not done; `None` without a rate. ``failures``: by
    reason, how many trainings or readings.
    """

    path: Path
    runs: int
    states: Mapping[str, int]
    readings: Mapping[str, int]
    not_converged: int
    per_hour: float | None
    seconds_left: float | None
    failures: Mapping[str, int]
    workers: tuple[Holder, ...]


def status(path: Path, now: float | None = None) -> Status:
    """The state of a stored zoo; nothing is written, and neither torch nor the measures' code is needed.

    ``now``: the time, in seconds since the epoch. Raises: InputError where the folder is no zoo; Damaged where a stored
    file is.
    """
    store = open_store(path)
    made = frames(store)
    wanted = _grid_runs(store, made)
    declared = {key: entry.revision for key, entry in store.declarations().items()}
    rows = made.readings
    rows = rows[rows["measure"].map(declared).eq(rows["revision"])]
    read = rows.groupby("run").size().to_dict()
    finished = set(made.outcomes["run"]) & wanted
    workers = holders(store)
    at_work = {worker.run for worker in workers if worker.alive}
    errors = {run: why for run in sorted(wanted - finished) if (why := store.error(run)) is not None}
    done = {run for run in finished if int(read.get(run, 0)) >= len(declared)}
    states = Counter(
        "done" if run in done
        else ("reading" if run in at_work else "trained") if run in finished
        else "training" if run in at_work
        else "failed" if run in errors
        else "waiting"
        for run in wanted
    )  # fmt: skip
    readings = Counter(rows[rows["run"].isin(finished)]["status"].tolist())
    readings["missing"] = len(wanted) * len(declared) - sum(readings.values())
    failed = rows[rows["status"] == "failed"]
    reasons = Counter(f"{measure}: {why}" for measure, why in zip(failed["measure"], failed["reason"]))
    reasons.update(f"training: {why}" for why in errors.values())
    rate = _per_hour(store, finished, time.time() if now is None else now)
    left = (len(wanted) - len(finished) - len(errors)) or len(finished - done)
    outcomes = made.outcomes[made.outcomes["run"].isin(finished)]
    return Status(
        path=path,
        runs=len(wanted),
        states=dict(states),
        readings=dict(readings),
        not_converged=int((~outcomes["converged"].astype(bool)).sum()),
        per_hour=rate,
        seconds_left=3600 * left / rate if rate else None,
        failures=dict(reasons.most_common()),
        workers=tuple(workers),
    )


def _grid_runs(store: Store, made: Frames) -> set[str]:
    """The ids on the zoo's grid; the root seed is that of any run there is."""
    found = specs(made)
    roots = {spec.root_seed for spec in found.values()}
    if len(roots) > 1:
        raise InputError(f"{store.path} holds runs of several root seeds: {sorted(roots)}")
    grid = parse(store.source() or "", str(store.path / "zoo.toml"), roots.pop() if roots else _begun_seed(store))
    return {run_id(spec) for spec in grid.specs}


def _begun_seed(store: Store) -> int:
    """The root seed of a run that is begun and not finished, 0 where there is none."""
    for run, folder in store.folders():
        if (folder / "spec.json").exists():
            return store.spec(run).root_seed
    return 0


def _per_hour(store: Store, finished: set[str], now: float) -> float | None:
    times = []
    for run in finished:
        folder = store.folder(run)
        name = "readings.jsonl" if (folder / "readings.jsonl").exists() else "outcome.json"
        times.append(os.stat(folder / name).st_mtime)
    recent = [when for when in times if 0 <= now - when <= RATE_SECONDS]
    if len(recent) < 2:
        return None
    return 3600 * len(recent) / max(now - min(recent), 1.0)
