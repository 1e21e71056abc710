"""The leaderboard as text: terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from gapbench.datasets.errors import unknown
from gapbench.reports.folded import repeats, unfolded
from gapbench.reports.scores import (
    MEASURE,
    PSI,
    RANKING,
    axes,
    ceiling_text,
    counts_text,
    described,
    method_text,
    place,
    rank_interval,
    rank_labels,
    rows,
    score_text,
    seconds,
    sorted_by,
    target_label,
)

TOP = 20
"""How many ranked measures a terminal shows unless told otherwise."""

_INSIDE = "○"
_ALIKE = 2


def terminal(
    frame: pd.DataFrame, top: int | None = TOP, *, sort: str | None = None, axis: str | None = None
) -> RenderableType:
    """The leaderboard as a rich renderable that fits 100 columns, best first.

    ``top``: how many ranked measures to show, None for all; what is no measure is shown between them, or below the last
    of them, greyed and without a rank, and what repeats a ranking stands behind the name of its parent. ``sort``: one
    of `SORTABLE`, by default the ranking score, or the granulated tau along ``axis`` where one is named. A ring marks
    a score inside its null band. Coverage (ok/u/f) counts ok, undefined and failed readings.
    Raises: InputError where the score or the axis is none.
    """
    along = None if axis is None else _along(frame, axis)
    chosen = sort or along or RANKING
    columns = _columns(chosen, along)
    same = repeats(frame)
    shown = unfolded(sorted_by(frame, chosen))
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    grid.add_column("#", justify="right", no_wrap=True)
    grid.add_column("measure", overflow="fold", min_width=20)
    for name in columns:
        grid.add_column(_heading_of(name), no_wrap=True, justify="right" if name == "seconds" else "left")
    grid.add_column("ok/u/f", justify="right", no_wrap=True)
    left, below = 0, False
    competing = chosen if chosen in frame and chosen != "seconds" else RANKING
    for row, rank in zip(rows(shown), rank_labels(shown, competing), strict=True):
        below = below or (top is not None and rank.isdigit() and int(rank) > top)
        if below and row["kind"] == MEASURE:
            if not left:
                grid.add_row("", "…", style="dim")
            left += 1
            continue
        emphasis = {"above": "bold", "below": "red"}.get(place(row, competing), "") if rank.isdigit() else ""
        grid.add_row(
            rank,
            Text(row["key"] + _kind(row)).append(_alike(row["key"], same), style="dim"),
            *(Text(_cell(row, name), style=emphasis if name == competing else "") for name in columns),
            _coverage(row),
            style="" if row["kind"] == MEASURE else "dim",
        )
    return Group(*_heading(frame), grid, _legend(frame, left, bool(same)))


def ordered(frame: pd.DataFrame, sort: str | None = None, axis: str | None = None) -> pd.DataFrame:
    """The frame in the order that `terminal` shows with the same choices."""
    along = None if axis is None else _along(frame, axis)
    return sorted_by(frame, sort or along or RANKING)


def _along(frame: pd.DataFrame, axis: str) -> str:
    if axis not in axes(frame):
        raise unknown("axis", axis, axes(frame))
    return PSI + axis


def _columns(sort: str, along: str | None) -> list[str]:
    """The ranking, the granulated tau along the axis or all axes, and the AUC; what is sorted by takes a place."""
    columns = [RANKING, along or "granulated_tau", "randomisation_auc"]
    if sort not in (*columns, "measure"):
        columns[2 if along else 1] = sort
    return columns


def _heading_of(name: str) -> str:
    if name == "seconds":
        return "cost a run"
    return f"  {described(name).title.replace('granulated τ along', 'τ along')}"


def _cell(row: Mapping[str, Any], name: str) -> str:
    return seconds(row[name]) if name == "seconds" else _marked(row, name)


def _marked(row: Mapping[str, Any], score: str) -> str:
    text = score_text(row, score)
    # A missing minus sign leaves its place empty, so that decimal points stand under one another.
    signed = described(score).low < 0 and not text.startswith("−")
    return f"{_INSIDE if place(row, score) == 'inside' else ' '} {' ' if signed else ''}{text}"


def _kind(row: Mapping[str, Any]) -> str:
    return "" if row["kind"] == MEASURE else f" ({row['kind']})"


def _alike(key: str, same: Mapping[str, Sequence[str]]) -> str:
    """What a row stands for: " = …_per_sample"."""
    names = [f"…{name.removeprefix(key)}" if name.startswith(key) else name for name in same.get(key, ())]
    if not names:
        return ""
    hidden = len(names) - _ALIKE
    return f" =\N{NO-BREAK SPACE}{', '.join(names[:_ALIKE])}{f' and {hidden} more' if hidden > 0 else ''}"


def _coverage(row: Mapping[str, Any]) -> str:
    return f"{row['ok']}/{row['undefined']}/{row['failed']}"


def _heading(frame: pd.DataFrame) -> list[RenderableType]:
    target = target_label(str(frame.attrs["target"]))
    return [
        Text.from_markup(f"[bold]Leaderboard[/bold]  target: {escape(target)}"),
        Text(counts_text(frame)),
        Text(f"noise ceiling of τ_b: {ceiling_text(frame)}"),
    ]


def _legend(frame: pd.DataFrame, left: int, folded: bool) -> Text:
    lines = [f"{_INSIDE} inside its null band: no better than a random measure.  Grey: not ranked."]
    lines += ["= …: ranks these runs exactly alike."] if folded else []
    lines += ["ok/u/f: readings that are ok, undefined, failed.", method_text(frame)]
    if left:
        lines.insert(0, f"… {left} more measures: --all shows them, --top N so many")
    return Text("\n".join(lines), style="dim")


_HEADINGS = (
    "#",
    "rank 95 %",
    "measure",
    "family",
    "within-noise tau_b",
    "granulated tau",
    "tau_b",
    "randomisation AUC",
    "n",
    "ok/undefined/failed",
)


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    cells = []
    for row, rank in zip(rows(frame), rank_labels(frame), strict=True):
        inside = f" {_INSIDE}" if place(row, RANKING) == "inside" else ""
        cells.append(
            [
                rank,
                rank_interval(row),
                row["key"],
                f"{row['family']}{_kind(row)}",
                score_text(row, RANKING, minus="-") + inside,
                *(score_text(row, score, minus="-") for score in ("granulated_tau", "tau_b", "randomisation_auc")),
                str(row["n"]),
                _coverage(row),
            ]
        )
    return cells


def markdown(frame: pd.DataFrame) -> str:
    """The leaderboard as a GitHub table under its counts; a ring marks a ranking score inside its null band."""
    lines = [
        f"Target: {target_label(str(frame.attrs['target']))}. {counts_text(frame)}. "
        f"Noise ceiling of tau_b: {ceiling_text(frame, minus='-')}.",
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|--:|:--|:--|:--|" + ":--|" * 4 + "--:|--:|",
    ]
    for cells in _cells(frame):
        name = f"`{cells[2]}`" if "`" not in cells[2] else cells[2]
        shown = [*cells[:2], name, *cells[3:]]
        lines.append("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in shown) + " |")
    lines += ["", f"{_INSIDE} inside its null band. {method_text(frame)}.", ""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def latex(frame: pd.DataFrame) -> str:
    """The leaderboard as a booktabs ``tabular``, ready for ``\\input``; a circle marks scores inside the null band."""
    lines = [r"\begin{tabular}{rlllllllrr}", r"\toprule"]
    lines += [" & ".join(_tex(heading) for heading in _HEADINGS) + r" \\", r"\midrule"]
    for cells in _cells(frame):
        shown = [cells[0], cells[1].replace("–", "--"), rf"\texttt{{{_tex(cells[2])}}}", _tex(cells[3])]
        shown += [cell.replace("-", "$-$").replace(_INSIDE, r"$\circ$") for cell in cells[4:8]]
        lines.append(" & ".join([*shown, *cells[8:]]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, f"\\{c}" if c in "#$%&_{}" else c) for c in _one_line(text))


def csv(frame: pd.DataFrame) -> str:
    """Every column of the leaderboard in full precision (the shortest decimals that read back to the same floats)."""
    return frame.to_csv(index_label="measure", lineterminator="\n")
