"""Compact SVG by hand for the page: whiskers, rank shifts, strips and markers, coloured by its CSS.

Coordinates are integers of a view box twice the size on screen. Classes: n0, n1 … label-noise levels; band, ceil,
zero, ci, dot the parts of a whisker. Every string that comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from gapbench.reports.figures import shapes
from gapbench.reports.scores import described, place, score_text

WIDTH, HEIGHT = 420, 40

_MARKS = {
    "circle": "M{x} {y}h0",
    "square": "M{x} {y}h.1",
    "triangle": "M{x} {y}m0-6l6 11h-12z",
    "diamond": "M{x} {y}m0-7l7 7-7 7-7-7z",
    "cross": "M{x} {y}m-6 0h12m-6-6v12",
}
"""A circle is the round cap of a line without length: the shortest path for a point, and it prints. (A square cap
without length does not: PDF leaves its direction open; so a square has a tenth of a unit.)"""


def scale(low: float, high: float, start: float, stop: float) -> Any:
    """The map of [low, high] to the whole coordinates from start to stop, of numbers and arrays."""
    span = (high - low) or 1.0
    return lambda value: np.rint(start + (np.asarray(value, dtype=float) - low) / span * (stop - start)).astype(int)


def whisker(row: Mapping[str, Any], score: str, ceiling: Mapping[str, float] | None = None) -> Markup:
    """A score on its own line: null band, chance, noise ceiling (dashed), 95 % interval and the point."""
    if not math.isfinite(row[score]):
        return Markup("")
    entry = described(score)
    x = scale(entry.low, entry.high, 8, WIDTH - 8)
    parts = []
    if math.isfinite(row.get(f"{score}_null_low", math.nan)):
        left, right = x(row[f"{score}_null_low"]), x(row[f"{score}_null_high"])
        parts.append(f'<path class="band" d="M{left} 4h{max(right - left, 1)}v32H{left}z"/>')
    parts.append(f'<path class="zero" d="M{x(entry.chance)} 0v40"/>')
    if ceiling and math.isfinite(ceiling["ceiling"]):
        parts.append(f'<path class="ceil" d="M{x(ceiling["ceiling"])} 0v40"/>')
    if math.isfinite(row[f"{score}_low"]) and math.isfinite(row[f"{score}_high"]):
        parts.append(f'<path class="ci" d="M{x(row[f"{score}_low"])} 20H{x(row[f"{score}_high"])}"/>')
    where = place(row, score)
    parts.append(f'<circle class="dot {where}" cx="{x(row[score])}" cy="20" r="7"/>')
    note = f"{entry.title} {score_text(row, score)}" + (f", {where} its null band" if where else "")
    return Markup(
        f'<svg class="w" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(note)}">{"".join(parts)}</svg>'
    )


def scale_marks(score: str) -> Markup:
    """The axis over a column of whiskers: the ends and the chance value."""
    entry = described(score)
    x = scale(entry.low, entry.high, 8, WIDTH - 8)
    ends = ((entry.low, "start", 0), (entry.chance, "middle", int(x(entry.chance))), (entry.high, "end", WIDTH))
    texts = "".join(
        f'<text x="{at}" y="22" text-anchor="{anchor}">{f"{value:g}".replace("-", "−")}</text>'
        for value, anchor, at in ends
    )
    return Markup(f'<svg class="w ax" viewBox="0 0 {WIDTH} 28" aria-hidden="true">{texts}</svg>')


def shift_strip(summary: pd.DataFrame, levels: Sequence[float], reach: float) -> Markup:
    """One measure's rank shifts: a lane a label-noise level, thin 5–95 %, thick the middle half, marker the median."""
    x = scale(-reach, reach, 8, WIDTH - 8)
    lane = 14
    height = lane * len(levels) + 4
    parts = [f'<path class="zero" d="M{x(0)} 0v{height}"/>']
    for row in summary.to_dict("records"):
        index = levels.index(row["label_noise"])
        y = lane * index + lane // 2 + 2
        low, q25, q75, high = (int(x(row[name])) for name in ("low", "q25", "q75", "high"))
        parts.append(
            f'<path class="n{index} thin" d="M{low} {y}H{high}"/><path class="n{index} thick" d="M{q25} {y}H{q75}"/>'
        )
        parts.append(marks([int(x(row["median"]))], [y], index, shapes(len(levels))[index]))
    return Markup(f'<svg class="w" viewBox="0 0 {WIDTH} {height}" aria-hidden="true">{"".join(parts)}</svg>')


def error_strip(errors: Any, note: str) -> Markup:
    """Sign errors between 0 and 1: thin all of them, thick the middle half, dot the mean; dashed the coin's ½."""
    x = scale(0.0, 1.0, 6, 194)
    values = np.asarray(errors, dtype=float)
    low, q25, q75, high = (int(x(np.quantile(values, level))) for level in (0, 0.25, 0.75, 1))
    return Markup(
        f'<svg class="e" viewBox="0 0 200 24" role="img" aria-label="{escape(note)}">'
        f'<path class="zero" d="M{x(0.5)} 0v24"/>'
        f'<path class="ci" d="M{low} 12H{max(high, low + 1)}"/><path class="half" d="M{q25} 12H{max(q75, q25 + 1)}"/>'
        f'<circle class="dot" cx="{x(values.mean())}" cy="12" r="6"/></svg>'
    )


def marks(x: Sequence[int], y: Sequence[int], level: int | None, shape: str) -> Markup:
    """One path with a marker at every point; level None is a run outside the ranking."""
    name = "out" if level is None else f"n{level}"
    return Markup(f'<path class="m {name} {shape}" d="{path(x, y, shape)}"/>')


def path(x: Sequence[int], y: Sequence[int], shape: str) -> str:
    """The path data of a marker of this shape at every point."""
    step = _MARKS[shape]
    return "".join(step.format(x=a, y=b) for a, b in zip(x, y, strict=True))


def ticks(low: float, high: float, decades: bool) -> list[tuple[float, str]]:
    """Three to five tick values inside [low, high] (logarithms to base 10 where ``decades``) with their labels."""
    if decades:
        locations = [v for v in MaxNLocator(4, integer=True).tick_values(low, high) if low <= v <= high]
        return [(v, f"10{str(round(v)).translate(_SUPERSCRIPT)}") for v in locations]
    locations = [v for v in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= v <= high]
    step = locations[1] - locations[0] if len(locations) > 1 else max(abs(low), 1e-300)
    return [(v, _tick_label(v, step)) for v in locations]


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _tick_label(value: float, step: float) -> str:
    if abs(value) < step * 1e-6:
        return "0"
    digits = max(1, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)) + 2)
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        text = f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")


def legend_mark(level: int | None, shape: str) -> Markup:
    """One marker alone, for a legend."""
    return Markup(f'<svg class="k" viewBox="0 0 24 24" aria-hidden="true">{marks([12], [12], level, shape)}</svg>')
