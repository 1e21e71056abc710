"""Run a zoo: the work of each run, mapped over processes; results travel through the store."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate.compaction import compact
from gapbench.evaluate.declared import declared
from gapbench.evaluate.progress import reporting
from gapbench.evaluate.provenance import environment
from gapbench.evaluate.store import Store, begin
from gapbench.evaluate.survey import Survey, survey
from gapbench.evaluate.work import Instructions, Worked, measure_files, registry_of, work
from gapbench.evaluate.zoo import Zoo, parse, shard
from gapbench.models.spec import RunSpec, run_id

WAIT_SECONDS = 2.0
"""How long to wait before asking again for runs that another process is working on."""


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
    jobs: int = 1,
    part: str = "1/1",
    retry_failed: bool = False,
    reread: bool = False,
    data_dir: Path | None = None,
    progress: bool = True,
) -> Summary:
    """Train every run of a zoo that is not stored in ``out``, and read every measure that was not read.

    ``measures``: keys, by default all; ``files``: Python files with more measures; ``jobs``: worker processes of one
    thread each; ``part``: "3/16" does the third of sixteen parts; ``retry_failed``: try failed trainings and readings
    again; ``reread``: read again what was read by code that has changed since.

    Raises: InputError where a name, file or folder is wrong; StorageError where the file system refuses;
    KeyboardInterrupt, whose message says how to continue, where the user stops it. What is finished stays stored.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}, but must be at least 1")
    started = time.monotonic()
    specs = shard(zoo.specs, part)
    instructions = make_instructions(zoo, measures, files, retry_failed=retry_failed, reread=reread, data_dir=data_dir)
    check_specs(specs)
    check_trajectory(zoo, Store(out))
    store = begin(out, zoo.source_text, [run_id(spec) for spec in zoo.specs])
    differing = store.record_provenance(environment())
    before = survey(store, specs, instructions)
    store.declare(instructions.measures.values())
    notes = [*_code_notes(before, instructions)]
    if differing:
        notes.append(
            f"this zoo was begun with other versions ({', '.join(differing)}): bits may differ between its runs"
        )
    trained = read = 0
    problems = {run: f"{why} (not tried again without --retry-failed)" for run, why in before.failures.items()}
    try:
        for worked in _finish(store, before.to_do, instructions, jobs, progress):
            trained += worked.trained
            read += len(worked.statuses)
            if worked.problem:
                problems[worked.run] = worked.problem
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; every finished run is stored in {out}: run the same command again to continue"
        ) from None
    after = survey(store, specs, instructions)
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


def make_instructions(
    zoo: Zoo,
    measures: Sequence[str] | None,
    files: Collection[Path],
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
        measure_files=measure_files(files),
        trajectory_epochs=zoo.trajectory_epochs,
        trajectory_stored=zoo.trajectory_stored,
        retry_failed=retry_failed,
        reread=reread,
        data_dir=None if data_dir is None else str(data_dir),
    )


def check_specs(specs: Sequence[RunSpec]) -> None:
    """Check the names in the specs, so that a misspelt one does not show after hours of training.

    Raises: InputError where a data set, an architecture or a value of theirs is unknown.
    """
    from gapbench.datasets.load import check
    from gapbench.models.build import ARCHITECTURES

    for data in {spec.data for spec in specs}:
        check(data)
    for architecture in {spec.architecture for spec in specs}:
        if architecture not in ARCHITECTURES:
            raise unknown("architecture", architecture, ARCHITECTURES)


def check_trajectory(zoo: Zoo, store: Store) -> None:
    """Check that a zoo is continued with the trajectory epochs it was begun with.

    What was read along another path is not comparable.

    Raises: InputError where the epochs differ.
    """
    source = store.source()
    if source is None or source == zoo.source_text:
        return
    begun = parse(source, str(store.path / "zoo.toml")).trajectory_epochs
    if begun != zoo.trajectory_epochs:
        raise InputError(
            f"{store.path} was begun with trajectory epochs {list(begun)}, "
            f"but this grid has {list(zoo.trajectory_epochs)}: name another folder, or keep the epochs"
        )


def _code_notes(state: Survey, instructions: Instructions) -> Iterator[str]:
    for key, number in state.changed.items():
        if not instructions.reread:
            yield (
                f"measure {key}: its code changed but its revision did not ({number} stored readings were kept): "
                "raise its revision, or run with --reread"
            )


def _finish(
    store: Store, specs: Sequence[RunSpec], instructions: Instructions, jobs: int, progress: bool
) -> Iterator[Worked]:
    remaining = {run_id(spec): spec for spec in specs}
    with reporting(len(remaining), shown=progress) as report:
        while remaining:
            busy = {}
            with contextlib.closing(_map(store, list(remaining.values()), instructions, jobs)) as results:
                for worked in results:
                    report(worked)
                    yield worked
                    if worked.busy:
                        busy[worked.run] = remaining[worked.run]
            remaining = busy
            if remaining:
                time.sleep(WAIT_SECONDS)


def _map(
    store: Store, specs: Sequence[RunSpec], instructions: Instructions, jobs: int
) -> Generator[Worked, None, None]:
    if jobs == 1 or len(specs) == 1:
        with one_thread():
            for spec in specs:
                yield work(store.path, spec, instructions)
        return
    import joblib

    # Starting the tracker unblocks the interrupt, so it has to run before the workers are started.
    resource_tracker.ensure_running()
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1), _born_deaf_to_interrupts():
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        results = parallel(joblib.delayed(_work_in_process)(store.path, spec, instructions) for spec in specs)
    try:
        yield from results
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, most likely because memory ran out; every finished run is stored in "
            f"{store.path}: run the same command again to continue, with fewer --jobs if it happens again"
        ) from error


def _work_in_process(store_path: Path, spec: RunSpec, instructions: Instructions) -> Worked:
    with one_thread():
        return work(store_path, spec, instructions)


@contextlib.contextmanager
def _born_deaf_to_interrupts() -> Iterator[None]:
    """Processes started in the block never receive Ctrl-C, which reaches the whole group; the parent ends them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread while the block runs: the number of threads changes the last bits of sums."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
