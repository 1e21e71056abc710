"""The leaderboard as text: terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from gapbench.reports.scores import (
    MEASURE,
    RANKING,
    SCORES,
    ceiling_text,
    counts_text,
    method_text,
    place,
    rank_interval,
    rank_labels,
    rows,
    score_text,
    target_label,
)

_SHOWN = (RANKING, "granulated_tau", "randomisation_auc")
_INSIDE = "○"


def terminal(frame: pd.DataFrame, top: int | None = None) -> RenderableType:
    """The leaderboard as a rich renderable that fits 100 columns, best first.

    ``top``: how many ranked measures to show; what is no measure is shown between them, greyed, without a rank. A ring
    marks a score inside its null band. Coverage (ok/u/f) counts ok, undefined and failed readings.
    """
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    grid.add_column("#", justify="right", no_wrap=True)
    grid.add_column("measure", overflow="fold", min_width=20)
    for title in ("   within-noise τ_b", "   granulated τ", "  randomisation AUC"):
        grid.add_column(title, no_wrap=True)
    grid.add_column("ok/u/f", justify="right", no_wrap=True)
    shown, ranks = 0, rank_labels(frame)
    for row, rank in zip(rows(frame), ranks, strict=True):
        if top is not None and rank.isdigit() and int(rank) > top:
            break
        shown += 1
        competes = rank.isdigit()
        emphasis = {"above": "bold", "below": "red"}.get(place(row, RANKING), "") if competes else ""
        grid.add_row(
            rank,
            Text(row["key"] + _kind(row)),
            *(Text(_marked(row, score), style=emphasis if score == RANKING else "") for score in _SHOWN),
            _coverage(row),
            style="" if row["kind"] == MEASURE else "dim",
        )
    left = int((frame["kind"].iloc[shown:] == MEASURE).sum())
    return Group(*_heading(frame), grid, _legend(frame, left))


def _marked(row: dict[str, object], score: str) -> str:
    text = score_text(row, score)
    # A missing minus sign leaves its place empty, so that decimal points stand under one another.
    signed = SCORES[score].low < 0 and not text.startswith("−")
    return f"{_INSIDE if place(row, score) == 'inside' else ' '} {' ' if signed else ''}{text}"


def _kind(row: dict[str, object]) -> str:
    return "" if row["kind"] == MEASURE else f" ({row['kind']})"


def _coverage(row: dict[str, object]) -> str:
    return f"{row['ok']}/{row['undefined']}/{row['failed']}"


def _heading(frame: pd.DataFrame) -> list[RenderableType]:
    target = target_label(str(frame.attrs["target"]))
    return [
        Text.from_markup(f"[bold]Leaderboard[/bold]  target: {escape(target)}"),
        Text(counts_text(frame)),
        Text(f"noise ceiling of τ_b: {ceiling_text(frame)}"),
    ]


def _legend(frame: pd.DataFrame, left: int) -> Text:
    lines = [f"{_INSIDE} inside its null band: no better than a random measure.  Grey: not ranked."]
    lines += ["ok/u/f: readings that are ok, undefined, failed.", method_text(frame)]
    if left:
        lines.insert(0, f"… and {left} more measures")
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
