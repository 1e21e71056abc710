"""Steps to a level, and what a run that never gets there does to a speed-up."""

from __future__ import annotations

import math

import pandas
import pytest

from gapbench.evaluate.phenomena.grokking import (
    ADAMW,
    SOFT,
    beside,
    censored,
    delay,
    largest_speed_up,
    speed_up,
    steps_to,
)


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


def test_a_gated_run_that_is_cut_off_bounds_the_speed_up_from_above() -> None:
    table = curves({ADAMW: [400, 800], SOFT: [100, 5000]})
    assert censored(table, SOFT) == 1
    assert censored(table, ADAMW) == 0
    # The second counts as arrived at its last step, 1,000.
    assert largest_speed_up(table, SOFT).point == pytest.approx(math.sqrt(4 * 0.8))
    gates = curves({ADAMW: [400, 800], SOFT: [100, 5000], "gate hard": [100, 200], "gate snr": [5000, 5000]})
    ours = [row.ours for row in beside(gates)]
    assert ours[0].startswith("at most 1.79")
    assert "1 of 2 runs not at 95 % by step 1,000" in ours[0]
    assert ours[1].startswith("4 [")
    assert ours[3] == "600; above 1,000 (medians)"


def test_nothing_bounds_the_speed_up_over_a_run_of_adamw_that_is_cut_off() -> None:
    assert math.isnan(largest_speed_up(curves({ADAMW: [400, 5000], SOFT: [100, 200]}), SOFT).point)
