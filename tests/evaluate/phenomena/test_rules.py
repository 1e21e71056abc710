"""Every rule says seen of a table where the phenomenon was planted, and not seen of one where it was not."""

from __future__ import annotations

from types import ModuleType

import pandas
import pytest

from gapbench.evaluate.phenomena import PHENOMENA
from gapbench.evaluate.phenomena.bench import MEASURE


def test_every_phenomenon_has_planted_tables(planted: ModuleType) -> None:
    assert set(planted.TABLES) == set(PHENOMENA)


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_a_planted_phenomenon_is_seen(name: str, planted: ModuleType) -> None:
    verdict = PHENOMENA[name].judge(planted.table(name, True))
    assert verdict.seen, verdict.statement


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_an_absent_phenomenon_is_not_seen_and_the_reason_is_named(name: str, planted: ModuleType) -> None:
    verdict = PHENOMENA[name].judge(planted.table(name, False))
    assert not verdict.seen
    failed = [condition for condition in verdict.conditions if not condition.holds]
    assert failed
    assert all(condition.what in verdict.statement for condition in failed)


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_published_numbers_stand_beside_ours_in_both_cases(name: str, planted: ModuleType) -> None:
    for there in (True, False):
        rows = PHENOMENA[name].beside(planted.table(name, there))
        assert rows
        assert all(row.what and row.published and row.where and row.ours for row in rows)


def failed(name: str, table: pandas.DataFrame) -> set[str]:
    """The parts of a phenomenon of which a condition does not hold."""
    return {condition.part for condition in PHENOMENA[name].judge(table).conditions if not condition.holds}


def test_an_estimate_cut_off_at_the_number_of_features_does_not_follow(planted: ModuleType) -> None:
    table = planted.table("vc_second_descent", True)
    table[f"{MEASURE}output_weight_vc"] = table["features"] + 1.0
    assert failed("vc_second_descent", table) == {"estimated VC-dimension"}


def test_a_variance_that_turns_up_at_large_widths_is_not_seen(planted: ModuleType) -> None:
    table = planted.table("bias_variance", True)
    table.loc[table["width"] == 512, ["variance", "variance_start"]] *= 2
    assert failed("bias_variance", table) == {"variance of wide networks"}


def test_a_slope_that_hardly_falls_does_not_fall_as_the_law(planted: ModuleType) -> None:
    table = planted.table("robustness_law", True)
    table["lipschitz"] = 20 * (table["parameters"] / 100) ** -0.05
    assert failed("robustness_law", table) == {"falls as the law"}


def test_runs_that_never_fit_are_counted_beside_a_slow_down(planted: ModuleType) -> None:
    table = planted.table("randomisation", True)
    texts = {row.what: row.ours for row in PHENOMENA["randomisation"].beside(table)}
    assert "never fit" not in texts["slow-down by Gaussian pixels, all networks"]
    table.loc[table["randomisation"] == "Gaussian pixels", "epochs_to_fit"] = None
    table.loc[table["randomisation"] == "random pixels", "epochs_to_fit"] *= 2
    texts = {row.what: row.ours for row in PHENOMENA["randomisation"].beside(table)}
    runs = (table["randomisation"] == "Gaussian pixels").sum()
    assert texts["slow-down by Gaussian pixels, all networks"].endswith(f"{runs} of {runs} runs never fit")
    assert "never fit" not in texts["slow-down by random pixels, all networks"]
