from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from gapbench.reports import figures, marks
from gapbench.reports.scores import rows


def drawn(frame: pd.DataFrame, score: str = "within_noise_tau", ceiling: Any = None) -> ElementTree.Element:
    return ElementTree.fromstring(marks.whisker(rows(frame)[0], score, ceiling))


def part(svg: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next((child for child in svg if child.get("class", "").split()[0] == name), None)


def test_whisker_places_every_part_on_one_scale(frames: Callable[..., pd.DataFrame]) -> None:
    svg = drawn(frames({"a": {"within_noise_tau": (0.5, 0.25, 0.75)}}), ceiling={"ceiling": 1.0})
    dot, band, interval = part(svg, "dot"), part(svg, "band"), part(svg, "ci")
    assert dot is not None
    assert band is not None
    assert interval is not None
    assert dot.get("cx") == str(round(8 + 0.75 * 404))
    assert interval.get("d") == f"M{round(8 + 0.625 * 404)} 20H{round(8 + 0.875 * 404)}"
    left, width = (int(n) for n in re.findall(r"M(\d+) 4h(\d+)", band.get("d", ""))[0])
    assert (left, left + width) == (round(8 + 0.425 * 404), round(8 + 0.575 * 404))
    assert part(svg, "ceil").get("d") == "M412 0v40"  # type: ignore[union-attr]


def test_whisker_is_hollow_inside_its_null_band(frames: Callable[..., pd.DataFrame]) -> None:
    for score, expected in ((0.1, "dot inside"), (0.4, "dot above"), (-0.4, "dot below")):
        dot = part(drawn(frames({"a": {"within_noise_tau": score}})), "dot")
        assert dot is not None
        assert dot.get("class") == expected


def test_whisker_of_no_score_is_empty(frames: Callable[..., pd.DataFrame]) -> None:
    assert marks.whisker(rows(frames({"a": {"tau_b": math.nan}}))[0], "tau_b") == ""


def test_auc_has_its_own_scale(frames: Callable[..., pd.DataFrame]) -> None:
    svg = drawn(frames({"a": {"randomisation_auc": (1.0, 0.9, 1.0)}}), "randomisation_auc")
    assert part(svg, "dot").get("cx") == "412"  # type: ignore[union-attr]
    assert part(svg, "zero").get("d") == "M210 0v40"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "decades"),
    [(0, 1, False), (-3.2, 5.1, False), (1e-7, 3e-7, False), (1e9, 1e9 + 5, False), (-30, 30, True)],
)
def test_ticks_are_few_distinct_and_inside(low: float, high: float, decades: bool) -> None:
    found = marks.ticks(low, high, decades)
    assert 2 <= len(found) <= 6
    assert all(low <= value <= high for value, _ in found)
    assert len({text for _, text in found}) == len(found)


def test_tick_labels_are_short() -> None:
    assert [text for _, text in marks.ticks(-2.1, 2.3, False)] == ["−2", "−1", "0", "1", "2"]
    assert ("10⁻²", -2) in [(text, round(value)) for value, text in marks.ticks(-4, 4, True)]


def test_shift_strip_has_a_lane_a_level(table: Any) -> None:
    summary = figures.randomisation_summary(figures.randomisation_data(table))
    part_of = summary[summary["measure"] == "path_norm"]
    svg = ElementTree.fromstring(marks.shift_strip(part_of, [0.0, 0.5, 1.0], 0.6))
    lanes = {
        child.get("class", "").split()[0]: child.get("d", "") for child in svg if "thick" in child.get("class", "")
    }
    assert set(lanes) == {"n0", "n1", "n2"}
    starts = [int(lanes[f"n{i}"].split()[0][1:]) for i in range(3)]
    assert starts == sorted(starts), "path_norm was planted to grow with the noise"
    assert np.all(np.diff([int(re.findall(r" (\d+)H", lanes[f"n{i}"])[0]) for i in range(3)]) == 14)
