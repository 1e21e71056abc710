"""Rows that only repeat the ranking of another measure in this zoo, folded into that measure's row."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd


def unfolded(frame: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard without the rows that repeat another's ranking; the attributes stay."""
    kept = frame[frame["same_as"] == ""]
    kept.attrs = frame.attrs
    return kept


def repeats(frame: pd.DataFrame) -> Mapping[str, list[str]]:
    """What is folded into each measure that stands for others, by its key."""
    found: dict[str, list[str]] = {}
    for key, parent in frame["same_as"].items():
        if parent:
            found.setdefault(str(parent), []).append(str(key))
    return found


def folded_text(frame: pd.DataFrame) -> str:
    """How many rows are folded, and why, in a sentence; empty where none is."""
    count = int((frame["same_as"] != "").sum())
    if not count:
        return ""
    rows, verb = ("row", "is") if count == 1 else ("rows", "are")
    return (
        f"{count} {rows} that order{'s' if count == 1 else ''} the runs of this zoo exactly as another measure does "
        f"(a variant by sample size at one sample size, say) {verb} folded into that measure’s row."
    )
