"""The page and the figure, from a small planted phenomenon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from gapbench.evaluate.phenomena.bench import MEASURE, Bench
from gapbench.evaluate.phenomena.experiment import Result, experiment
from gapbench.evaluate.phenomena.intervals import mean_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, verdict
from gapbench.reports.phenomena_figures import draw
from gapbench.reports.phenomena_page import figures, page, write
from gapbench.reports.references import parse

REFERENCES = parse("@article{someone2020, author = {Some One}, title = {T}, year = {2020}, note = {arXiv:2001.00001}}")


def cells(settings: Any) -> list[Cell]:
    return [Cell({"x": x, "kind": kind, "seed": s}) for x in (1, 2, 4, 8) for kind in "ab" for s in range(3)]


def run(cell: Cell, settings: Any, bench: Bench) -> Iterator[Row]:
    height = cell.where["x"] + 0.1 * cell.where["seed"] + (cell.where["kind"] == "b")
    yield {"y": height, "closed": float(cell.where["x"]), f"{MEASURE}tall": 2 * height, f"{MEASURE}flat": 1.0}


def judge(table: pandas.DataFrame) -> Verdict:
    return verdict([above("first part", "mean of <y>", mean_interval(table["y"]), 100.0)])


def beside(table: pandas.DataFrame) -> list[Beside]:
    return [Beside("height", "4.2 %", "table 1, as recalled", "3.7")]


PANELS = (
    Panel("Lines", "x", "y", "place", "height", hue="kind", log="xy", reference="closed", verticals=((2, "here"),)),
    Panel("Points", "x", "y", "place", "height", kind="points", published=((4, 5, "published"),)),
    Panel("Bars", "kind", "y", "", "height", kind="bars", where={"seed": 0}, horizontals=((3, "chance"),)),
    Panel("Nothing", "x", "y", "place", "height", where={"seed": 99}),
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Empty:
        pass

    entry = Phenomenon(
        name="planted_page",
        source="someone2020, figure 1",
        quick=Empty(),
        full=Empty(),
        cells=cells,
        run=run,
        judge=judge,
        panels=PANELS,
        beside=beside,
        follows=(Follow("y", "along x", unit=("seed", "kind")),),
    )
    return experiment(entry, "quick", tmp_path_factory.mktemp("page"), progress=False)


def test_every_panel_is_drawn_with_its_parts(result: Result) -> None:
    figure = draw(PANELS, result.table)
    axes = [one for one in figure.axes if one.axison]
    assert [one.get_title(loc="left") for one in axes] == ["Lines", "Points", "Bars", "Nothing"]
    lines, points, bars, nothing = axes
    assert (lines.get_xscale(), lines.get_yscale()) == ("log", "log")
    drawn = [line.get_xydata() for line in lines.lines]
    means = result.table[result.table["kind"] == "a"].groupby("x")["y"].mean()
    assert any(len(xy) == 4 and numpy.allclose(xy[:, 1], means) for xy in drawn)
    closed = [xy for xy in drawn if len(xy) == 4 and numpy.allclose(xy[:, 1], [1, 2, 4, 8])]
    assert len(closed) == 2
    assert any(numpy.allclose(line.get_xdata(), 2) for line in lines.lines)
    assert len(points.collections[0].get_offsets()) == len(result.table)
    assert any(line.get_marker() == "*" for line in points.lines)
    assert len(bars.patches) == 2
    assert "no rows" in [text.get_text() for text in nothing.texts]


def test_a_cross_marks_the_bar_of_which_a_row_has_no_height() -> None:
    rows = [("one", "a", 1.0), ("one", "b", 2.0), ("two", "a", 1.5), ("two", "b", None), ("two", "a", None)]
    table = pandas.DataFrame(rows, columns=["x", "kind", "y"])
    bars = Panel("Bars", "x", "y", "", "height", hue="kind", kind="bars", missing="never")
    axes = draw((bars,), table).axes[0]
    crosses = sorted(text.xy for text in axes.texts if text.get_text() == "×")
    assert crosses == [(pytest.approx(0.8), 0), (pytest.approx(1.2), 0)]
    assert axes.get_title(loc="left") == "Bars (×: never)"
    # The cross stands where the bar of the same level stands at the other place.
    left, right = (bar.get_x() + bar.get_width() / 2 for bar in axes.patches[:3:2])
    assert right - left == pytest.approx(0.4)


def test_the_figure_is_written_as_svg_and_png(result: Result) -> None:
    figures(result)
    assert (result.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    drawing = (result.folder / "figure.svg").read_text()
    assert drawing.startswith("<svg")
    assert "currentColor" not in drawing


def test_the_page_shows_verdict_published_numbers_and_followers_and_fetches_nothing(result: Result) -> None:
    drawn = {"planted_page": figures(result)}
    text = page([result], {"absent": "its data <are> not here"}, drawn, {"seed": 0}, REFERENCES)
    assert "0 of 1 phenomena were seen in full" in text
    assert "mean of &lt;y&gt;" in text
    assert "needed above 100" in text or "above 100" in text
    assert "4.2 %" in text
    assert "One 2020, figure 1" in text
    assert 'href="https://arxiv.org/abs/2001.00001"' in text
    assert re.search(r"tall</code></td><td class=\"num\">1\.00 \[1\.00, 1\.00\]", text)
    assert "its data &lt;are&gt; not here" in text
    assert not re.search(r'(?:src|href)="(?!#|data:|https://arxiv)', text.replace("xlink:href", "xlink"))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_page_is_written(result: Result, tmp_path: Path) -> None:
    path = write([result], {}, tmp_path / "new", {"planted_page": figures(result)}, provenance={"seed": 0})
    assert path == tmp_path / "new/phenomena.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
