"""The page of phenomena: all of them side by side, what was published beside what was seen here."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from gapbench.evaluate.files import make_folder, write_file
from gapbench.evaluate.phenomena.verdict import shown
from gapbench.evaluate.progress import duration
from gapbench.reports.figures import svg
from gapbench.reports.html import breakable
from gapbench.reports.phenomena_figures import draw, png
from gapbench.reports.references import Reference, bundled, cite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gapbench.evaluate.phenomena.experiment import Result

_TEMPLATES = ("phenomena.html.j2", "phenomena.css", "report.css")

FOLLOWERS = 8
"""So many measures are listed for each curve."""


def figures(result: Result) -> Figure:
    """Draw a phenomenon, write figure.svg and figure.png beside its record, and return the figure."""
    figure = draw(result.phenomenon.panels, result.table)
    write_file(result.folder / "figure.svg", svg(figure).replace("currentColor", "#222222").encode())
    write_file(result.folder / "figure.png", png(figure))
    return figure


def write(
    results: Sequence[Result],
    problems: Mapping[str, str],
    out: Path,
    drawn: Mapping[str, Figure],
    *,
    provenance: Mapping[str, Any],
) -> Path:
    """Write phenomena.html into ``out`` and return its path.

    ``problems``: why phenomena could not be run, by name; ``drawn``: the figures by name.
    """
    make_folder(out)
    write_file(out / "phenomena.html", page(results, problems, drawn, provenance, bundled()).encode())
    return out / "phenomena.html"


def page(
    results: Sequence[Result],
    problems: Mapping[str, str],
    drawn: Mapping[str, Figure],
    provenance: Mapping[str, Any],
    references: Mapping[str, Reference],
) -> str:
    """The page itself: one file that opens offline."""
    seen = sum(result.verdict.seen for result in results)
    context = {
        "cards": [_card(result, drawn[result.phenomenon.name], references) for result in results],
        "problems": dict(problems),
        "summary": f"{seen} of {len(results)} phenomena were seen in full, by the rules of their files",
        "seconds": duration(sum(result.seconds for result in results)),
        "provenance": {name: str(value) for name, value in provenance.items()},
    }
    return _environment().get_template("phenomena.html.j2").render(context)


def _card(result: Result, figure: Figure, references: Mapping[str, Reference]) -> dict[str, Any]:
    phenomenon = result.phenomenon
    return {
        "name": phenomenon.name,
        "title": phenomenon.title,
        "seen": result.verdict.seen,
        "statement": result.verdict.statement,
        "sections": [(name, text) for name in ("Claim", "Rule", "Tried") if (text := phenomenon.section(name))],
        "paper": phenomenon.section("Paper"),
        "citations": cite(phenomenon.source, references),
        "conditions": [(condition, shown(condition.interval)) for condition in result.verdict.conditions],
        "beside": result.beside,
        "figure": _unique(svg(figure), phenomenon.name),
        "csv": base64.b64encode(result.table.to_csv(index=False).encode()).decode(),
        "followers": _followers(result),
        "settings": result.settings,
        "cells": result.cells,
        "rows": len(result.table),
        "seconds": duration(result.seconds),
        "notes": result.notes,
    }


def _unique(drawing: str, name: str) -> Markup:
    # Clip paths have the same names in every figure of one page, and the first of a name would serve them all.
    return Markup(
        drawing.replace('id="', f'id="{name}-').replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    )


def _followers(result: Result) -> list[dict[str, Any]]:
    found = []
    for key, rows in result.following.groupby(["curve", "along"], sort=False):
        curve, along = map(str, key)
        shown_rows = [
            {
                "measure": row["measure"],
                "text": _correlation(row["correlation"], row["low"], row["high"]),
                "clear": bool(row["low"] > 0 or row["high"] < 0),
            }
            for row in rows.head(FOLLOWERS).to_dict(orient="records")
        ]
        found.append({"curve": curve.replace("_", " "), "along": along, "rows": shown_rows, "read": len(rows)})
    return found


def _correlation(point: float, low: float, high: float) -> str:
    def decimal(value: float) -> str:
        return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−") if math.isfinite(value) else "–"

    return f"{decimal(point)} [{decimal(low)}, {decimal(high)}]"


def _environment() -> jinja2.Environment:
    folder = resources.files("gapbench.reports") / "templates"
    sources = {name: (folder / name).read_text(encoding="utf-8") for name in _TEMPLATES}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = breakable
    return environment
