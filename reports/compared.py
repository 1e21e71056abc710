"""A comparison of two zoos or tables, in the terminal and as Markdown."""

from __future__ import annotations

import math

import pandas as pd
from rich import box
from rich.table import Table as Grid
from rich.text import Text

from gapbench.reports.scores import decimal

_HEADS = ("measure", "score", "first", "second", "change", "")


def terminal(frame: pd.DataFrame) -> Grid:
    """What moved, largest first; changes beyond their interval in bold with a star."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    heads, rows = _cells(frame)
    for head in heads:
        if head in ("group", "measure", "score"):
            grid.add_column(head, overflow="fold", min_width=8)
        else:
            grid.add_column(head, no_wrap=True, justify="right")
    for row in rows:
        grid.add_row(*map(Text, row), style="bold" if row[-1] else "")
    return grid


def as_markdown(frame: pd.DataFrame) -> str:
    """A GitHub table; a star marks a change beyond its interval."""
    heads, rows = _cells(frame)
    marks = [":--" if head in ("group", "measure", "score") else "--:" for head in heads]
    lines = [heads, marks, *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def summary(frame: pd.DataFrame) -> str:
    """One sentence: how many of the changes lie beyond their interval, and whether they are paired."""
    decided = frame["change_low"].notna()
    paired = "paired over the runs that both have" if frame["paired"].any() else "not paired: no run is in both"
    return f"{int(frame['beyond'].sum())} of {int(decided.sum())} changes are beyond their 95 % interval (*); {paired}."


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    grouped = bool(frame["group"].notna().any())
    rows = []
    for row in frame.to_dict("records"):
        change = decimal(row["change"], 3)
        if math.isfinite(row["change_low"]):
            change += f" [{decimal(row['change_low'], 3)}, {decimal(row['change_high'], 3)}]"
        named = [str(row["group"])] if grouped else []
        points = [decimal(row[name], 3) for name in ("first", "second")]
        rows.append([*named, str(row["measure"]), str(row["score"]), *points, change, "*" if row["beyond"] else ""])
    return [*(["group"] if grouped else []), *_HEADS], rows
