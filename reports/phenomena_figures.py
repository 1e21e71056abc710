"""The figure of a phenomenon: one drawing a panel that it declares."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.phenomenon import Panel
from gapbench.reports.figures import GREY, INK, RAMP, STYLE, colours

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = 3
LEVELS_INSIDE = 4
"""A legend of more levels than this stands beside its drawing, where it covers nothing."""

_DASHES: Any = {"linestyle": (0, (4, 2)), "linewidth": 1.1}


def draw(panels: Sequence[Panel], table: pd.DataFrame) -> Figure:
    """The panels side by side, at most `COLUMNS` a row; lines are means with 95 % intervals over what was repeated."""
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        beside = any(panel.hue in table and table[panel.hue].nunique() > LEVELS_INSIDE for panel in panels)
        figure = Figure(figsize=((5.8 if beside else 4.1) * columns, 3.3 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, place in zip(panels, axes):
            _panel(panel, table, place)
        for place in axes[len(panels) :]:
            place.set_axis_off()
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG, 200 dots an inch on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=200, facecolor="white")
    return buffer.getvalue()


def _panel(panel: Panel, table: pd.DataFrame, axes: Any) -> None:
    import seaborn  # imported here because it takes a second that other commands do not need

    data = chosen(table, panel.where) if set(panel.where) <= set(table.columns) else table.iloc[:0]
    whole = data
    data = data[data[panel.y].notna()] if panel.y in data else data.iloc[:0]
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if data.empty:
        axes.text(0.5, 0.5, "no rows", ha="center", va="center", transform=axes.transAxes, color=GREY)
        return
    hue: dict[str, Any] = {"color": colours(1)[0]}
    if panel.hue is not None:
        numbers = pd.api.types.is_numeric_dtype(data[panel.hue])
        levels = sorted(data[panel.hue].unique()) if numbers else list(dict.fromkeys(data[panel.hue]))
        names = [_named(level) for level in levels]
        data = data.assign(**{panel.hue: data[panel.hue].map(_named)})
        # Names have no order: hues that the colour-blind tell apart. Numbers have one: a ramp.
        hues = colours(len(names), RAMP) if numbers else seaborn.color_palette("colorblind", len(names)).as_hex()
        palette = dict(zip(names, hues, strict=True))
        hue = {"hue": panel.hue, "hue_order": names, "palette": palette}
    if panel.kind == "line":
        style = {"style": panel.hue, "style_order": hue["hue_order"]} if panel.hue else {}
        seaborn.lineplot(
            data=data,
            x=panel.x,
            y=panel.y,
            errorbar=("ci", 95),
            seed=0,
            n_boot=200,
            markers=bool(panel.hue) or "o",
            dashes=False,
            markersize=4.5,
            linewidth=1.2,
            ax=axes,
            **({"marker": "o"} if not panel.hue else {}),
            **hue,
            **style,
        )
    elif panel.kind == "points":
        style = {"style": panel.hue, "style_order": hue["hue_order"]} if panel.hue else {}
        seaborn.scatterplot(data=data, x=panel.x, y=panel.y, s=18, alpha=0.7, ax=axes, **hue, **style)
    else:
        style = {
            "errorbar": ("ci", 95),
            "seed": 0,
            "n_boot": 200,
            "err_kws": {"linewidth": 1.2},
            "saturation": 1,
            "alpha": 0.65,
        }
        seaborn.barplot(data=data, x=panel.x, y=panel.y, ax=axes, **style, **hue)
        if panel.missing:
            _mark_missing(panel, whole, axes, list(dict.fromkeys(data[panel.x])), hue["hue_order"])
        if not pd.api.types.is_numeric_dtype(data[panel.x]):
            axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=30, ha="right")
    _reference(panel, data, axes, hue.get("palette"))
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if "x" in panel.log:
        axes.set_xscale("log")
    if "y" in panel.log:
        axes.set_yscale("log")
    for at, label in panel.verticals:
        axes.axvline(at, color=GREY, **_DASHES)
        _label(axes, label, (at, 1.0), (4, -2), GREY, xycoords=axes.get_xaxis_transform(), va="top")
    for at, label in panel.horizontals:
        axes.axhline(at, color=GREY, **_DASHES)
        _label(axes, label, (0.0, at), (4, 2), GREY, xycoords=axes.get_yaxis_transform(), va="bottom")
    for x, y, label in panel.published:
        axes.plot(x, y, "*", color=INK, markersize=9, zorder=5)
        # Towards the middle of the axes, so that it does not run out of them.
        right = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0] > 0.5
        _label(axes, label, (x, y), (-7 if right else 7, 0), INK, ha="right" if right else "left", va="center")
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            _log_ticks(axis)
    legend = axes.get_legend()
    if legend is not None and len(legend.get_texts()) > LEVELS_INSIDE:
        seaborn.move_legend(axes, "upper left", bbox_to_anchor=(1.0, 1.0))
        legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        legend.set_title(panel.hue.replace("_", " ") if panel.hue else "")
        legend.get_title().set_fontsize(7.5)
        for text in legend.get_texts():
            text.set_fontsize(7.5)


def _label(
    axes: Any, text: str, at: tuple[float, float], offset: tuple[float, float], color: str, **where: Any
) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", fontsize=7, color=color, **where)


def _log_ticks(axis: Any) -> None:
    # Short axes label every multiple of a power of ten, and the labels run into each other: 1, 2 and 5 are enough.
    low, high = axis.get_view_interval()
    places = [
        m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    shown = [place for place in places if low <= place <= high]
    if 2 <= len(shown) <= 5:
        axis.set_major_locator(FixedLocator(shown))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _mark_missing(panel: Panel, whole: pd.DataFrame, axes: Any, places: list[Any], names: list[str]) -> None:
    """A × at the foot of each bar, or where it would be, of which a row of the table has no y."""
    for place, level in whole.loc[whole[panel.y].isna(), [panel.x, panel.hue]].drop_duplicates().to_numpy():
        if place in places and _named(level) in names:
            # The bars of a place share 0.8 of its width.
            at = places.index(place) + 0.8 * ((names.index(_named(level)) + 0.5) / len(names) - 0.5)
            axes.annotate("×", (at, 0), xytext=(0, 1), textcoords="offset points", ha="center", fontsize=8, color=INK)
    axes.set_title(f"{panel.title} (×: {panel.missing})", fontsize=9, loc="left")


def _reference(panel: Panel, data: pd.DataFrame, axes: Any, palette: Any) -> None:
    if panel.reference is None:
        return
    for level, rows in data.groupby(panel.hue) if panel.hue is not None else [(None, data)]:
        curve = rows.groupby(panel.x)[panel.reference].mean().dropna()
        axes.plot(curve.index, curve, color=palette[level] if palette else GREY, **_DASHES)


def _named(level: Any) -> str:
    return f"{level:g}" if isinstance(level, int | float) else str(level)
