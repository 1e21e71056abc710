"""Steps to a level, and what a run that never gets there does to a speed-up."""

from __future__ import annotations

import math

import pandas
import pytest

from gapbench.evaluate.phenomena.grokking import ADAMW, SOFT, delay, speed_up, steps_to


def curves(late: dict[str, list[int]]) -> pandas.DataFrame:
    rows = [
        {
            "optimiser": name,
            "seed": seed,
            "step": step,
            "train_accuracy": 1.0 * (step >= 20),
            "test_accuracy": 1.0 * (step >= at),
        }
        for name, places in late.items()
        for seed, at in enumerate(places)
        for step in range(0, 1001, 10)
    ]
    return pandas.DataFrame(rows)


def test_steps_are_the_first_at_the_level_and_the_ratio_is_paired() -> None:
    table = curves({ADAMW: [400, 800], SOFT: [100, 200]})
    assert steps_to(table, "test_accuracy", 0.95)[ADAMW].tolist() == [400, 800]
    assert speed_up(table, SOFT).point == pytest.approx(4)
    assert delay(table).point == pytest.approx(math.sqrt(20 * 40))


def test_a_run_that_never_gets_there_leaves_no_speed_up() -> None:
    table = curves({ADAMW: [400, 800], SOFT: [100, 5000]})
    found = speed_up(table, SOFT)
    assert math.isnan(found.point)
    assert found.n == 1
