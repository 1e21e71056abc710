"""The scores of a table from elsewhere, in the terminal, as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table as Grid
from rich.text import Text

from gapbench.reports.scores import decimal
from gapbench.reports.text import _tex

_TITLES = {
    "kendall_tau_b": "tau_b",
    "tau_a": "tau_a",
    "spearman": "rho",
    "r2": "R²",
    "rmse": "rmse",
    "granulated_tau": "granulated tau",
    "conditional_mutual_information": "cond. information",
    "pgdl_score": "PGDL score",
}
_WIDE = ("tau_a",)
"""What the terminal shows without its interval, for want of room."""

_BOUNDED = ("kendall_tau_b", "tau_a", "spearman", "r2", "granulated_tau", "conditional_mutual_information")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One dictionary a row; `None` where a score is not defined."""
    rows = frame.astype(object).to_dict("records")
    return [{str(name): _or_none(value) for name, value in row.items()} for row in rows]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(frame: pd.DataFrame) -> str:
    """A list of records, numbers in full precision."""
    return json.dumps(records(frame), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(frame: pd.DataFrame) -> str:
    """Every column in full precision; an empty field where a score is not defined."""
    return frame.to_csv(index=False, lineterminator="\n")


def terminal(frame: pd.DataFrame) -> Grid:
    """The scores with their intervals, a section for each group, for rich."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    heads, rows = _cells(frame, without_interval=_WIDE)
    for head in heads:
        if head in ("group", "measure"):
            grid.add_column(head, overflow="fold", min_width=8)
        else:
            grid.add_column(head, no_wrap=True, justify="right")
    groups = frame["group"].tolist()
    for at, row in enumerate(rows):
        last = at + 1 == len(rows) or groups[at + 1] != groups[at]
        grid.add_row(*map(Text, row), end_section=last)
    return grid


def as_markdown(frame: pd.DataFrame) -> str:
    """A GitHub table."""
    heads, rows = _cells(frame)
    marks = [":--" if head in ("group", "measure") else "--:" for head in heads]
    lines = [heads, marks, *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_latex(frame: pd.DataFrame) -> str:
    """A booktabs ``tabular``."""
    heads, rows = _cells(frame, minus="-")
    columns = "".join("l" if head in ("group", "measure") else "r" for head in heads)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(_tex(head).replace("²", "$^2$") for head in heads) + r" \\", r"\midrule"]
    for row in rows:
        texts = [_tex(cell) for cell in row[: columns.count("l")]]
        numbers = [cell.replace("-", "$-$") for cell in row[columns.count("l") :]]
        lines.append(" & ".join([*texts, *numbers]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cells(
    frame: pd.DataFrame, minus: str = "−", without_interval: tuple[str, ...] = ()
) -> tuple[list[str], list[list[str]]]:
    grouped = frame["group"].notna().any()
    shown = [name for name in _TITLES if name in frame.columns]
    heads = [*(["group"] if grouped else []), "measure", "n", *(_TITLES[name] for name in shown)]
    rows = []
    for row in frame.to_dict("records"):
        named = [str(row["group"])] if grouped else []
        scores = [_score(row, name, minus, name not in without_interval) for name in shown]
        rows.append([*named, str(row["measure"]), str(row["n"]), *scores])
    return heads, rows


def _score(row: Mapping[Any, Any], name: str, minus: str, interval: bool) -> str:
    point, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if not math.isfinite(point):
        return "–"
    if name not in _BOUNDED:
        return f"{point:.4g}".replace("-", minus)
    text = decimal(point, 3, minus=minus)
    if not (interval and math.isfinite(low)):
        return text
    return f"{text} [{decimal(low, minus=minus)}, {decimal(high, minus=minus)}]"
