"""The bounds among the measures: did they hold, and did they say anything?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup, escape

from gapbench.reports import scores

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

_SAYS = re.compile(r"\bit bounds\b|\bbound may fail\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z])")


def bounds(table: Table, frame: pd.DataFrame, assessed: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One row a bound, tightest first: what it bounds, how often it held and was below 1, its ratio to the gap.

    Empty without an assessment, or where no measure bounds the gap.
    """
    if assessed is None or "bound_held" not in assessed:
        return []
    found = []
    for row in scores.rows(frame):
        key = row["key"]
        one = scores.record(assessed, key) if key in assessed.index else {}
        if not math.isfinite(one.get("bound_held", math.nan)):
            continue
        found.append(
            {
                **row,
                "says": says(table.measures[key].documentation),
                "held": shares(one, "bound_held"),
                "below": shares(one, "bound_below_one"),
                "ratio": _ratio(one),
                "verdict": verdict(float(one["bound_held"]), float(one["bound_below_one"])),
                "values": (one["bound_held"], one["bound_below_one"], one["bound_ratio"]),
            }
        )
    return sorted(found, key=lambda item: (math.isnan(item["values"][2]), item["values"][2]))


def says(documentation: str) -> Markup:
    """What a docstring says is bounded: its first line, and the sentences in which "it bounds" or "may fail"."""
    sentences = _SENTENCE.split(" ".join(documentation.split()))
    told = [sentences[0], *(sentence for sentence in sentences[1:] if _SAYS.search(sentence))]
    return Markup(re.sub(r"``?(.+?)``?", r"<code>\1</code>", str(escape(" ".join(told)))))


def verdict(held: float, below: float) -> str:
    """In a word or three what the shares of runs say, of which it held and of which it was below 1."""
    vacuous = "always vacuous" if below == 0 else "never vacuous" if below == 1 else f"vacuous on {_percent(1 - below)}"
    return vacuous if held == 1 else f"{vacuous}; failed on {_percent(1 - held)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "under 1 %"


def shares(row: Mapping[str, Any], name: str) -> str:
    """A share of runs as a percentage, with its interval."""
    point, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    text = f"{100 * point:.0f} %"
    return f"{text} [{100 * low:.0f}, {100 * high:.0f}]" if math.isfinite(low) else text


def _ratio(row: Mapping[str, Any]) -> str:
    point, low, high = (float(row[f"bound_ratio{end}"]) for end in ("", "_low", "_high"))
    if not math.isfinite(point):
        return "–"
    return f"{point:.3g} [{low:.3g}, {high:.3g}]" if math.isfinite(low) else f"{point:.3g}"
