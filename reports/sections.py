"""The parts of the report: what each section of the page shows, computed from the table and its leaderboard."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gapbench.reports import figures, marks, scores
from gapbench.reports.environments import shown

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table


KINDS: Mapping[str, tuple[str, str]] = {
    scores.MEASURE: ("ranked", "Measures"),
    "control": ("control", "Controls, which set the scale"),
    "predictor": ("predictor", "Predictors, fitted to the gaps of other recipes"),
    "uses test inputs": ("sees test inputs", "What sees unlabelled test inputs"),
}
"""The kinds of rows in the order in which they stand apart: a word for a choice, and a heading."""


def leaderboard(
    frame: pd.DataFrame, adjusted: pd.DataFrame, folded: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """The leaderboard's groups, by kind: their headings, and rows with rank, whisker, score texts and null bands."""
    limit = scores.ceiling(frame)
    labels = dict(zip(frame.index, scores.rank_labels(frame)))
    found = []
    for kind, (name, heading) in KINDS.items():
        rows = [
            {
                **row,
                "rank": labels[row["key"]],
                "ranks": scores.rank_interval(row),
                "whisker": marks.whisker(row, scores.RANKING, limit),
                "text": {score: scores.score_text(row, score) for score in scores.SCORES},
                "place": {score: scores.place(row, score) for score in scores.SCORES},
                "holm": float(scores.record(adjusted, row["key"])[f"{scores.RANKING}_holm"]),
                "folded": folded.get(row["key"], ()),
            }
            for row in scores.rows(frame[frame["kind"] == kind])
        ]
        if rows:
            found.append({"kind": kind, "name": name, "heading": heading, "rows": rows})
    return found


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


_NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def absences(readings: pd.DataFrame, same_as: Mapping[str, str] | None = None, most: int = 3) -> list[dict[str, Any]]:
    """What has no value, or one with a remark, and why: per measure and status the ``most`` frequent reasons.

    Reasons that differ in their numbers alone are counted together and shown by the first. Failed come first, then
    undefined, then ok with a remark (an estimator stopped at its cap), each by count. Where a measure repeats another
    (``same_as``) and lacks as many values as that, it is not listed again.
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
    told_of = {(item["measure"], item["status"], item["count"]) for item in found}
    parents = {measure: parent for measure, parent in (same_as or {}).items() if parent}
    found = [
        item for item in found if (parents.get(str(item["measure"])), item["status"], item["count"]) not in told_of
    ]
    order = {"failed": 0, "undefined": 1, "ok": 2}
    return sorted(found, key=lambda item: (order[item["status"]], -item["count"], item["measure"]))


def gathered(absences: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`absences` with the measures of equal status, count and reasons together, under "measures"."""
    found: dict[Any, dict[str, Any]] = {}
    for item in absences:
        same = (item["status"], item["count"], tuple(item["reasons"]), item["more"], item["run"])
        found.setdefault(same, {**item, "measures": []})["measures"].append(item["measure"])
    return list(found.values())


def axes(table: Table) -> list[tuple[str, list[tuple[str, int]]]]:
    """The hyper-parameters that vary, each with its values in order and the number of runs at each."""
    found = []
    for axis in table.axes:
        counts = sorted(table.runs[axis].value_counts(dropna=False, sort=False).items(), key=_order)
        found.append((axis, [(shown(value), int(count)) for value, count in counts]))
    return found


def _order(item: tuple[Any, int]) -> tuple[bool, float, str]:
    value = item[0]
    number = isinstance(value, int | float | np.number) and math.isfinite(value)
    return not number, float(value) if number else 0.0, str(value)


def grid(table: Table, frame: pd.DataFrame, assessment: pd.DataFrame | None) -> list[str]:
    """How complete the grid is, in sentences, and which of its cells granulated tau could not use."""
    found = []
    if assessment is not None:
        attrs = assessment.attrs
        state = "complete and balanced" if attrs["balanced"] else "complete" if attrs["complete"] else "incomplete"
        found.append(f"The grid of converged runs is {state}: {attrs['completeness']}.")
    cells = dict(frame.attrs.get("cells") or {})
    lost = {
        axis: (one["single"], one["constant_gap"])
        for axis, one in cells.items()
        if one["single"] or one["constant_gap"]
    }
    if lost:
        parts = []
        for axis, (single, constant) in lost.items():
            why = [f"{single} with one value"] if single else []
            why += [f"{constant} with a constant gap"] if constant else []
            parts.append(f"{axis} {cells[axis]['counted']} (without {' and '.join(why)})")
        found.append(f"Cells that granulated τ could compare, by axis: {', '.join(parts)}.")
    varied = [str(name) for name in ("seed", "data_seed") if name in table.runs and table.runs[name].nunique() > 1]
    if varied:
        found.append(f"Replicates differ in {' and '.join(varied)}.")
    return found


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
