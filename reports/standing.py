"""Where a measure stands on a stored zoo, in a line: what `gapbench show NAME` adds to the registry's facts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gapbench.reports.scores import (
    MEASURE,
    RANKING,
    SCORES,
    place,
    rank_interval,
    rank_labels,
    ranked,
    rows,
    score_text,
)

_KINDS = {"control": "a control", "predictor": "a predictor, fitted to the gap", "uses test inputs": "sees test inputs"}
_VERDICTS = {
    "above": "better than chance",
    "inside": "inside its null band: no better than a random measure",
    "below": "orders the gap against its declared sign",
}

_UNTOLD = "inside its null band, as every score would be: too few recipes to tell"


def standing(frame: pd.DataFrame, key: str) -> str:
    """The place, scores, coverage and seconds of one measure on a leaderboard; why there is no place, where none is.

    Raises: KeyError where the leaderboard has no such row.
    """
    at = list(frame.index).index(key) if key in frame.index else -1
    if at < 0:
        raise KeyError(key)
    row, rank = rows(frame)[at], rank_labels(frame)[at]
    parts = []
    if rank.isdigit():
        shown = rank_interval(row)
        parts.append(f"place {rank} of {len(ranked(frame))}{f' [{shown}]' if shown else ''}")
        told = row[f"{RANKING}_null_high"] < SCORES[RANKING].high
        where = place(row, RANKING)
        parts.append(_VERDICTS.get(where, "no null band") if told or where != "inside" else _UNTOLD)
    elif row["same_as"]:
        parts.append(f"orders these runs exactly as {row['same_as']}, which is ranked for it")
    elif row["kind"] != MEASURE:
        parts.append(f"{_KINDS.get(row['kind'], row['kind'])}, not ranked")
    else:
        parts.append("no ranking score")
    shown_scores = (f"{SCORES[name].title} {score_text(row, name)}" for name in _shown(row))
    parts.append(", ".join(shown_scores))
    parts.append(f"ok on {row['n']} of {frame.attrs['runs']} runs")
    parts.append(f"{row['seconds']:.2g} s a run")
    return "; ".join(part for part in parts if part)


def _shown(row: dict[str, object]) -> Sequence[str]:
    return [name for name in (RANKING, "granulated_tau", "randomisation_auc") if score_text(row, name) != "–"]
