"""The scatters of a card: the gap against a measure, coloured by label noise, and once more by architecture.

The runs of a label noise and an architecture are one path, drawn once: the second scatter refers to it (``<use>``) and
colours it anew, so that a thousand runs are a few kilobytes. Marker shapes tell label noises apart in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from gapbench.reports.environments import shown
from gapbench.reports.figures import shapes, spans_decades
from gapbench.reports.marks import path, scale, ticks

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

ARCHITECTURE = ("architecture", "width", "depth", "norm", "activation", "dropout")
"""The hyper-parameters that say which function class is trained."""
MOST = 9
"""More architectures than this are not told apart by colour; they are then grouped by fewer of their axes."""
LEFT, RIGHT, TOP, BOTTOM = 78, 668, 44, 392


@dataclass(frozen=True)
class Grouping:
    """What the second scatter is coloured by: ``axes``, the ``names`` of the groups in order, ``of`` each run."""

    axes: tuple[str, ...]
    names: list[str]
    of: pd.Series[int]


def architectures(table: Table) -> Grouping | None:
    """The architectures of the zoo, by as many of the axes that say one as leave at most `MOST`; None below two."""
    axes = [name for name in ARCHITECTURE if name in table.axes]
    for count in range(len(axes), 0, -1):
        for chosen in itertools.combinations(axes, count):
            values = table.runs[list(chosen)]
            kinds = values.drop_duplicates().sort_values(list(chosen), kind="stable")
            if len(kinds) <= MOST:
                rows = [tuple(row) for row in kinds.to_numpy(dtype=object)]
                place = {row: at for at, row in enumerate(rows)}
                of = pd.Series([place[tuple(row)] for row in values.to_numpy(dtype=object)], index=values.index)
                return Grouping(tuple(chosen), [" × ".join(map(shown, row)) for row in rows], of)
    return None


def scatters(
    data: pd.DataFrame,
    levels: Sequence[float],
    *,
    limits: tuple[float, float],
    y_label: str,
    x_label: str,
    groups: pd.Series[int] | None = None,
    name: str = "s",
) -> tuple[Markup, Markup]:
    """The gap (up) against the measure (across), by label noise and by group.

    ``limits`` of the gap are shared by all cards. ``data``: as `figures.scatter_data`; ``groups``: a number for each of
    its runs; ``name`` starts the ids of the paths. The second is empty where there are no groups.
    """
    decades = spans_decades(data["value"])
    values = np.log10(data["value"].to_numpy()) if decades else data["value"].to_numpy(dtype=float)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    pad = 0.03 * (high - low) or 0.5 * (abs(low) or 1.0)
    low, high = low - pad, high + pad
    x, y = scale(low, high, LEFT, RIGHT), scale(*limits, BOTTOM, TOP)
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>']
    for value, text in ticks(low, high, decades):
        parts.append(
            f'<path class="axis" d="M{x(value)} {BOTTOM}v8"/><text x="{x(value)}" y="{BOTTOM + 32}">{text}</text>'
        )
    for value, text in ticks(*limits, False):
        at = int(y(value))
        parts.append(
            f'<path class="axis" d="M{LEFT} {at}h-8"/><text class="y" x="{LEFT - 12}" y="{at + 8}">{text}</text>'
        )
    log = ", log scale" if decades else ""
    parts.append(f'<text class="l" x="0" y="24">{escape(y_label)}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 64}">{escape(x_label)}{log}</text>')
    points_x, points_y = x(values), y(data["gap"])
    kept, noise = data["converged"].to_numpy(), data["label_noise"].to_numpy()
    group = np.zeros(len(data), int) if groups is None else groups.reindex(data.index).to_numpy()
    first, second = list(parts), list(parts)
    for level, shape in [(None, "circle"), *enumerate(shapes(len(levels)))]:
        here = ~kept if level is None else kept & (noise == levels[level])
        colour = "out" if level is None else f"n{level}"
        for one in np.unique(group[here]):
            rows = here & (group == one)
            steps = path(points_x[rows].tolist(), points_y[rows].tolist(), shape)
            if groups is None:
                first.append(f'<path class="m {colour} {shape}" d="{steps}"/>')
                continue
            key = f"{name}-{'o' if level is None else level}-{one}"
            first.append(f'<g class="{colour}"><path id="{key}" class="m {shape}" d="{steps}"/></g>')
            second.append(f'<use href="#{key}" class="{"out" if level is None else f"a{one}"}"/>')
    label = f"{y_label} against {x_label}: {int(kept.sum())} ranked runs"
    return _drawn(first, f"{label}, by label noise"), (
        Markup("") if groups is None else _drawn(second, f"{label}, by architecture")
    )


def _drawn(parts: Sequence[str], name: str) -> Markup:
    return Markup(f'<svg class="s" viewBox="0 0 680 464" role="img" aria-label="{escape(name)}">{"".join(parts)}</svg>')
