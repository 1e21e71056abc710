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
from gapbench.reports import (
    assessed,
    bounded,
    by_axis,
    cards,
    correlations,
    environments,
    figures,
    marks,
    scatters,
    scores,
    sections,
)
from gapbench.reports.findings import Mention, Sentence, answer, plain
from gapbench.reports.folded import folded_text, repeats, unfolded
from gapbench.reports.references import Reference, bundled
from gapbench.reports.text import csv

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table


def report(
    table: Table,
    frame: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    out: Path,
    assessment: pd.DataFrame | None = None,
    references: Mapping[str, Reference] | None = None,
) -> Path:
    """Write the report of a leaderboard to ``out`` and return it.

    The page is one file: styles, script and drawings are inside, nothing is fetched. ``provenance``: versions, seeds
    and whatever else the reader needs to make the same numbers again; mappings may be nested. ``assessment``: the
    further statistics of the same table; without it the page says that they were not made. ``references``: the
    bibliography that the sources are looked up in, by default the one that comes with the measures.
    """
    out = Path(out)
    text = page(table, frame, provenance, bundled() if references is None else references, assessment)
    with storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    return out


def page(
    table: Table,
    frame: pd.DataFrame,
    provenance: Mapping[str, Any],
    references: Mapping[str, Reference],
    assessment: pd.DataFrame | None = None,
) -> str:
    """The page itself; see `report`."""
    target = str(frame.attrs["target"])
    table = _shown(table, frame)
    board, folded = unfolded(frame), repeats(frame)
    keys = [str(key) for key in board.index]
    levels = figures.noise_levels(table)
    sentences = answer(frame)
    adjusted = assessed.adjusted(frame)
    correlated = correlations.rank_correlations(table, keys)
    alike = correlations.known(correlated)
    environed = environments.environments(table, keys, target)
    context = cards.Context(
        table=table,
        frame=board,
        target=target,
        levels=levels,
        references=references,
        repeats=folded,
        neighbours=correlations.neighbours(correlated),
        environments=environed,
        assessment=assessment,
        adjusted=adjusted,
    )
    shown = {
        "target": scores.target_name(target),
        "answer": [_linked(sentence) for sentence in sentences],
        "description": " ".join(plain(sentence) for sentence in sentences),
        "counts": scores.counts_text(frame),
        "ceiling": scores.ceiling_text(frame),
        "method": scores.method_text(frame),
        "scores": scores.SCORES,
        "families": sorted(board["family"].astype(str).unique()),
        "groups": sections.leaderboard(board, adjusted, folded),
        "folded": folded_text(frame),
        "axis": marks.scale_marks(scores.RANKING),
        "csv": _encoded(csv(frame)),
        "legend": sections.legend(levels),
        "randomisation": sections.randomisation(table, board, levels),
        "auc_axis": marks.scale_marks("randomisation_auc"),
        "cards": list(cards.cards(context)),
        "architectures": _architectures(table),
        "map_columns": by_axis.columns(board),
        "map_rows": by_axis.rows(board),
        "alike": _map(alike),
        "unlike": len(correlated) - len(alike),
        "alike_packed": correlations.packed(alike) if len(alike) > 1 else None,
        "environments": environed,
        "environment_rows": [] if environed is None else environments.rows(environed, assessment, board),
        "environment_text": "" if environed is None else environments.explanation(environed),
        "bounds": bounded.bounds(table, board, assessment),
        "absences": sections.gathered(sections.absences(table.readings, dict(zip(frame.index, frame["same_as"])))),
        "grid": sections.grid(table, frame, assessment),
        "axes": sections.axes(table),
        "outcomes": sections.outcomes(table.runs, target),
        "outside": int((~table.runs["converged"].astype(bool)).sum()),
        "assessed": assessment is not None,
        "statistics": [] if assessment is None else assessed.columns(assessment),
        "statistic_rows": [] if assessment is None else assessed.rows(assessment, board),
        "statistic_facts": [] if assessment is None else assessed.facts(assessment, frame),
        "statistic_csv": "" if assessment is None else _encoded(csv(assessment)),
        "multiplicity": assessed.multiplicity(frame, adjusted),
        "provenance": list(sections.flat(provenance)),
        "revisions": [(key, table.measures[key].revision, _digest(table.measures[key])) for key in table.measures],
    }
    return _environment().get_template("report.html.j2").render(shown)


def _shown(table: Table, frame: pd.DataFrame) -> Table:
    """The table without what the leaderboard does not show: the features of predictors."""
    keys = [key for key in table.measures if key in frame.index]
    return dataclasses.replace(
        table,
        values=table.values[keys],
        readings=table.readings[table.readings["measure"].isin(keys)],
        measures={key: table.measures[key] for key in keys},
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _map(alike: pd.DataFrame) -> Markup:
    return Markup(figures.svg(correlations.correlation_map(alike), "alike-")) if len(alike) > 1 else Markup("")


def _architectures(table: Table) -> dict[str, Any]:
    found = scatters.architectures(table)
    names = [] if found is None else found.names
    return {
        "axes": () if found is None else found.axes,
        "names": names,
        "light": figures.colours(len(names)),
        "dark": figures.colours(len(names), figures.DARK_RAMP),
    }


def _digest(entry: Any) -> str:
    return str(getattr(entry, "digest", ""))


def _environment() -> jinja2.Environment:
    folder = resources.files("gapbench.reports") / "templates"
    sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.is_file()}
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
        seconds=scores.seconds,
        anchor=anchor,
        number=_number,
        p_value=scores.p_value,
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


def subscripts(text: str) -> Markup:
    """The text with τ_a and τ_b set as τ with a subscript."""
    return Markup(re.sub("τ_([ab])", r"τ<sub>\1</sub>", str(escape(text))))


def aligned(text: str) -> Markup:
    """A score text in two parts of fixed width, so that points and brackets stand under one another."""
    point, bracket, rest = text.partition(" [")
    return Markup("<b>{}</b>{}").format(point, Markup(" <i>[{}</i>").format(rest) if bracket else "")


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
