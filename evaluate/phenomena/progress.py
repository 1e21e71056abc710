"""Progress of a phenomenon: a bar with the time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from gapbench.evaluate.progress import LINE_SECONDS, duration


@contextlib.contextmanager
def tracking(name: str, total: float, *, shown: bool = True) -> Iterator[Callable[[float, str], None]]:
    """Show how much of ``total`` relative work is done while the block runs; call what it yields after each cell."""
    if not shown:
        yield lambda work, what: None
    elif sys.stderr.isatty():
        yield from _bar(name, total)
    else:
        yield from _lines(name, total)


def _bar(name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(name),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    started, done = time.monotonic(), 0.0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)

        def report(work: float, what: str) -> None:
            nonlocal done
            done += work
            left = duration((time.monotonic() - started) / done * max(total - done, 0.0))
            progress.update(task, completed=done, description=f"{left} left ({what})")

        yield report


def _lines(name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    started = last = time.monotonic()
    done = 0.0

    def report(work: float, what: str) -> None:
        nonlocal done, last
        done += work
        now = time.monotonic()
        if now - last >= LINE_SECONDS or done >= total:
            last = now
            left = duration((now - started) / done * max(total - done, 0.0))
            print(f"{name}: {done / total:.0%} ({what}), {left} left", file=sys.stderr, flush=True)

    yield report
