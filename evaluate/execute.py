"""Run a zoo: what is asked for is checked, the work of its runs is done, and what became of it is told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate import stacks
from gapbench.evaluate.compaction import compact
from gapbench.evaluate.declared import declared
from gapbench.evaluate.engines import Engine
from gapbench.evaluate.progress import reporting
from gapbench.evaluate.provenance import environment
from gapbench.evaluate.second_runs import second_runs
from gapbench.evaluate.sources import check_sources
from gapbench.evaluate.store import Store, begin
from gapbench.evaluate.survey import Survey, survey
from gapbench.evaluate.timings import Timings
from gapbench.evaluate.units import Units
from gapbench.evaluate.work import Instructions, Worked, architectures_of, own_files, registry_of
from gapbench.evaluate.zoo import Zoo, parse, shard
from gapbench.models.spec import RunSpec, run_id


@dataclass(frozen=True)
class Summary:
    """The state of a zoo (or of a shard) after `run`.

    ``trained`` and ``read`` count what this call did; ``readings_ok``, ``readings_undefined`` and ``readings_failed``
    what the store now holds of the chosen measures; ``problems`` says, by run, why a run is not finished, and by
    measure, why its readings failed; ``notes`` are things to know that are no failures.
    """

    out: Path
    runs: int
    trained: int
    read: int
    readings_ok: int
    readings_undefined: int
    readings_failed: int
    not_converged: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 where every run is trained and no reading failed, else 1."""
        return int(bool(self.problems))


def run(
    zoo: Zoo,
    out: Path,
    measures: Sequence[str] | None = None,
    *,
    files: Collection[Path] = (),
    networks: Collection[Path] = (),
    jobs: int = 1,
    engine: Engine | None = None,
    part: str = "1/1",
    retry_failed: bool = False,
    reread: bool = False,
    data_dir: Path | None = None,
    progress: bool = True,
) -> Summary:
    """Train every run of a zoo that is not stored in ``out``, and read every measure that was not read.

    ``measures``: keys, by default all; ``files``: Python files with more measures, ``networks``: with more
    architectures; ``jobs``: worker processes of one thread each; ``engine``: where the work is done,
    by default in so many processes here; ``part``: "3/16" does the third of sixteen parts;
    ``retry_failed``: try failed trainings and readings again; ``reread``: read again what was read by code that has
    changed since.

    Raises: InputError where a name, file or folder is wrong; StorageError where the file system refuses;
    KeyboardInterrupt, whose message says how to continue, where the user stops it. What is finished stays stored.
    """
    engine = Engine(jobs=jobs) if engine is None else engine
    engine.check()
    started = time.monotonic()
    specs = shard(zoo.specs, part)
    instructions = make_instructions(
        zoo, measures, files, networks, retry_failed=retry_failed, reread=reread, data_dir=data_dir
    )
    architectures = architectures_of(networks)
    check_specs(specs, architectures)
    check_trajectory(zoo, Store(out))
    store = begin(out, zoo.source_text, [run_id(spec) for spec in zoo.specs])
    check_sources(store, zoo.specs, architectures, data_dir)
    differing = store.record_provenance(environment())
    second = second_runs(zoo.specs)
    before = survey(store, specs, instructions, second)
    store.declare(instructions.measures.values())
    notes = [*_code_notes(before, instructions)]
    if differing:
        notes.append(
            f"this zoo was begun with other versions ({', '.join(differing)}): bits may differ between its runs"
        )
    trained = read = 0
    problems = {run: f"{why} (not tried again without --retry-failed)" for run, why in before.failures.items()}
    try:
        units = Units(store, instructions, second, engine, progress, _estimate(before, instructions))
        for worked in _stacked(store, before.to_train, instructions, progress):
            trained += worked.trained
        for worked in itertools.chain(units.finished(before.to_do), units.finished_late(zoo.specs, specs)):
            trained += worked.trained
            read += len(worked.statuses)
            if worked.problem:
                problems[worked.run] = worked.problem
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; every finished run is stored in {out}: run the same command again to continue"
        ) from None
    after = survey(store, specs, instructions, second)
    late = sum(after.missing[entry.key] for entry in instructions.measures.values() if entry.second_runs)
    if late:
        notes.append(f"{late} readings wait for second runs (other seeds, random labels) that are not trained yet")
    compact(store)
    outcomes = after.made.outcomes[after.made.outcomes["run"].isin({run_id(spec) for spec in specs})]
    return Summary(
        out=out,
        runs=len(specs),
        trained=trained,
        read=read,
        readings_ok=after.statuses.get("ok", 0),
        readings_undefined=after.statuses.get("undefined", 0),
        readings_failed=after.statuses.get("failed", 0),
        not_converged=int((~outcomes["converged"]).sum()),
        problems=(
            *(f"run {run}: {problem}" for run, problem in problems.items()),
            *(f"measure {key} failed on {number} runs: {why}" for (key, why), number in after.failed.items()),
        ),
        notes=tuple(notes),
        seconds=time.monotonic() - started,
    )


def _stacked(store: Store, specs: Sequence[RunSpec], instructions: Instructions, progress: bool) -> Iterator[Worked]:
    """Where there is a GPU, the runs that are trained there in stacks; what fails is tried again by itself."""
    on = stacks.device()
    if on is None:
        return
    total = sum(len(stack) for stack in stacks.stacks(specs, instructions))
    with reporting(total, shown=progress) as report:
        yield from stacks.trained_in_stacks(store, specs, instructions, on, report)


def _estimate(before: Survey, instructions: Instructions) -> Callable[[RunSpec], float | None]:
    """Seconds that the work of a run will take, by stored times; `None` where no training is stored."""
    timings, trained = Timings(before.made), set(before.made.outcomes["run"])

    def seconds(spec: RunSpec) -> float | None:
        if not timings.known:
            return None
        run = run_id(spec)
        readings = (timings.reading(key, spec) for key in instructions.measures if (run, key) not in before.read)
        return (0.0 if run in trained else timings.training(spec)[0]) + sum(one or 0.0 for one in readings)

    return seconds


def make_instructions(
    zoo: Zoo,
    measures: Sequence[str] | None,
    files: Collection[Path],
    networks: Collection[Path] = (),
    *,
    retry_failed: bool = False,
    reread: bool = False,
    data_dir: Path | None = None,
) -> Instructions:
    """What is to be done with every run of a zoo.

    Raises: InputError where a measure is unknown or a file of measures is missing or wrong.
    """
    registry = registry_of(files)
    keys = list(registry.measures) if measures is None else list(dict.fromkeys(measures))
    for key in keys:
        if key not in registry.measures:
            raise unknown("measure", key, registry.measures)
    chosen = [registry.measures[key] for key in keys]
    return Instructions(
        measures={entry.key: declared(entry, registry.digest(entry), registry.closure(entry)) for entry in chosen},
        measure_files=own_files(files, "measures"),
        network_files=own_files(networks, "networks"),
        trajectory_epochs=zoo.trajectory_epochs,
        trajectory_checkpoints=zoo.trajectory_checkpoints,
        trajectory_stored=zoo.trajectory_stored,
        retry_failed=retry_failed,
        reread=reread,
        data_dir=None if data_dir is None else str(data_dir),
    )


def check_specs(specs: Sequence[RunSpec], architectures: Collection[str] | None = None) -> None:
    """Check the names in the specs, so that a misspelt one does not show after hours of training.

    ``architectures``: the names that there are, by default those of the bundled ones.
    Raises: InputError where a data set, an architecture, a loss or a value of theirs is unknown.
    """
    from gapbench.datasets.load import check
    from gapbench.models.augment import AUGMENTATIONS
    from gapbench.models.build import ARCHITECTURES
    from gapbench.models.initialise import ACTIVATIONS
    from gapbench.models.losses import LOSSES
    from gapbench.models.optimisers import OPTIMISERS
    from gapbench.models.train import PRECISIONS

    for data in {spec.data for spec in specs}:
        check(data)
    known: dict[str, Collection[str]] = {
        "architecture": ARCHITECTURES if architectures is None else architectures,
        "activation": ACTIVATIONS,
        "augmentation": AUGMENTATIONS,
        "loss": LOSSES,
        "optimiser": OPTIMISERS,
        "precision": PRECISIONS,
    }
    for field, names in known.items():
        for name in {getattr(spec, field) for spec in specs}:
            if name not in names:
                raise unknown(field, name, names)


def check_trajectory(zoo: Zoo, store: Store) -> None:
    """Check that a zoo is continued with the trajectory it was begun with.

    What was read along another path is not comparable.

    Raises: InputError where the epochs, or whether checkpoints are kept, differ.
    """
    source = store.source()
    if source is None or source == zoo.source_text:
        return
    try:
        begun = parse(source, str(store.path / "zoo.toml"))
    except InputError:
        # A damaged grid is written anew from the one that is given; `begin` compares that with the runs there are.
        return
    if begun.trajectory_epochs != zoo.trajectory_epochs:
        raise InputError(
            f"{store.path} was begun with trajectory epochs {list(begun.trajectory_epochs)}, "
            f"but this grid has {list(zoo.trajectory_epochs)}: name another folder, or keep the epochs"
        )
    if begun.trajectory_checkpoints != zoo.trajectory_checkpoints:
        kept = "with" if begun.trajectory_checkpoints else "without"
        raise InputError(
            f"{store.path} was begun {kept} trajectory checkpoints: name another folder, or keep that setting"
        )


def _code_notes(state: Survey, instructions: Instructions) -> Iterator[str]:
    for key, number in state.changed.items():
        if not instructions.reread:
            yield (
                f"measure {key}: its code changed but its revision did not ({number} stored readings were kept): "
                "raise its revision, or run with --reread"
            )
