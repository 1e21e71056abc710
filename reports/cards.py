"""One card a measure: what it is, how it scored and where, what it costs, and what it resembles."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from gapbench.reports import assessed, environments, figures, marks, scatters, scores
from gapbench.reports.findings import bound_verdict
from gapbench.reports.references import Reference, cite

if TYPE_CHECKING:
    from gapbench.evaluate.declared import Declared
    from gapbench.evaluate.table import Table
    from gapbench.measures.registry import Measure


@dataclass(frozen=True)
class Context:
    """What all cards share; ``repeats``: what each measure stands for; ``assessment`` may be missing."""

    table: Table
    frame: pd.DataFrame
    target: str
    levels: Sequence[float]
    references: Mapping[str, Reference]
    repeats: Mapping[str, Sequence[str]]
    neighbours: Mapping[str, Sequence[tuple[str, float]]]
    environments: environments.Environments | None
    assessment: pd.DataFrame | None
    adjusted: pd.DataFrame


def cards(context: Context) -> Iterator[dict[str, Any]]:
    """The cards in the order of the leaderboard; the heights of all scatters share one scale."""
    table, frame, target = context.table, context.frame, context.target
    gaps = table.runs[target]
    gaps = gaps[np.isfinite(gaps)]
    low, high = (float(gaps.min()), float(gaps.max())) if len(gaps) else (0.0, 1.0)
    pad = 0.04 * (high - low) or 0.05
    limits = {name: scores.ceiling(frame, name) for name in scores.SCORES}
    grouping = scatters.architectures(table)
    for at, (row, label) in enumerate(zip(scores.rows(frame), scores.rank_labels(frame), strict=True)):
        key = row["key"]
        entry = table.measures[key]
        data = figures.scatter_data(table, key, target)
        by_noise, by_architecture = (
            scatters.scatters(
                data,
                context.levels,
                limits=(low - pad, high + pad),
                y_label=scores.target_label(target),
                x_label=key,
                groups=None if grouping is None else grouping.of,
                name=f"s{at}",
            )
            if len(data)
            else ("", "")
        )
        yield {
            **row,
            "rank": label,
            "ranks": scores.rank_interval(row),
            "text": scores.score_text(row, scores.RANKING),
            "summary": marks.whisker(row, scores.RANKING, limits[scores.RANKING]),
            "share": scores.share_of_ceiling(row, frame),
            "bound": _bound(table, key) if entry.bound else "",
            "by_noise": by_noise,
            "by_architecture": by_architecture,
            "documentation": documentation(entry),
            "repeats": [(name, documentation(table.measures[name])[0]) for name in context.repeats.get(key, ())],
            "neighbours": [(name, scores.decimal(rho)) for name, rho in context.neighbours.get(key, ())],
            "worst": environments.worst(context.environments, key),
            "citations": cite(entry.source, context.references),
            "revision": entry.revision,
            "knobs": ", ".join(f"{name} = {value}" for name, value in entry.knobs.items()),
            "invariances": ", ".join(name.replace("_", " ") for name in entry.invariances),
            "further": assessed.of_measure(context.assessment, key),
            "p": _p(row, context.adjusted),
            "scores": [_scored(row, name, limits[name]) for name in scores.SCORES],
            "psi": [_scored(row, scores.PSI + axis, None, axis) for axis in scores.axes(frame)],
        }


def _bound(table: Table, key: str) -> str:
    """How a bound did on the runs that converged, as the section of bounds counts them."""
    kept = table.runs["converged"].astype(bool)
    return bound_verdict(table.values[key][kept], table.runs["error_gap"][kept])


def _scored(row: Mapping[str, Any], name: str, limit: Mapping[str, float] | None, title: str = "") -> dict[str, Any]:
    return {
        "title": title or scores.SCORES[name].title,
        "whisker": marks.whisker(row, name, limit),
        "text": scores.score_text(row, name),
        "place": scores.place(row, name),
    }


def _p(row: Mapping[str, Any], adjusted: pd.DataFrame) -> str:
    p = row[f"{scores.RANKING}_p"]
    if not math.isfinite(p):
        return ""
    other = scores.record(adjusted, row["key"])
    holm, bh = (float(other[f"{scores.RANKING}_{name}"]) for name in ("holm", "bh"))
    text = f"p {scores.p_value(p)}"
    return f"{text}; Holm {scores.p_value(holm)}, BH {scores.p_value(bh)}" if math.isfinite(holm) else text


_FIELD_LINE = re.compile(r"[A-Z][a-z]+(?: [a-z]+)?:|[*-] ")


def documentation(entry: Measure | Declared) -> list[Markup]:
    """The paragraphs of a measure's docstring, literals as code; a line "Formula: …" starts its own paragraph."""
    paragraphs: list[list[str]] = [[]]
    for line in (entry.documentation or "No documentation.").splitlines():
        if not line.strip() or _FIELD_LINE.match(line.strip()):
            paragraphs.append([])
        paragraphs[-1].append(line.strip())
    texts = [" ".join(lines).strip() for lines in paragraphs]
    return [Markup(re.sub(r"``?(.+?)``?", r"<code>\1</code>", str(escape(text)))) for text in texts if text]
