"""Progress of a zoo: a bar with the time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from gapbench.evaluate.work import Worked

LINE_SECONDS = 30.0

Report = Callable[[Worked], None]


class Tally:
    """Counts of what was done since the start."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.runs = self.trained = self.read = self.failed = 0

    def add(self, worked: Worked) -> None:
        """Count one unit of work; a run that another process holds does not count."""
        self.runs += not worked.busy
        self.trained += worked.trained
        self.read += len(worked.statuses)
        self.failed += worked.statuses.count("failed") + bool(worked.problem)

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.trained} trained, {self.read} readings{failed}"


@contextlib.contextmanager
def reporting(total: int, *, shown: bool = True) -> Iterator[Report]:
    """Show the progress of ``total`` runs while the block runs; call what it yields after each."""
    tally = Tally(total)
    if not shown or total == 0:
        yield tally.add
    elif sys.stdout.isatty():
        yield from _bar(tally)
    else:
        yield from _lines(tally)


def _bar(tally: Tally) -> Iterator[Report]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        # Runs differ in length: a short window would make the time left jump about.
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=600.0) as progress:
        task = progress.add_task(str(tally), total=tally.total)

        def report(worked: Worked) -> None:
            tally.add(worked)
            progress.update(task, completed=tally.runs, description=str(tally))
            if worked.problem:
                progress.console.print(f"run {worked.run}: {worked.problem}", style="red", markup=False)

        yield report


def _lines(tally: Tally) -> Iterator[Report]:
    started = last = time.monotonic()
    print(f"runs to do: {tally.total}", flush=True)

    def report(worked: Worked) -> None:
        nonlocal last
        tally.add(worked)
        if worked.problem:
            print(f"run {worked.run}: {worked.problem}", flush=True)
        now = time.monotonic()
        if tally.runs and (now - last >= LINE_SECONDS or tally.runs == tally.total):
            last = now
            left = duration((now - started) / tally.runs * (tally.total - tally.runs))
            print(f"runs {tally.runs}/{tally.total}, {tally}, {left} left", flush=True)

    yield report


@contextlib.contextmanager
def stepping(what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Say on the error stream how far a computation of many equal steps is; call what it yields with done and total.

    A line on a terminal is written over; elsewhere a line comes now and then. Nothing is shown of what is quick.
    """
    started = last = time.monotonic()
    terminal = sys.stderr.isatty()
    written = False

    def step(done: int, total: int) -> None:
        nonlocal last, written
        now = time.monotonic()
        if shown and now - last >= (1.0 if terminal else LINE_SECONDS) and done < total:
            last, written = now, True
            left = duration((now - started) / done * (total - done))
            start, end = ("\r\x1b[K", "") if terminal else ("", "\n")
            print(f"{start}{what} {done}/{total}, {left} left", end=end, file=sys.stderr, flush=True)

    try:
        yield step
    finally:
        if written and terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time in the largest fitting unit: "12 s", "3.5 min", "2.1 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
