"""What of a zoo is done and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from gapbench.evaluate.compaction import Frames, frames
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import Store
from gapbench.evaluate.work import Instructions
from gapbench.models.spec import RunSpec, run_id


@dataclass(frozen=True)
class Survey:
    """The state of these runs of a zoo under these instructions.

    ``to_train``: runs to be trained; ``to_do``: these, and the runs with readings to be made;
    ``missing``: how many readings are to be made, by measure; ``statuses``: how many readings there are, by status;
    ``failures``: why training failed, by run; ``failed``: readings that failed, by measure and reason; ``changed``:
    readings by code that has changed since, by measure; ``read``: runs and measures that need not be read again.
    """

    made: Frames
    to_train: tuple[RunSpec, ...]
    to_do: tuple[RunSpec, ...]
    missing: Mapping[str, int]
    statuses: Mapping[str, int]
    failures: Mapping[str, str]
    failed: Mapping[tuple[str, str], int]
    changed: Mapping[str, int]
    read: frozenset[tuple[str, str]]


def survey(
    store: Store, specs: Sequence[RunSpec], instructions: Instructions, second: Mapping[str, SecondRuns]
) -> Survey:
    """Look at a zoo without changing it; ``second``: the second runs of each run, by id.

    Raises: Damaged where a stored file is.
    """
    made = frames(store)
    runs = {run_id(spec): spec for spec in specs}
    stored = set(made.outcomes["run"]) & set(runs)
    failures = {}
    for run in runs:
        message = None if run in stored else store.error(run)
        if message is not None and not instructions.retry_failed:
            failures[run] = message
    rows = _current(made.readings, instructions)
    rows = rows[rows["run"].isin(stored)]
    differs = rows["digest"] != rows["digest_now"]
    again = (rows["status"] == "failed") & instructions.retry_failed | differs & instructions.reread
    again |= _made_from_others(rows, instructions, second)
    done_by_run = rows[~again].groupby("run").size()
    done_by_measure = rows[~again].groupby("measure").size()
    active = [run for run in runs if run not in failures]
    complete = len(instructions.measures)
    return Survey(
        made=made,
        to_train=tuple(runs[run] for run in active if run not in stored),
        to_do=tuple(runs[run] for run in active if run not in stored or int(done_by_run.get(run, 0)) < complete),
        missing={key: len(active) - int(done_by_measure.get(key, 0)) for key in instructions.measures},
        statuses={str(status): int(number) for status, number in rows["status"].value_counts().items()},
        failures=failures,
        failed={
            (str(measure), str(reason)): len(group)
            for (measure, reason), group in rows[rows["status"] == "failed"].groupby(["measure", "reason"])
        },
        changed={str(key): int(number) for key, number in rows[differs].groupby("measure").size().items()},
        read=frozenset(zip(rows[~again]["run"], rows[~again]["measure"])),
    )


def _made_from_others(
    rows: pandas.DataFrame, instructions: Instructions, second: Mapping[str, SecondRuns]
) -> pandas.Series[bool]:
    """Which readings were made from other second runs than there are now on the grid."""
    found = pandas.Series(False, index=rows.index)
    for entry in instructions.measures.values():
        if entry.second_runs:
            own = rows[rows["measure"] == entry.key]
            found[own.index] = own["second_runs"] != [second[run].key(entry) for run in own["run"]]
    return found


def _current(readings: pandas.DataFrame, instructions: Instructions) -> pandas.DataFrame:
    entries = instructions.measures.values()
    wanted = pandas.DataFrame(
        {
            "measure": pandas.Series([entry.key for entry in entries], dtype="str"),
            "revision": pandas.Series([entry.revision for entry in entries], dtype="int64"),
            "digest_now": pandas.Series([entry.digest for entry in entries], dtype="str"),
        }
    )
    return readings.merge(wanted, on=["measure", "revision"])
