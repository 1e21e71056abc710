from __future__ import annotations

from typing import Any

import pytest

from gapbench.reports.scores import RANKING, rank_labels, ranked
from gapbench.reports.standing import standing


def test_a_ranked_measure_has_its_place_and_verdict(frame: Any) -> None:
    labels = dict(zip(frame.index, rank_labels(frame)))
    first = next(key for key, label in labels.items() if label == "1")
    text = standing(frame, first)
    assert text.startswith(f"place 1 of {len(ranked(frame))}")
    assert "within-noise τ_b" in text
    assert "ok on 192 of 192 runs" in text


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.9, "better than chance"), (0.0, "no better than a random measure"), (-0.9, "against its declared sign")],
)
def test_the_verdict_is_that_of_the_null_band(frame: Any, score: float, verdict: str) -> None:
    moved = frame.copy()
    key = next(key for key, label in zip(frame.index, rank_labels(frame)) if label == "1")
    moved.loc[key, [RANKING, f"{RANKING}_null_low", f"{RANKING}_null_high"]] = [score, -0.2, 0.2]
    moved.attrs = frame.attrs
    assert verdict in standing(moved, key)


def test_a_control_is_not_ranked(frame: Any) -> None:
    assert standing(frame, "coin").startswith("a control, not ranked")
    frame.loc["coin", "kind"] = "predictor"
    assert standing(frame, "coin").startswith("a predictor, fitted to the gap, not ranked")


def test_what_repeats_a_ranking_stands_with_its_parent(frame: Any) -> None:
    key = next(key for key, label in zip(frame.index, rank_labels(frame)) if label == "1")
    frame.loc[key, "same_as"] = "another"
    assert standing(frame, key).startswith("orders these runs exactly as another, which is ranked for it")


def test_what_is_not_on_the_leaderboard_is_an_error(frame: Any) -> None:
    with pytest.raises(KeyError, match="no_such"):
        standing(frame, "no_such")


def test_a_band_that_holds_every_score_tells_nothing(frame: Any) -> None:
    key = next(key for key, label in zip(frame.index, rank_labels(frame)) if label == "1")
    frame.loc[key, [RANKING, f"{RANKING}_null_low", f"{RANKING}_null_high"]] = [1.0, -1.0, 1.0]
    assert "too few recipes to tell" in standing(frame, key)
    frame.loc[key, "n"] = 40
    assert "ok on 40 of 192 runs" in standing(frame, key)
