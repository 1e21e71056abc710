from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from gapbench.measures import MEASURES
from gapbench.reports import bounded


@pytest.mark.parametrize(
    ("held", "below", "said"),
    [
        (1.0, 1.0, "never vacuous"),
        (1.0, 0.0, "always vacuous"),
        (0.75, 0.9, "vacuous on 10 %; failed on 25 %"),
        (0.999, 1.0, "never vacuous; failed on under 1 %"),
    ],
)
def test_verdict(held: float, below: float, said: str) -> None:
    assert bounded.verdict(held, below) == said


def test_says_keeps_the_sentences_on_what_is_bounded() -> None:
    text = "A bound.\n\nFormula: a/b. It bounds, with\nprobability 1 − δ, the error of ``Q``. Raises: nothing."
    assert bounded.says(text) == "A bound. It bounds, with probability 1 − δ, the error of <code>Q</code>."
    assert bounded.says("One <b>.") == "One &lt;b&gt;."


def test_every_registered_bound_says_what_it_bounds() -> None:
    told = {key: bounded.says(entry.documentation) for key, entry in MEASURES.items() if entry.bound}
    assert len(told) >= 5
    for key, text in told.items():
        assert "it bounds" in text.lower() or "may fail" in text, key
        if MEASURES[key].family == "pac_bayes":
            assert any(word in text for word in ("stochastic", "compressed", "random network", "dziugaite_roy")), key


def test_rows_are_the_bounds_tightest_first(table: Any, frames: Callable[..., pd.DataFrame]) -> None:
    keys = ["measure_04", "measure_01", "measure_02"]
    ends = ("", "_low", "_high")
    columns = [f"{name}{end}" for name in ("bound_held", "bound_below_one", "bound_ratio") for end in ends]
    values = {"measure_04": (0.5, 0.25, 7.0), "measure_01": (1.0, 0.0, 3.0)}
    rows = {key: [part + end for part in found for end in (0.0, -0.1, 0.1)] for key, found in values.items()}
    assessed = pd.DataFrame.from_dict(rows, orient="index", columns=columns).reindex(keys)
    found = bounded.bounds(table, frames({key: {} for key in keys}), assessed)
    assert [row["key"] for row in found] == ["measure_01", "measure_04"]
    assert found[1]["held"] == "50 % [40, 60]"
    assert found[0]["ratio"] == "3 [2.9, 3.1]"
    assert bounded.bounds(table, frames({"measure_04": {}}), None) == []
