from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from gapbench.reports import figures, scatters

LEVELS = [0.0, 0.5, 1.0]


def drawn(data: pd.DataFrame, levels: list[float], **options: Any) -> tuple[str, str]:
    return scatters.scatters(data, levels, limits=(0, 1), **{"y_label": "y", "x_label": "x", **options})


def paths(svg: str) -> list[tuple[str, str]]:
    """Class of colour and data of every path of markers."""
    root = ElementTree.fromstring(svg)
    found = [(group.get("class", ""), path) for group in root for path in group if path.get("id")]
    found += [(path.get("class", "").split()[1], path) for path in root if path.get("class", "").startswith("m ")]
    return [(colour, path.get("d", "")) for colour, path in found]


def test_every_run_is_drawn_once_and_coloured_by_label_noise(table: Any) -> None:
    data = figures.scatter_data(table, "measure_05")
    grouping = scatters.architectures(table)
    assert grouping is not None
    for groups in (None, grouping.of):
        svg, other = drawn(data, LEVELS, y_label="error gap (fraction)", groups=groups)
        counts: dict[str, int] = {}
        for colour, steps in paths(svg):
            counts[colour] = counts.get(colour, 0) + len(re.findall("M", steps))
        kept = data[data["converged"]]
        assert counts == {
            "out": len(data) - len(kept),
            **{f"n{i}": int((kept["label_noise"] == p).sum()) for i, p in enumerate(LEVELS)},
        }
        assert "error gap (fraction)" in "".join(ElementTree.fromstring(svg).itertext())
        assert bool(other) == (groups is not None)
        assert len(svg) < 7_000


def test_the_second_scatter_colours_the_same_points_by_architecture(table: Any) -> None:
    data = figures.scatter_data(table, "measure_05")
    grouping = scatters.architectures(table)
    assert grouping is not None
    assert grouping.axes == ("width", "depth")
    assert grouping.names == ["64 × 2", "64 × 4", "256 × 2", "256 × 4"]
    first, second = drawn(data, LEVELS, groups=grouping.of, name="card")
    root = ElementTree.fromstring(first)
    sizes = {path.get("id"): len(re.findall("M", path.get("d", ""))) for group in root for path in group}
    counts: dict[str, int] = {}
    for use in ElementTree.fromstring(second).iter("use"):
        colour = use.get("class", "")
        counts[colour] = counts.get(colour, 0) + sizes.pop((use.get("href") or "").removeprefix("#"))
    assert {key for key in sizes if key} == set(), "every path is used once"
    kept = data[data["converged"]]
    runs = table.runs.loc[kept.index]
    for at, (width, depth) in enumerate([(64, 2), (64, 4), (256, 2), (256, 4)]):
        assert counts[f"a{at}"] == int(((runs["width"] == width) & (runs["depth"] == depth)).sum())
    assert counts["out"] == len(data) - len(kept)


def test_many_architectures_are_told_by_fewer_axes(table: Any) -> None:
    wide = table.runs.assign(width=np.arange(len(table.runs)) % 5 * 10)
    found = scatters.architectures(replace(table, runs=wide))
    assert found is not None
    assert found.axes == ("width",)
    assert found.names == ["0", "10", "20", "30", "40"]
    assert scatters.architectures(replace(table, axes=("learning_rate",))) is None


def test_heights_follow_the_gap() -> None:
    data = pd.DataFrame({"value": [1.0, 2.0], "gap": [0.0, 1.0], "label_noise": [0.0, 0.0], "converged": [True, True]})
    ((_, steps),) = paths(drawn(data, [0.0])[0])
    points = re.search(r"M(\d+) (\d+)h0M(\d+) (\d+)h0", steps)
    assert points is not None
    x0, y0, x1, y1 = map(int, points.groups())
    assert (y0, y1) == (392, 44)
    assert 78 < x0 < x1 < 668


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0], [0.0, 0.0], [1e-300, 1e300], [-1e30, 1e30], [1e9, 1e9 + 1]])
def test_odd_values_stay_on_the_axes(values: list[float]) -> None:
    data = pd.DataFrame({"value": values, "gap": 0.5, "label_noise": 0.0, "converged": True})
    svg = drawn(data, [0.0], x_label="<x>")[0]
    assert "nan" not in svg
    x = [int(n) for _, steps in paths(svg) for n in re.findall(r"M(\d+) \d+h0", steps)]
    assert len(x) == len(values)
    assert all(78 <= at <= 668 for at in x)


def test_labels_are_escaped() -> None:
    data = pd.DataFrame({"value": [1.0], "gap": [0.5], "label_noise": [0.0], "converged": [True]})
    assert "<script" not in drawn(data, [0.0], x_label='"><script>')[0]
