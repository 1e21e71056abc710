"""The units of work of a zoo, mapped over processes; results travel through the store."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

from gapbench.datasets.errors import InputError
from gapbench.evaluate.progress import reporting
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import Store
from gapbench.evaluate.work import Instructions, Worked, work
from gapbench.models.spec import RunSpec, run_id

WAIT_SECONDS = 2.0
"""How long to wait before asking again for runs that another process is working on."""


@dataclass(frozen=True)
class Units:
    """How the units of work of one call are done: with which instructions, in how many processes."""

    store: Store
    instructions: Instructions
    second: Mapping[str, SecondRuns]
    jobs: int
    progress: bool

    def finished(self, specs: Iterable[RunSpec]) -> Iterator[Worked]:
        """Do the work of these runs; those that another process holds are asked for again until they are done."""
        remaining = {run_id(spec): spec for spec in specs}
        with reporting(len(remaining), shown=self.progress) as report:
            while remaining:
                busy = {}
                with contextlib.closing(self._mapped(list(remaining.values()))) as results:
                    for worked in results:
                        report(worked)
                        yield worked
                        if worked.busy:
                            busy[worked.run] = remaining[worked.run]
                remaining = busy
                if remaining:
                    time.sleep(WAIT_SECONDS)

    def finished_late(self, zoo: Iterable[RunSpec], own: Iterable[RunSpec]) -> Iterator[Worked]:
        """Make the readings that had to wait for second runs, once the work of the runs ``own`` of a zoo is done.

        Among them are those of runs of other parts of the zoo that waited for one of ``own``: of two parts, the one
        that is done last does them.
        """
        runs = {run_id(spec) for spec in own}
        # What failed a moment ago is not tried again.
        units = dataclasses.replace(
            self, instructions=dataclasses.replace(self.instructions, retry_failed=False, reread=False)
        )
        yield from units.finished([spec for spec in zoo if units._is_ready(spec, runs)])

    def _is_ready(self, spec: RunSpec, own: Collection[str]) -> bool:
        run = run_id(spec)
        entries = [entry for entry in self.instructions.measures.values() if entry.second_runs]
        needed = {entry.key: {run_id(other) for other in self.second[run].needed(entry)} for entry in entries}
        if not entries or not self.store.is_finished(run) or not {run, *set().union(*needed.values())} & set(own):
            return False
        pending = self.instructions.pending(self.store.readings(run), self.second[run])
        return any(key in needed and all(map(self.store.is_finished, needed[key])) for key in pending)

    def _mapped(self, specs: Sequence[RunSpec]) -> Generator[Worked, None, None]:
        arguments = [(self.store.path, spec, self.instructions, self.second[run_id(spec)]) for spec in specs]
        if self.jobs == 1 or len(specs) == 1:
            with one_thread():
                for given in arguments:
                    yield work(*given)
            return
        import joblib

        # Starting the tracker unblocks the interrupt, so it has to run before the workers are started.
        resource_tracker.ensure_running()
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1), _born_deaf_to_interrupts():
            parallel = joblib.Parallel(n_jobs=self.jobs, return_as="generator_unordered", batch_size=1)
            results = parallel(joblib.delayed(_work_in_process)(*given) for given in arguments)
        try:
            yield from results
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, most likely because memory ran out; every finished run is stored in "
                f"{self.store.path}: run the same command again to continue, with fewer --jobs if it happens again"
            ) from error


def _work_in_process(store_path: Path, spec: RunSpec, instructions: Instructions, second: SecondRuns) -> Worked:
    with one_thread():
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
