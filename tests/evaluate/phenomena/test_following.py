from __future__ import annotations

import numpy
import pandas
import pytest

from gapbench.evaluate.phenomena.bench import FOLLOWED, MEASURE
from gapbench.evaluate.phenomena.following import COLUMNS, chosen, following
from gapbench.evaluate.phenomena.phenomenon import Follow
from gapbench.measures import MEASURES


def sweep() -> pandas.DataFrame:
    rng = numpy.random.default_rng(0)
    rows = [
        {
            "part": part,
            "seed": seed,
            "width": width,
            "test_error": (width - 4) ** 2 + 0.01 * rng.normal(),
            f"{MEASURE}good": (width - 4.0) ** 2 * (seed + 1),
            f"{MEASURE}opposite": -((width - 4.0) ** 2),
            f"{MEASURE}coin": rng.normal(),
            f"{MEASURE}rare": 1.0 * width if seed == 0 else None,
        }
        for part in ("one", "two")
        for seed in range(5)
        for width in range(9)
    ]
    return pandas.DataFrame(rows)


def test_planted_measures_are_ranked_as_planted() -> None:
    found = following(sweep(), [Follow("test_error", "by width", where={"part": "one"})])
    assert tuple(found.columns) == COLUMNS
    by_name = found.set_index("measure")
    assert by_name.loc["good", "correlation"] == pytest.approx(1, abs=0.1)
    assert by_name.loc["opposite", "correlation"] == pytest.approx(-1, abs=0.1)
    assert by_name.loc["coin", "low"] < 0 < by_name.loc["coin", "high"]
    assert "rare" not in by_name.index
    assert list(found["groups"]) == [5, 5, 5]
    assert found["measure"].iloc[-1] == "coin"


def test_no_follow_makes_an_empty_table_with_its_columns() -> None:
    assert tuple(following(sweep(), []).columns) == COLUMNS


def test_rows_are_chosen_by_their_values() -> None:
    assert len(chosen(sweep(), {"part": "one", "seed": 2})) == 9


def test_the_followed_measures_exist_and_are_no_controls() -> None:
    assert all(not MEASURES[key].control for key in FOLLOWED)
