"""Where units of work are done: in this process, in local processes, on Dask, on Ray, or in jobs of a Slurm cluster.

Results travel through the store, so an engine only carries specs there and `Worked` back; what it loses is done again.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.work import Instructions, Worked, work
from gapbench.models.spec import RunSpec, run_id

Arguments = tuple[Path, RunSpec, Instructions, SecondRuns]
Results = Generator[Worked, None, None]

RETRIES = 3
"""How often a unit is tried again whose worker died, on an engine that notices."""
SHORTEST_BUNDLE, LONGEST_BUNDLE = 10.0, 60.0
"""Minutes: shorter jobs spend their time in a queue, and longer ones are hard to place."""


@dataclass(frozen=True)
class Engine:
    """An engine and its settings.

    ``jobs``: worker processes (local), or at most so many jobs at a time (slurm); Dask and Ray have workers of their
    own. ``address``: of a Dask scheduler or a Ray cluster; without one, a cluster of ``jobs`` workers is started here.
    ``bundle_minutes``: how much work a Slurm job is given; ``settings``: parameters of Slurm as submitit calls them
    (partition = …, account = …), and cluster = "slurm", "local" or "debug".
    """

    name: str = "local"
    jobs: int = 1
    address: str | None = None
    bundle_minutes: float = 30.0
    settings: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises: InputError where the engine is unknown, a setting is wrong, or its package is not installed."""
        if self.name not in ENGINES:
            raise unknown("executor", self.name, ENGINES)
        if self.jobs < 1:
            raise InputError(f"jobs is {self.jobs}, but must be at least 1")
        if not SHORTEST_BUNDLE <= self.bundle_minutes <= LONGEST_BUNDLE:
            raise InputError(
                f"bundles of {self.bundle_minutes:g} minutes: give {SHORTEST_BUNDLE:g} to {LONGEST_BUNDLE:g}"
            )
        if self.name in _PACKAGES:
            _package(self.name)

    def results(self, arguments: Sequence[Arguments], seconds: Callable[[RunSpec], float | None]) -> Results:
        """Do units of work, and give what became of each as it is done; ``seconds``: how long one will take, if known.

        Raises: InputError where workers die again and again, with what to do.
        """
        if self.name == "local":
            return _local(arguments, self.jobs)
        elsewhere: Results = ENGINES[self.name](self, arguments, seconds)
        return elsewhere


def _package(engine: str) -> Any:
    from importlib import import_module

    name = _PACKAGES[engine]
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"--executor {engine} needs {name}: pip install 'gapbench[{engine}]'") from error


def _local(arguments: Sequence[Arguments], jobs: int) -> Results:
    if jobs == 1 or len(arguments) == 1:
        for given in arguments:
            yield in_one_thread(*given)
        return
    import joblib

    # Starting the tracker unblocks the interrupt, so it has to run before the workers are started.
    resource_tracker.ensure_running()
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1), _born_deaf_to_interrupts():
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        results = parallel(joblib.delayed(in_one_thread)(*given) for given in arguments)
    try:
        yield from results
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, most likely because memory ran out; every finished run is stored in "
            f"{arguments[0][0]}: run the same command again to continue, with fewer --jobs if it happens again"
        ) from error


def _dask(engine: Engine, arguments: Sequence[Arguments], seconds: Callable[[RunSpec], float | None]) -> Results:
    distributed = _package("dask")
    with contextlib.ExitStack() as opened:
        if engine.address is None:
            # Workers are processes: two runs in one process would share its number of threads and global generator.
            cluster = distributed.LocalCluster(
                n_workers=engine.jobs, threads_per_worker=1, processes=True, dashboard_address=None
            )
            client = opened.enter_context(distributed.Client(opened.enter_context(cluster)))
        else:
            client = opened.enter_context(distributed.Client(engine.address))
        # Not pure: asked for again after a pause, the same arguments are new work.
        futures = [client.submit(in_one_thread, *given, pure=False, retries=RETRIES) for given in arguments]
        try:
            yield from _dask_results(distributed, futures, arguments)
        finally:
            client.cancel([future for future in futures if not future.done()])


def _dask_results(distributed: Any, futures: Sequence[Any], arguments: Sequence[Arguments]) -> Iterator[Worked]:
    runs = {future.key: run_id(given[1]) for future, given in zip(futures, arguments, strict=True)}
    for future in distributed.as_completed(futures):
        try:
            yield future.result()
        except distributed.scheduler.KilledWorker as error:
            yield Worked(runs[future.key], problem=f"its worker died, again and again: {error}")
        future.release()


def _ray(engine: Engine, arguments: Sequence[Arguments], seconds: Callable[[RunSpec], float | None]) -> Results:
    ray = _package("ray")
    begun = not ray.is_initialized()
    if begun:
        own = {"num_cpus": engine.jobs, "include_dashboard": False} if engine.address is None else {}
        ray.init(address=engine.address, log_to_driver=False, **own)
    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(in_one_thread)
    pending = {remote.remote(*given): run_id(given[1]) for given in arguments}
    try:
        while pending:
            (done, *_), _ = ray.wait(list(pending), num_returns=1)
            run = pending.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.WorkerCrashedError as error:
                yield Worked(run, problem=f"its worker died, again and again: {error}")
    finally:
        for reference in pending:
            ray.cancel(reference)
        if begun:
            ray.shutdown()


@dataclass(frozen=True)
class Bundle:
    """The units of one job of a cluster. A preempted job is put into the queue again; what is stored is kept."""

    arguments: tuple[Arguments, ...]

    def __call__(self) -> list[Worked]:
        """Do the units, one after another."""
        return [in_one_thread(*given) for given in self.arguments]

    def checkpoint(self) -> Any:
        """What submitit puts into the queue when the job is preempted or out of time: the same units."""
        return _package("slurm").helpers.DelayedSubmission(self)


def bundles(
    arguments: Sequence[Arguments], seconds: Callable[[RunSpec], float | None], minutes: float, jobs: int
) -> list[Bundle]:
    """The units in jobs of about ``minutes`` each; in ``jobs`` jobs where nobody knows how long one takes.

    A job's first unit may be longer than that.
    """
    times = [seconds(given[1]) for given in arguments]
    if any(time is None for time in times):
        size = math.ceil(len(arguments) / jobs)
        return [Bundle(tuple(arguments[start : start + size])) for start in range(0, len(arguments), size)]
    made: list[list[Arguments]] = []
    left = 0.0
    for given, time in zip(arguments, times, strict=True):
        if not made or (time or 0.0) > left:
            made.append([])
            left = 60 * minutes
        made[-1].append(given)
        left -= time or 0.0
    return [Bundle(tuple(part)) for part in made]


def _slurm(engine: Engine, arguments: Sequence[Arguments], seconds: Callable[[RunSpec], float | None]) -> Results:
    submitit = _package("slurm")
    settings: dict[str, Any] = {name: _number(value) for name, value in engine.settings.items()}
    cluster = settings.pop("cluster", "slurm")
    try:
        executor = submitit.AutoExecutor(folder=arguments[0][0] / "slurm", cluster=cluster)
        prefixed = {name if name in _SHARED else f"{cluster}_{name}": value for name, value in settings.items()}
        if cluster == "slurm":
            prefixed.setdefault("slurm_array_parallelism", engine.jobs)
        minutes = math.ceil(2 * engine.bundle_minutes)
        executor.update_parameters(**{"timeout_min": minutes, "cpus_per_task": 1, "name": "gapbench", **prefixed})
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise InputError(f"--executor slurm with the settings {dict(engine.settings)}: {error}") from error
    parts = bundles(arguments, seconds, engine.bundle_minutes, engine.jobs)
    if cluster == "slurm":
        executor.update_parameters(slurm_array_parallelism=engine.jobs)
    with executor.batch():
        submitted = [executor.submit(part) for part in parts]
    which = {id(job): part for job, part in zip(submitted, parts, strict=True)}
    try:
        for job in submitit.helpers.as_completed(submitted):
            failure = job.exception()
            if failure is None:
                yield from job.result()
                continue
            # submitit's message is a whole traceback between rules; its last line says what.
            told = [line for line in str(failure).splitlines() if line.strip("- ")]
            why = next((line for line in told[::-1] if "Error" in line), type(failure).__name__)
            for given in which.pop(id(job)).arguments:
                yield Worked(run_id(given[1]), problem=f"its job {job.job_id} failed ({why}): see {job.paths.stderr}")
    except KeyboardInterrupt:
        for job in submitted:
            job.cancel()
        raise


_SHARED = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "name")


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


ENGINES: Mapping[str, Any] = MappingProxyType({"local": None, "dask": _dask, "ray": _ray, "slurm": _slurm})
"""What `--executor` may be."""

_PACKAGES = {"dask": "distributed", "ray": "ray", "slurm": "submitit"}

_ONE_RUN_A_PROCESS = threading.Lock()


def in_one_thread(store_path: Path, spec: RunSpec, instructions: Instructions, second: SecondRuns) -> Worked:
    """`work`, with one thread, and by itself in its process.

    Some engines give a process several units at once; these would share the global random generator.
    """
    from gapbench.models.allocation import keep_freed_memory

    keep_freed_memory()
    with _ONE_RUN_A_PROCESS, one_thread():
        return work(store_path, spec, instructions, second)


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


def settings_of(given: Collection[str]) -> dict[str, str]:
    """NAME=VALUE, each, as a mapping.

    Raises: InputError where one is not of that form.
    """
    found = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name:
            raise InputError(f"--slurm {one!r} is not of the form NAME=VALUE, such as partition=long")
        found[name.strip()] = value.strip()
    return found
