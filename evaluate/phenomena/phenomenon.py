"""What a phenomenon is: cells of work, a rule on their table, what is drawn, what was published.

Each file of this folder is one phenomenon. Its docstring states the paper, the claim and the rule by which the
phenomenon is called seen, fixed before running; `Phenomenon` reads them from there.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.verdict import Verdict

Row = dict[str, Any]
"""One row of a phenomenon's table: column to number or text."""


@dataclass(frozen=True)
class Cell:
    """A unit of work: the settings it runs at, and its relative cost, for the time that is left."""

    where: Mapping[str, Any]
    work: float = 1.0

    @property
    def key(self) -> str:
        """Its name: "width=8, seed=0"."""
        return ", ".join(f"{name}={value}" for name, value in self.where.items())


@dataclass(frozen=True)
class Panel:
    """A drawing of the table: y against x, a mark or mean line with 95 % intervals for each value of ``hue``.

    ``where``: only rows whose columns have these values. ``kind``: "line", "points" or "bars". ``log``: "", "x", "y" or
    "xy". ``missing``: in bars with a hue, what a row without y says; a × marks it. ``reference``: a
    column drawn as a dashed curve (a closed form, or the published values). ``verticals``, ``horizontals``: places with
    a label. ``published``: points (x, y, label) read off the paper.
    """

    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    hue: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "line"
    log: str = ""
    missing: str = ""
    reference: str | None = None
    verticals: tuple[tuple[float, str], ...] = ()
    horizontals: tuple[tuple[float, str], ...] = ()
    published: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class Beside:
    """A published number and ours, as texts; ``where`` it stands in the paper."""

    what: str
    published: str
    where: str
    ours: str


@dataclass(frozen=True)
class Follow:
    """Which measures follow a curve: their rank correlation with ``curve`` inside each group of rows equal in ``unit``.

    ``where``: only rows whose columns have these values. ``along``: in words, what changes inside a group.
    """

    curve: str
    along: str
    unit: tuple[str, ...] = ("seed",)
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Phenomenon:
    """A phenomenon as registered.

    ``cells``: settings to units of work; ``run``: a cell, the settings and a bench to rows; ``judge``: the table to a
    verdict, by the rule; ``beside``: the table to published numbers beside ours; ``quick`` and ``full``: frozen
    dataclasses of settings. ``revision``: raise it whenever the rows change.
    """

    name: str
    source: str
    quick: Any
    full: Any
    cells: Callable[[Any], Sequence[Cell]]
    run: Callable[[Cell, Any, Bench], Iterable[Row]]
    judge: Callable[[pandas.DataFrame], Verdict]
    panels: tuple[Panel, ...]
    beside: Callable[[pandas.DataFrame], Sequence[Beside]]
    follows: tuple[Follow, ...] = ()
    revision: int = 1

    def settings(self, name: str) -> Any:
        """The settings "quick" or "full"."""
        return {"quick": self.quick, "full": self.full}[name]

    @property
    def documentation(self) -> str:
        """The docstring of its file."""
        return (sys.modules[self.run.__module__].__doc__ or "").strip()

    @property
    def title(self) -> str:
        """The first line of its documentation."""
        return self.documentation.partition("\n")[0].rstrip(".")

    def section(self, name: str) -> str:
        """The paragraph of its documentation that begins with ``name``: Paper, Claim, Rule or Tried; or nothing."""
        found = re.search(rf"^{name}: (.*?)(?=\n\n|\Z)", self.documentation, flags=re.MULTILINE | re.DOTALL)
        return " ".join(found[1].split()) if found else ""

    def work(self, settings: Any) -> float:
        """The sum of the relative costs of its cells."""
        return sum(cell.work for cell in self.cells(settings))


def settings_record(settings: Any) -> dict[str, Any]:
    """Settings as a record, ready for JSON (tuples become lists)."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(settings).items()
    }
