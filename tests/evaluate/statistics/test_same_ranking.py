"""Measures that rank the runs alike are found, and nothing else is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from gapbench.evaluate.statistics.same_ranking import same_rankings


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).lognormal(3, 2, 50).round(1) + 0.1


def found(columns: dict[str, np.ndarray], groups: dict[str, str] | None = None) -> dict[str, str]:
    kinds = [(groups or {}).get(name, "measure") for name in columns]
    return dict(same_rankings(np.stack(list(columns.values()), axis=1), list(columns), kinds))


def test_an_increasing_map_is_folded_into_the_shortest_name(values: np.ndarray) -> None:
    columns = {"norm_per_sample": np.sqrt(values / 96), "norm": values, "log_norm": np.log(values), "other": -values}
    assert found(columns) == {"norm_per_sample": "norm", "log_norm": "norm"}
    assert kendalltau(values, columns["log_norm"]).statistic == pytest.approx(1)


def test_one_exchange_one_tie_or_one_missing_value_is_another_ranking(values: np.ndarray) -> None:
    low, high = np.argsort(values)[20:22]
    exchanged, tied, missing = values.copy(), values.copy(), values.copy()
    exchanged[[low, high]] = values[[high, low]]
    tied[low] = tied[high]
    missing[0] = np.nan
    assert found({"a": values, "b": exchanged}) == {} or values[low] == values[high]
    for one, other in itertools.combinations([np.sort(values)[::2], tied[::2], missing[::2]], 2):
        assert found({"a": one, "b": other}) == {}
    assert found({"a": missing, "b": np.exp(-1 / missing)}) == {"b": "a"}


def test_kinds_stay_apart_and_constants_repeat_nothing(values: np.ndarray) -> None:
    assert found({"a": values, "b": values}, {"b": "control"}) == {}
    constant, absent = np.ones(50), np.full(50, np.nan)
    assert found({"a": constant, "b": constant, "c": absent, "d": absent}) == {}


def test_rounding_errors_make_no_difference(values: np.ndarray) -> None:
    twice = np.concatenate([values, values])
    noisy = twice * (1 + 1e-15 * np.random.default_rng(1).standard_normal(100))
    assert found({"a": twice, "b": noisy}) == {"b": "a"}
    assert found({"a": twice, "b": twice * (1 + 1e-6 * np.random.default_rng(1).standard_normal(100))}) == {}
