"""The units of work of a zoo, asked for until all are done; results travel through the store."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gapbench.evaluate.engines import Engine
from gapbench.evaluate.progress import reporting
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import Store
from gapbench.evaluate.work import Instructions, Worked
from gapbench.models.spec import RunSpec, run_id

WAIT_SECONDS = 2.0
"""How long to wait before asking again for runs that another process is working on."""


@dataclass(frozen=True)
class Units:
    """How the units of work of one call are done: with which instructions, and where.

    ``seconds``: how long the work of a run will take, as far as that is known.
    """

    store: Store
    instructions: Instructions
    second: Mapping[str, SecondRuns]
    engine: Engine
    progress: bool
    seconds: Callable[[RunSpec], float | None]

    def finished(self, specs: Iterable[RunSpec]) -> Iterator[Worked]:
        """Do the work of these runs; those that another process holds are asked for again until they are done."""
        remaining = {run_id(spec): spec for spec in specs}
        with reporting(len(remaining), shown=self.progress) as report:
            while remaining:
                busy = {}
                with contextlib.closing(self._results(list(remaining.values()))) as results:
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

    def _results(self, specs: Sequence[RunSpec]) -> Generator[Worked, None, None]:
        arguments = [(self.store.path, spec, self.instructions, self.second[run_id(spec)]) for spec in specs]
        return self.engine.results(arguments, self.seconds)
