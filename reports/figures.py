"""Table -> plot data -> figure: the scatters, the randomisation test and the leaderboard, for papers and the page.

Figures are made without pyplot and inside `matplotlib.rc_context`, so that no global setting changes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gapbench.reports.scores import MEASURE, RANKING, SCORES, ceiling, place, rows, target_label

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

RAMP = ((0x1B, 0x3F, 0x9C), (0xC2, 0x47, 0x8F), (0xE8, 0x84, 0x1A))
"""Blue, purple, orange, of rising lightness: told apart with any colour vision, and in grey. True labels to random."""
DARK_RAMP = ((0x67, 0x96, 0xF5), (0xEF, 0x97, 0xD0), (0xFF, 0xCF, 0x73))
"""The same for a dark background."""
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
"""The marker of each label-noise level, in order; further levels start over."""

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gapbench",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#222222"),
}
"""Settings of every figure."""
INK, GREY = "#222222", "#888888"
_BAND: Any = {"color": GREY, "alpha": 0.28, "linewidth": 0}


def colours(count: int, ramp: Sequence[tuple[int, int, int]] = RAMP) -> list[str]:
    """The colours of ``count`` ordered levels, from one end of the ramp to the other, as "#rrggbb"."""
    positions = np.linspace(0, len(ramp) - 1, count)
    stops = np.arange(len(ramp))
    channels = [np.interp(positions, stops, [stop[c] for stop in ramp]).round().astype(int) for c in range(3)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in zip(*channels, strict=True)]


def shapes(count: int) -> list[str]:
    """The marker shapes of ``count`` levels."""
    return [SHAPES[i % len(SHAPES)] for i in range(count)]


def noise_levels(table: Table) -> list[float]:
    """The label-noise levels of the zoo, ascending."""
    return sorted(float(level) for level in table.runs["label_noise"].unique())


def scatter_data(table: Table, key: str, target: str = "error_gap") -> pd.DataFrame:
    """One row a run that has both: ``value`` (raw), ``gap``, ``label_noise``, ``converged``."""
    data = pd.DataFrame(
        {
            "value": table.values[key],
            "gap": table.runs[target],
            "label_noise": table.runs["label_noise"].astype(float),
            "converged": table.runs["converged"].astype(bool),
        }
    )
    known: pd.DataFrame = data[np.isfinite(data["value"]) & np.isfinite(data["gap"])]
    return known


def spans_decades(values: Any) -> bool:
    """Whether a logarithmic axis shows these values better: all positive, and a factor of 30 or more apart."""
    array = np.asarray(values, dtype=float)
    return bool(array.size and array.min() > 0 and array.max() >= 30 * array.min())


def scatter(data: pd.DataFrame, *, measure: str, target: str = "error_gap") -> Figure:
    """The gap against a measure, coloured and shaped by label noise; runs that did not converge are hollow grey."""
    import seaborn  # imported here because it takes a second that the page does not need

    levels = sorted(data["label_noise"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.0), layout="constrained")
        axes = figure.add_subplot()
        seaborn.scatterplot(
            data=data[data["converged"]],
            x="value",
            y="gap",
            hue="label_noise",
            style="label_noise",
            hue_order=levels,
            style_order=levels,
            palette=dict(zip(levels, colours(len(levels)), strict=True)),
            markers={level: _MARKERS[shape] for level, shape in zip(levels, shapes(len(levels)), strict=True)},
            s=18,
            alpha=0.8,
            legend="full",
            ax=axes,
        )
        out = data[~data["converged"]]
        if len(out):
            axes.scatter(
                out["value"],
                out["gap"],
                s=14,
                facecolors="none",
                edgecolors=GREY,
                linewidths=0.7,
                label="not converged",
            )
        if spans_decades(data["value"]):
            axes.set_xscale("log")
        axes.set(xlabel=measure, ylabel=target_label(target))
        handles, labels = axes.get_legend_handles_labels()
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
        if handles:
            figure.legend(
                handles,
                labels,
                title="label noise (fraction)",
                ncols=4,
                fontsize=8,
                title_fontsize=8,
                loc="outside upper center",
            )
    return figure


def randomisation_data(table: Table) -> pd.DataFrame:
    """How each measure ranks a run among the runs that differ from it in their labels alone.

    Long, one row a measure and converged run that has a twin: ``measure``, ``run``, ``label_noise``, ``shift``. The
    values times the declared sign are turned into mid-ranks in (0, 1) over all runs, and the mean rank of the twins
    (same axes, same seeds) is taken off, so that only the effect of the labels is left: positive predicts a larger gap.
    """
    runs = table.runs[table.runs["converged"].astype(bool)]
    signs = pd.Series({key: float(entry.sign) for key, entry in table.measures.items()})
    signed = table.values.loc[runs.index] * signs.reindex(table.values.columns)
    ranks = (signed.rank() - 0.5) / signed.notna().sum()
    seeds = [name for name in ("seed", "data_seed", "root_seed") if name in runs]
    twins = ranks.groupby([runs[column] for column in (*table.axes, *seeds)], dropna=False, sort=False)
    shift = (ranks - twins.transform("mean")).where(twins.transform("count") > 1)
    shift.index.name = "run"
    long = shift.reset_index().melt(id_vars="run", var_name="measure", value_name="shift").dropna(subset="shift")
    long["label_noise"] = runs["label_noise"].astype(float).reindex(long["run"]).to_numpy()
    return long[["measure", "run", "label_noise", "shift"]].reset_index(drop=True)


def randomisation_summary(data: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the shifts, one row a measure and label-noise level: low (5 %), q25, median, q75, high (95 %)."""
    names = {0.05: "low", 0.25: "q25", 0.5: "median", 0.75: "q75", 0.95: "high"}
    grouped = data.groupby(["measure", "label_noise"], sort=True)["shift"]
    return grouped.quantile(np.array(list(names))).unstack().rename(columns=names).reset_index()


def randomisation(summary: pd.DataFrame, frame: pd.DataFrame) -> Figure:
    """The randomisation test: a row a measure, rank shifts by label noise, AUC with interval and null band."""
    auc = "randomisation_auc"
    order = frame[frame[auc].notna()].sort_values(auc, ascending=False)
    levels = sorted(summary["label_noise"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.2 + 0.24 * len(order)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        place_of = {key: position for position, key in enumerate(order.index)}
        for i, (level, colour, shape) in enumerate(zip(levels, colours(len(levels)), shapes(len(levels)), strict=True)):
            part = summary[(summary["label_noise"] == level) & summary["measure"].isin(place_of)]
            y = part["measure"].map(place_of).to_numpy(dtype=float) + 0.22 * (i - (len(levels) - 1) / 2)
            left.hlines(y, part["low"], part["high"], color=colour, linewidth=0.6)
            left.hlines(y, part["q25"], part["q75"], color=colour, linewidth=2)
            left.plot(part["median"], y, _MARKERS[shape], color=colour, markersize=4, label=f"{level:g}")
        left.axvline(0, color=GREY, linewidth=0.6)
        left.set(xlabel="rank shift against twins\nwith other labels (share of runs)", ylabel="")
        left.set_yticks(range(len(order)), list(order.index))
        left.set_ylim(len(order) - 0.5, -0.5)
        _draw_whiskers(right, order, auc)
        right.set(xlabel="randomisation AUC", xlim=(-0.02, 1.02))
        figure.legend(
            *left.get_legend_handles_labels(),
            title="label noise (fraction)",
            ncols=max(1, len(levels)),
            loc="outside upper center",
        )
    return figure


def whiskers(frame: pd.DataFrame, score: str = RANKING) -> Figure:
    """The leaderboard: each measure's score with its interval, its null band (grey) and the noise ceiling (dashed)."""
    shown = frame[frame[score].notna()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 1.1 + 0.19 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        _draw_whiskers(axes, shown, score)
        limit = ceiling(frame) if score == RANKING else None
        handles = [
            Line2D([], [], color=INK, marker="o", markersize=4, linewidth=1.2, label="score, 95 % interval"),
            Patch(**_BAND, label="null band (95 %)"),
        ]
        if limit:
            handles.append(
                axes.axvline(limit["ceiling"], color=INK, linestyle="--", linewidth=0.8, label="noise ceiling")
            )
        axes.set_yticks(range(len(shown)), list(shown.index))
        for label, kind in zip(axes.get_yticklabels(), shown["kind"], strict=True):
            label.set_color(INK if kind == MEASURE else GREY)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set(
            xlabel=f"{SCORES[score].title} with the {target_label(str(frame.attrs['target']))}", xlim=_limits(score)
        )
        figure.legend(handles=handles, ncols=3, loc="outside upper center", fontsize=8)
    return figure


def _limits(score: str) -> tuple[float, float]:
    return SCORES[score].low - 0.02, SCORES[score].high + 0.02


def _draw_whiskers(axes: Any, frame: pd.DataFrame, score: str) -> None:
    for y, row in enumerate(rows(frame)):
        colour = INK if row["kind"] == MEASURE else GREY
        if math.isfinite(row[f"{score}_null_low"]):
            band = (row[f"{score}_null_low"], row[f"{score}_null_high"])
            axes.fill_betweenx((y - 0.38, y + 0.38), *band, **_BAND)
        axes.plot((row[f"{score}_low"], row[f"{score}_high"]), (y, y), color=colour, linewidth=1.2)
        inside = place(row, score) == "inside"
        axes.plot(row[score], y, "o", color=colour, markersize=4, markerfacecolor="white" if inside else colour)
    axes.axvline(SCORES[score].chance, color=GREY, linewidth=0.6)


_GLOBAL_RULE = '<style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style>'


def svg(figure: Figure, prefix: str = "") -> str:
    """The figure as an SVG element, text kept as text, the same bytes every time, to stand alone or in an HTML page.

    Ink is the page's text colour. Matplotlib's style rule for every element is put on the root instead, because
    inside a page it would restyle the page. ``prefix`` is put before every id, for a page with several figures.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_GLOBAL_RULE, "", 1).replace(INK, "currentColor")
    if prefix:
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    return text.replace("<svg", '<svg style="stroke-linejoin: round; stroke-linecap: butt"', 1)
