"""How complete a grid is."""

from __future__ import annotations

import itertools

import pandas as pd

from gapbench.evaluate.statistics.completeness import completeness
from gapbench.evaluate.statistics.design import Design


def test_complete_incomplete_and_unbalanced():
    rows = itertools.product(range(3), range(2), (0.0, 0.5), range(2))
    runs = pd.DataFrame(rows, columns=["A", "B", "label_noise", "seed"])
    whole = completeness(Design.of(runs, ["A", "B"]))
    assert (whole.configurations, whole.full, whole.fewest_runs, whole.most_runs) == (12, 12, 2, 2)
    assert whole.balanced
    assert whole.values == {"A": (8, 8, 8), "B": (12, 12), "label_noise": (12, 12)}
    one_less = completeness(Design.of(runs.drop(index=0), ["A", "B"]))
    assert one_less.complete
    assert not one_less.balanced
    assert one_less.sentence() == "12 of 12 configurations (100 %), 1 to 2 run(s) each"
    hole = completeness(Design.of(runs.drop(index=[0, 1]), ["A", "B"]))
    assert not hole.complete
    assert (hole.configurations, hole.full) == (11, 12)


def test_no_runs():
    runs = pd.DataFrame({"A": [], "seed": []})
    assert completeness(Design.of(runs, ["A"])).configurations == 0
