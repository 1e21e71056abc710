"""The map of measures by axes: how each measure orders the runs along one hyper-parameter."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from gapbench.reports import scores


def columns(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Each column of the map: the name of its score, its heading, and what it is."""
    found = [(scores.PSI + axis, axis, f"granulated τ along {axis}") for axis in scores.axes(frame)]
    known = [entry for entry in found if bool(frame[entry[0]].notna().any())]
    if bool(frame["randomisation_auc"].notna().any()):
        known.append(("randomisation_auc", "labels (AUC)", scores.SCORES["randomisation_auc"].meaning))
    return known


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a measure: every cell's value, text, interval and shade (−10 … 10, 0 at chance)."""
    shown = columns(frame)
    return [
        {
            **row,
            "cells": [
                {
                    "value": row[name],
                    "text": scores.decimal(row[name]),
                    "note": scores.score_text(row, name),
                    "shade": shade(row[name], name),
                    "weak": _touches_chance(row, name),
                }
                for name, _, _ in shown
            ],
        }
        for row in scores.rows(frame)
    ]


def shade(value: float, name: str) -> int | None:
    """Ten steps either side of chance; None where there is no value."""
    if not math.isfinite(value):
        return None
    entry = scores.described(name)
    reach = entry.high - entry.chance
    return round(10 * max(-1.0, min(1.0, (value - entry.chance) / reach)))


def _touches_chance(row: dict[str, Any], name: str) -> bool:
    low, high, chance = row[f"{name}_low"], row[f"{name}_high"], scores.described(name).chance
    return not (low > chance or high < chance)
