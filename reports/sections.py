"""The parts of the report: what each section of the page shows, computed from the table and its leaderboard."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from gapbench.reports import figures, marks, scores
from gapbench.reports.findings import bound_verdict
from gapbench.reports.references import Reference, cite

if TYPE_CHECKING:
    from gapbench.evaluate.declared import Declared
    from gapbench.evaluate.table import Table
    from gapbench.measures.registry import Measure


def leaderboard(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the leaderboard with their rank, whisker, score texts and places against the null bands."""
    limit = scores.ceiling(frame)
    labels = scores.rank_labels(frame)
    return [
        {
            **row,
            "rank": label,
            "ranks": scores.rank_interval(row),
            "whisker": marks.whisker(row, scores.RANKING, limit),
            "text": {score: scores.score_text(row, score) for score in scores.SCORES},
            "place": {score: scores.place(row, score) for score in scores.SCORES},
        }
        for row, label in zip(scores.rows(frame), labels, strict=True)
    ]


def legend(levels: Sequence[float]) -> dict[str, Any]:
    """The markers of the label-noise levels with their names, and their colours on light and dark ground."""
    names = {0.0: "0 (true labels)", 1.0: "1 (random labels)"}
    shapes = figures.shapes(len(levels))
    return {
        "levels": [(marks.legend_mark(i, shapes[i]), names.get(level, f"{level:g}")) for i, level in enumerate(levels)],
        "outside": marks.legend_mark(None, "circle"),
        "light": figures.colours(len(levels)),
        "dark": figures.colours(len(levels), figures.DARK_RAMP),
    }


def randomisation(table: Table, frame: pd.DataFrame, levels: Sequence[float]) -> dict[str, Any]:
    """The rows of the randomisation test, best first, and the half-width of its axis of rank shifts."""
    data = figures.randomisation_data(table)
    if data.empty or frame["randomisation_auc"].notna().sum() == 0:
        return {"rows": [], "reach": 0.5}
    summary = figures.randomisation_summary(data)
    reach = math.ceil(20 * float(summary[["low", "high"]].abs().max().max()) + 1e-9) / 20 or 0.05
    by_measure = dict(iter(summary.groupby("measure")))
    ordered = frame[frame["randomisation_auc"].notna()].sort_values("randomisation_auc", ascending=False, kind="stable")
    rows = [
        {
            **row,
            "strip": marks.shift_strip(by_measure[row["key"]], levels, reach) if row["key"] in by_measure else "",
            "whisker": marks.whisker(row, "randomisation_auc"),
            "text": scores.score_text(row, "randomisation_auc"),
            "place": scores.place(row, "randomisation_auc"),
        }
        for row in scores.rows(ordered)
    ]
    return {"rows": rows, "reach": reach}


def cards(
    table: Table, frame: pd.DataFrame, levels: Sequence[float], target: str, references: Mapping[str, Reference]
) -> Iterator[dict[str, Any]]:
    """One card a measure, in the order of the leaderboard; the heights of all scatters share one scale."""
    gaps = table.runs[target]
    gaps = gaps[np.isfinite(gaps)]
    low, high = (float(gaps.min()), float(gaps.max())) if len(gaps) else (0.0, 1.0)
    pad = 0.04 * (high - low) or 0.05
    limits = {name: scores.ceiling(frame, name) for name in scores.SCORES}
    for row, label in zip(scores.rows(frame), scores.rank_labels(frame), strict=True):
        key = row["key"]
        entry = table.measures[key]
        data = figures.scatter_data(table, key, target)
        yield {
            **row,
            "rank": label,
            "ranks": scores.rank_interval(row),
            "psi": scores.psi_text(row),
            "bound": bound_verdict(table.values[key], table.runs["error_gap"]) if entry.bound else "",
            "scatter": marks.scatter(
                data, levels, limits=(low - pad, high + pad), y_label=scores.target_label(target), x_label=key
            )
            if len(data)
            else "",
            "documentation": documentation(entry),
            "citations": cite(entry.source, references),
            "scores": [
                {
                    "title": score.title,
                    "whisker": marks.whisker(row, name, limits[name]),
                    "text": scores.score_text(row, name),
                    "place": scores.place(row, name),
                }
                for name, score in scores.SCORES.items()
            ],
        }


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


_NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def absences(readings: pd.DataFrame, most: int = 3) -> list[dict[str, Any]]:
    """What has no value, or one with a remark, and why: per measure and status the ``most`` frequent reasons.

    Reasons that differ in their numbers alone are counted together and shown by the first. Failed come first, then
    undefined, then ok with a remark (an estimator stopped at its cap), each by count.
    """
    reason = readings["reason"].fillna("")
    told = readings.assign(reason=reason)[(readings["status"] != "ok") | (reason != "")]
    found = []
    for (measure, status), part in told.groupby(["measure", "status"], sort=True):
        texts = part["reason"].replace("", "no reason was given")
        grouped = texts.groupby(texts.map(lambda text: _NUMBER.sub("#", text)), sort=False).agg(["first", "size"])
        reasons = [(str(a), int(n)) for a, n in grouped.sort_values("size", ascending=False, kind="stable").to_numpy()]
        shown = reasons if len(reasons) == most + 1 else reasons[:most]
        found.append(
            {
                "measure": str(measure),
                "status": str(status),
                "count": len(part),
                "reasons": shown,
                "more": len(reasons) - len(shown),
                "run": str(part["run"].iloc[0]),
            }
        )
    order = {"failed": 0, "undefined": 1, "ok": 2}
    return sorted(found, key=lambda item: (order[item["status"]], -item["count"], item["measure"]))


def axes(table: Table) -> list[tuple[str, list[tuple[str, int]]]]:
    """The hyper-parameters that vary, each with its values in order and the number of runs at each."""
    found = []
    for axis in table.axes:
        counts = sorted(table.runs[axis].value_counts(dropna=False, sort=False).items(), key=_order)
        found.append((axis, [(_shown(value), int(count)) for value, count in counts]))
    return found


def _order(item: tuple[Any, int]) -> tuple[bool, float, str]:
    value = item[0]
    number = isinstance(value, int | float | np.number) and math.isfinite(value)
    return not number, float(value) if number else 0.0, str(value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def outcomes(runs: pd.DataFrame, target: str) -> list[dict[str, Any]]:
    """One row a label-noise level: runs, how many converged, and over those the mean errors, gap and epochs."""
    found = []
    for level, part in runs.groupby("label_noise", sort=True):
        kept = part[part["converged"].astype(bool)]
        means = {name: float(kept[name].mean()) for name in ("train_error", "test_error", "clean_test_error", target)}
        spread = float(kept[target].std())
        found.append(
            {
                "label_noise": f"{level:g}",
                "runs": len(part),
                "converged": len(kept),
                **{name: f"{value:.4f}" if math.isfinite(value) else "–" for name, value in means.items()},
                "gap": f"{means[target]:.3f}" if math.isfinite(means[target]) else "–",
                "spread": f"{spread:.3f}" if math.isfinite(spread) else "–",
                "epochs": f"{kept['epochs'].median():g}" if len(kept) else "–",
            }
        )
    return found


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a nested mapping, the names of a nest joined by a dot."""
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name} · ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{name}", shown
