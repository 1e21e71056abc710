"""The state of a zoo on the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from gapbench.evaluate.progress import duration
from gapbench.evaluate.status import Status

_STATES = (
    # A mark of its own for each state, so that nothing hangs on the colour.
    ("done", "█", "blue"),
    ("reading", "▓", "cyan"),
    ("trained", "▒", "cyan"),
    ("training", "░", "yellow"),
    ("failed", "✗", "bold red"),
    ("waiting", "·", "dim"),
)
_WIDTH = 60
MOST_LINES = 8


def rendered(status: Status) -> RenderableType:
    """The counts by state as a bar and a line, readings, rate and time left, failures by reason, and who is at work."""
    parts: list[RenderableType] = [Text(f"{status.path}: {status.runs} runs", style="bold"), _bar(status)]
    counts = Text("  ").join(
        Text(f"{mark} {state} {status.states[state]}", style=style)
        for state, mark, style in _STATES
        if status.states.get(state)
    )
    parts.append(counts)
    order = ("ok", "undefined", "failed", "missing")
    readings = ", ".join(f"{status.readings[name]} {name}" for name in order if status.readings.get(name))
    parts.append(Text(f"readings: {readings or 'none'}; not converged: {status.not_converged} runs"))
    parts.append(Text(_pace(status)))
    if status.failures:
        parts.append(_failures(status))
    parts.append(_workers(status))
    return Group(*parts)


def _bar(status: Status) -> Text:
    bar, drawn, counted = Text(), 0, 0
    for state, mark, style in _STATES:
        counted += status.states.get(state, 0)
        end = round(_WIDTH * counted / max(status.runs, 1))
        # One failure of thousands is still shown.
        end = max(end, drawn + bool(status.states.get(state, 0)))
        bar.append(mark * (end - drawn), style=style)
        drawn = end
    return bar


def _pace(status: Status) -> str:
    if status.per_hour is None:
        return "rate: unknown, fewer than two runs were done in the last hour"
    left = "" if not status.seconds_left else f", {duration(status.seconds_left)} left"
    return f"rate: {status.per_hour:.1f} runs an hour{left}"


def _failures(status: Status) -> Grid:
    grid = Grid("failures", "reason", box=None, header_style="bold red", pad_edge=False)
    for reason, number in list(status.failures.items())[:MOST_LINES]:
        grid.add_row(str(number), escape(reason))
    if len(status.failures) > MOST_LINES:
        grid.add_row("", f"… and {len(status.failures) - MOST_LINES} more reasons")
    return grid


def _workers(status: Status) -> RenderableType:
    if not status.workers:
        return Text("nobody is at work")
    alive = sum(worker.alive for worker in status.workers)
    grid = Grid("run", "at work", "since", box=None, header_style="bold", pad_edge=False)
    for worker in status.workers[:MOST_LINES]:
        owner = worker.owner if worker.alive else f"{worker.owner} (dead: its claim expires)"
        grid.add_row(worker.run, escape(owner), duration(worker.seconds))
    if len(status.workers) > MOST_LINES:
        grid.add_row("", f"… and {len(status.workers) - MOST_LINES} more", "")
    return Group(Text(f"workers: {alive} alive"), grid)
