"""What running a zoo would do and how long it would take, from the timings that are stored."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapbench.evaluate.compaction import Frames, specs
from gapbench.evaluate.execute import check_specs, make_instructions
from gapbench.evaluate.progress import duration
from gapbench.evaluate.second_runs import second_runs
from gapbench.evaluate.store import Store
from gapbench.evaluate.survey import Survey, survey
from gapbench.evaluate.work import architectures_of
from gapbench.evaluate.zoo import Zoo, shard

_FOLDERS_WEIGHED = 50


@dataclass(frozen=True)
class Plan:
    """Work to do and done. ``seconds`` is wall-clock time with ``jobs`` workers, and ``disk_bytes`` what the runs to
    be trained will take; both are `None` where no run is stored yet. ``untimed``: measures that were never timed and
    are not in ``seconds``."""

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

    def lines(self) -> list[str]:
        """The plan in words, a fact a line."""
        shown = [
            f"runs: {self.runs}, of which trained: {self.trainings_done}, to train: {self.trainings_to_do}",
            f"readings: {self.readings}, of which done: {self.readings_done}, to do: {self.readings_to_do}",
        ]
        if self.trainings_failed:
            shown.append(f"trainings that failed and are not tried again: {self.trainings_failed} (see --retry-failed)")
        if self.seconds is None:
            return [*shown, "time: unknown, no run stored yet", "disk: unknown, no run stored yet"]
        shown.append(f"time: about {duration(self.seconds)} with {self.jobs} worker{'s' * (self.jobs > 1)}")
        if self.untimed:
            shown.append(f"not in that time, because never timed: {', '.join(self.untimed)}")
        return [*shown, f"disk: about {(self.disk_bytes or 0) / 1e6:.1f} MB more"]


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
    seconds, untimed = _seconds(state)
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
    )


def _seconds(state: Survey) -> tuple[float | None, tuple[str, ...]]:
    if state.made.outcomes.empty:
        return None, ()
    training = _training_seconds(state.made)
    overall = sum(training.values()) / len(training)
    total = sum(training.get(spec.data.label_noise, overall) for spec in state.to_train)
    timed = state.made.readings.groupby("measure")["seconds"].mean()
    to_read = {key: number for key, number in state.missing.items() if number}
    total += sum(number * float(timed[key]) for key, number in to_read.items() if key in timed.index)
    return total, tuple(key for key in to_read if key not in timed.index)


def _training_seconds(made: Frames) -> Mapping[float, float]:
    # Noisy labels take several times longer to fit than true ones, so they are averaged apart.
    noise = made.outcomes["run"].map({run: spec.data.label_noise for run, spec in specs(made).items()})
    means = made.outcomes.groupby(noise)["seconds"].mean()
    return dict(zip(means.index.tolist(), means.tolist()))


def _disk_bytes(store: Store, state: Survey) -> int | None:
    weighed = [_folder_bytes(store.folder(run)) for run in state.made.outcomes["run"][:_FOLDERS_WEIGHED]]
    return round(sum(weighed) / len(weighed) * len(state.to_train)) if weighed else None


def _folder_bytes(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder))
