"""What is said of how the scores of a leaderboard were made."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from gapbench.reports.scores import method_text


def test_partial_coverage_is_said(frames: Callable[..., pd.DataFrame]) -> None:
    frame = frames({"a": {"within_noise_tau": 0.5}, "coin": {"within_noise_tau": 0.1, "control": True, "undefined": 2}})
    note = "a measure that is not ok on every run has its score and its rank from the runs where it is"
    assert note not in method_text(frame)
    frame.loc["a", "n"] = 191
    assert note in method_text(frame)
