"""What running a zoo would do and how long it would take, from the timings that are stored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapbench.evaluate import memory, stacks
from gapbench.evaluate.execute import check_specs, make_instructions
from gapbench.evaluate.progress import duration
from gapbench.evaluate.second_runs import second_runs
from gapbench.evaluate.store import Store
from gapbench.evaluate.survey import Survey, survey
from gapbench.evaluate.timings import Kind, Timings, axis_counts
from gapbench.evaluate.work import Instructions, architectures_of
from gapbench.evaluate.zoo import Zoo, shard
from gapbench.models.spec import RunSpec, run_id

_FOLDERS_WEIGHED = 50
_MOST_VALUES = 12


@dataclass(frozen=True)
class Share:
    """What runs of one kind take of a plan: how many there are, how many of them are to be trained, and core-seconds
    for training and reading, `None` where nothing was timed. ``guessed``: no run of this kind was timed, so the time is
    that of others of its architecture, or of all."""

    kind: str
    runs: int
    to_train: int
    seconds: float | None
    guessed: bool


@dataclass(frozen=True)
class Plan:
    """Work to do and done. ``seconds`` is wall-clock time with ``jobs`` workers, and ``disk_bytes`` what the runs to
    be trained will take; both are `None` where no run is stored yet. ``untimed``: measures that were never timed and
    are not in ``seconds``. ``axes``: of every field that varies, how many runs have each value; ``shares``: by kind of
    run; ``worker_bytes``: the most memory that a worker took so far, `None` where none was measured;
    ``available_bytes``: what there is; ``way``: how runs are trained here."""

    runs: int
    trainings_done: int
    trainings_to_do: int
    readings: int
    readings_done: int
    readings_to_do: int
    trainings_failed: int
    jobs: int
    seconds: float | None
    disk_bytes: int | None
    untimed: tuple[str, ...]
    axes: Mapping[str, Mapping[Any, int]]
    shares: tuple[Share, ...]
    worker_bytes: int | None
    available_bytes: int | None
    way: str

    def lines(self) -> list[str]:
        """The plan in words, a fact a line."""
        shown = [
            f"runs: {self.runs}, of which trained: {self.trainings_done}, to train: {self.trainings_to_do}",
            f"readings: {self.readings}, of which done: {self.readings_done}, to do: {self.readings_to_do}",
        ]
        shown += [f"  {name}: {_values(counts)}" for name, counts in self.axes.items()]
        if self.trainings_failed:
            shown.append(f"trainings that failed and are not tried again: {self.trainings_failed} (see --retry-failed)")
        shown.append(f"training: {self.way}")
        shown += self._memory_lines()
        if self.seconds is None:
            return [*shown, "time: unknown, no run stored yet", "disk: unknown, no run stored yet"]
        shown += [_share_line(share) for share in self.shares]
        workers = f"{self.jobs} worker{'s' * (self.jobs > 1)}"
        cores = self.seconds * self.jobs / 3600
        shown.append(f"time: about {duration(self.seconds)} with {workers} ({cores:.1f} core-hours)")
        if self.untimed:
            shown.append(f"not in that time, because never timed: {', '.join(self.untimed)}")
        return [*shown, f"disk: about {(self.disk_bytes or 0) / 1e6:.1f} MB more"]

    def _memory_lines(self) -> list[str]:
        each = self.worker_bytes
        if each is None:
            return ["memory: unknown, no run stored yet"]
        here = "" if self.available_bytes is None else f"; {self.available_bytes / 1e9:.1f} GB are free here"
        return [f"memory: {each / 1e9:.1f} GB a worker at most so far, {each * self.jobs / 1e9:.1f} GB in all{here}"]


def _values(counts: Mapping[Any, int]) -> str:
    shown = [f"{value} ({number})" for value, number in list(counts.items())[:_MOST_VALUES]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _share_line(share: Share) -> str:
    hours = "not timed" if share.seconds is None else f"{share.seconds / 3600:.2f} core-hours"
    guessed = ", by the time of other kinds" if share.guessed and share.seconds else ""
    return f"  {share.kind}: {share.runs} runs, to train: {share.to_train}, {hours}{guessed}"


def plan(
    zoo: Zoo,
    out: Path,
    measures: Sequence[str] | None = None,
    *,
    files: Collection[Path] = (),
    networks: Collection[Path] = (),
    jobs: int = 1,
    part: str = "1/1",
    retry_failed: bool = False,
    reread: bool = False,
) -> Plan:
    """What `run` would do with these arguments; nothing is written.

    Raises: InputError as `run` does for wrong names.
    """
    chosen = shard(zoo.specs, part)
    instructions = make_instructions(zoo, measures, files, networks, retry_failed=retry_failed, reread=reread)
    check_specs(chosen, architectures_of(networks))
    store = Store(out)
    state = survey(store, chosen, instructions, second_runs(zoo.specs))
    to_do = sum(state.missing.values())
    active = len(chosen) - len(state.failures)
    timings = Timings(state.made)
    shares, untimed = _shares(chosen, state, instructions, timings)
    seconds = sum(share.seconds or 0.0 for share in shares) if timings.known else None
    return Plan(
        runs=len(chosen),
        trainings_done=active - len(state.to_train),
        trainings_to_do=len(state.to_train),
        readings=active * len(instructions.measures),
        readings_done=active * len(instructions.measures) - to_do,
        readings_to_do=to_do,
        trainings_failed=len(state.failures),
        jobs=jobs,
        seconds=None if seconds is None else seconds / jobs,
        disk_bytes=_disk_bytes(store, state),
        untimed=untimed,
        axes=axis_counts(chosen),
        shares=shares,
        worker_bytes=memory.worker_bytes(store),
        available_bytes=memory.available_bytes(),
        way=stacks.way(state.to_train, instructions),
    )


def _shares(
    chosen: Sequence[RunSpec], state: Survey, instructions: Instructions, timings: Timings
) -> tuple[tuple[Share, ...], tuple[str, ...]]:
    """The plan by kind of run, and the measures that are to be read and were never timed."""
    to_train, runs = {run_id(spec) for spec in state.to_train}, Counter(map(Kind.of, chosen))
    training, seconds, guessed, untimed = Counter[Kind](), dict.fromkeys(runs, 0.0), set[Kind](), set[str]()
    read = _read_already(state, instructions)
    for spec in state.to_do:
        kind, run = Kind.of(spec), run_id(spec)
        if run in to_train:
            training[kind] += 1
            took, exact = timings.training(spec)
            seconds[kind] += took
            if not exact:
                guessed.add(kind)
        for key in instructions.measures:
            if (run, key) in read:
                continue
            found = timings.reading(key, spec)
            seconds[kind] += found or 0.0
            if found is None:
                untimed.add(key)
    shares = tuple(
        Share(str(kind), runs[kind], training[kind], seconds[kind] if timings.known else None, kind in guessed)
        for kind in runs
    )
    return shares, tuple(key for key in instructions.measures if key in untimed)


def _read_already(state: Survey, instructions: Instructions) -> set[tuple[str, str]]:
    return {(run, key) for run, key in state.read if key in instructions.measures}


def _disk_bytes(store: Store, state: Survey) -> int | None:
    weighed = [_folder_bytes(store.folder(run)) for run in state.made.outcomes["run"][:_FOLDERS_WEIGHED]]
    return round(sum(weighed) / len(weighed) * len(state.to_train)) if weighed else None


def _folder_bytes(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder))
