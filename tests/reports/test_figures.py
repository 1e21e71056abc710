from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from gapbench.reports import figures

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISIONS = {
    "full": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours: Sequence[str], vision: np.ndarray) -> float:
    seen = [lab(vision @ linear(colour)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("ramp", [figures.RAMP, figures.DARK_RAMP])
def test_colours_of_three_levels_differ_for_every_vision(ramp: Any, vision: str) -> None:
    assert nearest(figures.colours(3, ramp), VISIONS[vision]) > 19


def test_red_and_green_would_not_do() -> None:
    assert nearest(["#2ca02c", "#b08a3a"], VISIONS["deuteranopia"]) < 19, "the check above can fail"


@pytest.mark.parametrize("ramp", [figures.RAMP, figures.DARK_RAMP])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_lightness_rises_with_the_level(ramp: Any, count: int) -> None:
    lightness = [lab(linear(colour))[0] for colour in figures.colours(count, ramp)]
    assert min(np.diff(lightness)) > 2


def test_colours_contrast_with_their_page() -> None:
    def contrast(colour: str, page: str) -> float:
        low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (colour, page))
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(colour, "#ffffff") for colour in figures.colours(5)) > 2.5
    assert min(contrast(colour, "#15171a") for colour in figures.colours(5, figures.DARK_RAMP)) > 4.5


def test_levels_differ_in_shape_too() -> None:
    assert len(set(figures.shapes(5))) == 5
    assert len(figures.shapes(12)) == 12


def test_scatter_data_keeps_what_has_both(table: Any) -> None:
    data = figures.scatter_data(table, "measure_05")
    expected = table.values["measure_05"].dropna()
    assert 0 < len(expected) < len(table.runs)
    pd.testing.assert_series_equal(data["value"], expected, check_names=False)
    pd.testing.assert_series_equal(data["gap"], table.runs.loc[expected.index, "error_gap"], check_names=False)
    assert figures.scatter_data(table, "never").empty


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 31], True), ([1, 20], False), ([0, 100], False), ([-1, 100], False), ([], False)]
)
def test_spans_decades(values: list[float], expected: bool) -> None:
    assert figures.spans_decades(values) is expected


def naive_shift(table: Any, key: str) -> dict[str, float]:
    """Mid-rank over all converged runs less the mean of the twins', by loops."""
    runs = table.runs[table.runs["converged"]]
    signed = {r: table.measures[key].sign * v for r, v in table.values.loc[runs.index, key].items() if not np.isnan(v)}
    count = len(signed)
    ranks = {
        run: (sum(other < value for other in signed.values()) + 0.5 * sum(other == value for other in signed.values()))
        / count
        for run, value in signed.items()
    }
    shifts = {}
    for run in signed:
        same = [o for o in signed if all(runs.loc[o, c] == runs.loc[run, c] for c in (*table.axes, "seed"))]
        if len(same) > 1:
            shifts[run] = ranks[run] - sum(ranks[o] for o in same) / len(same)
    return shifts


@pytest.mark.parametrize("key", ["measure_03", "measure_05", "num_params"])
def test_randomisation_data_agrees_with_loops(table: Any, key: str) -> None:
    small = table.runs.index[:36]
    cut = replace(table, runs=table.runs.loc[small], values=table.values.loc[small])
    data = figures.randomisation_data(cut)
    found = data[data["measure"] == key].set_index("run")["shift"].to_dict()
    expected = naive_shift(cut, key)
    assert found.keys() == expected.keys()
    assert len(expected) > 12
    np.testing.assert_allclose([found[run] for run in expected], list(expected.values()), atol=1e-12)


def test_randomisation_of_planted_measures(table: Any, declare: Callable[..., Any]) -> None:
    planted = {
        "noise": (table.runs["label_noise"], 1),
        "against": (table.runs["label_noise"], -1),
        "width": (table.runs["width"].astype(float), 1),
    }
    values = pd.DataFrame({name: column for name, (column, _) in planted.items()})
    made = replace(table, values=values, measures={n: declare(n, sign) for n, (_, sign) in planted.items()})
    summary = figures.randomisation_summary(figures.randomisation_data(made))
    median = summary.pivot(index="measure", columns="label_noise", values="median")
    assert median.loc["noise", 0.0] < -0.2
    assert median.loc["noise", 1.0] > 0.2
    assert median.loc["against", 0.0] > 0.2
    np.testing.assert_allclose(median.loc["width"], 0, atol=1e-12)


def test_one_noise_level_has_no_twins(tables: Callable[..., Any]) -> None:
    assert figures.randomisation_data(tables(10, levels=(0.0,))).empty


def every_figure(table: Any, frame: pd.DataFrame) -> dict[str, Any]:
    summary = figures.randomisation_summary(figures.randomisation_data(table))
    return {
        "scatter": figures.scatter(figures.scatter_data(table, "measure_00"), measure="measure_00"),
        "randomisation": figures.randomisation(summary, frame),
        "whiskers": figures.whiskers(frame),
    }


def test_figures_carry_labels_and_units_and_change_no_setting(table: Any, frame: pd.DataFrame) -> None:
    before = dict(mpl.rcParams)
    shown = frame.loc[["path_norm", "num_params", "coin", "measure_00", "never"]]
    drawn = {name: figures.svg(figure) for name, figure in every_figure(table, shown).items()}
    assert dict(mpl.rcParams) == before
    words = {name: " ".join(ElementTree.fromstring(text).itertext()) for name, text in drawn.items()}
    for expected in ("error gap (fraction)", "measure_00", "label noise (fraction)", "0.5"):
        assert expected in words["scatter"]
    for expected in ("share of runs", "randomisation AUC", "label noise (fraction)", "path_norm"):
        assert expected in words["randomisation"]
    for expected in ("error gap (fraction)", "null band (95 %)", "noise ceiling", "95 % interval", "coin"):
        assert expected in words["whiskers"]
    for text in drawn.values():
        assert text.startswith("<svg")
        assert "<style" not in text, "a style rule inside a figure restyles the page around it"
        assert "#222222" not in text, "ink must be the page's own"


def test_figures_are_the_same_every_time(table: Any) -> None:
    data = figures.scatter_data(table, "measure_00")
    first, second = (figures.svg(figures.scatter(data, measure="measure_00")) for _ in range(2))
    assert first == second


def test_scatter_of_other_targets_names_their_unit(table: Any) -> None:
    data = figures.scatter_data(table, "measure_00", "loss_gap")
    assert "loss gap (nats)" in figures.svg(figures.scatter(data, measure="measure_00", target="loss_gap"))
