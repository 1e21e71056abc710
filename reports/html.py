"""The report: one self-contained page that opens offline, from a table and its leaderboard."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from gapbench.evaluate.files import storing
from gapbench.reports import figures, marks, scores, sections
from gapbench.reports.findings import Mention, Sentence, answer, plain
from gapbench.reports.references import Reference, bundled
from gapbench.reports.text import csv

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

_TEMPLATES = ("report.html.j2", "report.css", "report.js")


def report(
    table: Table,
    frame: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    out: Path,
    references: Mapping[str, Reference] | None = None,
) -> Path:
    """Write the report of a leaderboard to ``out`` and return it.

    The page is one file: styles, script and drawings are inside, nothing is fetched. ``provenance``: versions, seeds
    and whatever else the reader needs to make the same numbers again; mappings may be nested. ``references``: the
    bibliography that the sources are looked up in, by default the one that comes with the measures.
    """
    out = Path(out)
    text = page(table, frame, provenance, bundled() if references is None else references)
    with storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    return out


def page(table: Table, frame: pd.DataFrame, provenance: Mapping[str, Any], references: Mapping[str, Reference]) -> str:
    """The page itself; see `report`."""
    target = str(frame.attrs["target"])
    table = _shown(table, frame)
    levels = figures.noise_levels(table)
    sentences = answer(frame)
    context = {
        "target": scores.target_name(target),
        "answer": [_linked(sentence) for sentence in sentences],
        "description": " ".join(plain(sentence) for sentence in sentences),
        "counts": scores.counts_text(frame),
        "ceiling": scores.ceiling_text(frame),
        "method": scores.method_text(frame),
        "scores": scores.SCORES,
        "families": sorted(frame["family"].astype(str).unique()),
        "rows": sections.leaderboard(frame),
        "axis": marks.scale_marks(scores.RANKING),
        "csv": base64.b64encode(csv(frame).encode()).decode(),
        "legend": sections.legend(levels),
        "randomisation": sections.randomisation(table, frame, levels),
        "auc_axis": marks.scale_marks("randomisation_auc"),
        "cards": list(sections.cards(table, frame, levels, target, references)),
        "absences": sections.absences(table.readings),
        "axes": sections.axes(table),
        "outcomes": sections.outcomes(table.runs, target),
        "outside": int((~table.runs["converged"].astype(bool)).sum()),
        "provenance": list(sections.flat(provenance)),
    }
    return _environment().get_template("report.html.j2").render(context)


def _shown(table: Table, frame: pd.DataFrame) -> Table:
    """The table without what the leaderboard does not show: the features of predictors."""
    keys = [key for key in table.measures if key in frame.index]
    return dataclasses.replace(
        table,
        values=table.values[keys],
        readings=table.readings[table.readings["measure"].isin(keys)],
        measures={key: table.measures[key] for key in keys},
    )


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
    environment.filters.update(
        decimal=scores.decimal,
        breakable=breakable,
        seconds=seconds,
        anchor=anchor,
        number=_number,
        p_value=p_value,
        aligned=aligned,
        subscripts=subscripts,
    )
    return environment


def anchor(key: str) -> str:
    """The fragment that a measure's card has, different for different keys."""
    return "m-" + re.sub(r"[^A-Za-z0-9_]", lambda match: f"-{ord(match[0]):x}-", key)


def breakable(text: str) -> Markup:
    """A name that may break after an underscore, a comma or a bracket."""
    return Markup(re.sub(r"([_,\[])", r"\1<wbr>", str(escape(text))))


def seconds(value: float) -> str:
    """A duration with three digits at most and its unit."""
    if not math.isfinite(value):
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.2g} ms" if value < 0.0995 else f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"


def subscripts(text: str) -> Markup:
    """The text with τ_a and τ_b set as τ with a subscript."""
    return Markup(re.sub("τ_([ab])", r"τ<sub>\1</sub>", str(escape(text))))


def aligned(text: str) -> Markup:
    """A score text in two parts of fixed width, so that points and brackets stand under one another."""
    point, bracket, rest = text.partition(" [")
    return Markup("<b>{}</b>{}").format(point, Markup(" <i>[{}</i>").format(rest) if bracket else "")


def p_value(value: float) -> str:
    """A p-value with two digits after the point, or as "<.01"."""
    return "<.01" if value < 0.005 else scores.decimal(value)


def _number(value: Any) -> str:
    # Full precision for sorting and for reading the page by machine: the same text as in the CSV.
    return repr(float(value)) if isinstance(value, float | np.floating) and math.isfinite(value) else ""


def _linked(sentence: Sentence) -> Markup:
    parts = [
        Markup('<a href="#{}"><code>{}</code></a>').format(anchor(part.key), breakable(part.key))
        if isinstance(part, Mention)
        else subscripts(part)
        for part in sentence
    ]
    return Markup("").join(parts)
