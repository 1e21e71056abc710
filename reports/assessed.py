"""The further statistics of every measure, as rows of a table and as lines of a card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapbench.evaluate.assessment import adjusted_p
from gapbench.reports import scores
from gapbench.reports.folded import unfolded

INFORMATION = "conditional_mutual_information"


@dataclass(frozen=True)
class Statistic:
    """How a column of an assessment is shown; ``better`` says which values are good."""

    key: str
    title: str
    meaning: str
    better: str = "larger"
    digits: int = 2


STATISTICS = (
    Statistic("spearman", "Spearman ρ", "rank correlation with the gap over all runs"),
    Statistic(
        INFORMATION,
        "conditional information",
        "least share of what the order of the gaps tells, given any two hyper-parameters, that the measure's order "
        "tells (sign-blind, biased upward: read it beside its null band)",
        digits=3,
    ),
    Statistic("pgdl_score", "PGDL score", "the score of the 2020 competition, in hundredths, for its tables", digits=1),
    Statistic(
        "partial_correlation",
        "partial correlation",
        "of the ranks of measure and gap, given every axis and label noise",
    ),
    Statistic(
        "mixed_model",
        "mixed model β",
        "standard deviations of the gap's rank for one of the measure's, given the design, configuration random",
    ),
    Statistic(
        "r2_increment",
        "ΔR² over the design",
        "what the measure adds, on recipes not fitted to, to the design's prediction of the gap's rank",
        digits=3,
    ),
    Statistic(
        "affine_oracle",
        "affine oracle",
        "root mean squared error of the best line through the measure in the held-out value of an axis it serves "
        "worst, in units of the gap",
        better="smaller",
        digits=3,
    ),
    Statistic(
        "selection_regret",
        "selection regret",
        "test error lost, among runs of equal training error, by choosing the one of the smallest measure",
        better="smaller",
        digits=3,
    ),
    Statistic(
        "better_than_random", "gain over chance", "test error won by that choice over a random one", digits=3
    ),
)  # fmt: skip


def columns(assessment: pd.DataFrame) -> list[Statistic]:
    """The statistics that this assessment has a value of."""
    return [one for one in STATISTICS if one.key in assessment and bool(assessment[one.key].notna().any())]


def text(row: Mapping[str, Any], statistic: Statistic) -> str:
    """The statistic with its interval: ".43 [.21, .60]"."""
    point, low, high = (float(row.get(f"{statistic.key}{end}", math.nan)) for end in ("", "_low", "_high"))
    if not math.isfinite(point):
        return "–"
    shown = _number(point, statistic.digits)
    if not math.isfinite(low) or not math.isfinite(high):
        return shown
    return f"{shown} [{_number(low, statistic.digits)}, {_number(high, statistic.digits)}]"


def _number(value: float, digits: int) -> str:
    if abs(value) >= 1000:
        return f"{value:.2g}".replace("-", "−")
    return scores.decimal(value, digits)


def of_measure(assessment: pd.DataFrame | None, key: str) -> list[tuple[str, str]]:
    """The statistics of one measure, each with its name; those without a value are left out."""
    if assessment is None or key not in assessment.index:
        return []
    row = scores.record(assessment, key)
    shown = [(one.title, text(row, one)) for one in columns(assessment) if math.isfinite(row[one.key])]
    return [(title, _with_null(row, value) if title == _INFORMATION_TITLE else value) for title, value in shown]


_INFORMATION_TITLE = STATISTICS[1].title


def _with_null(row: Mapping[str, Any], value: str) -> str:
    high, p = row[f"{INFORMATION}_null_high"], row[f"{INFORMATION}_p"]
    return f"{value}; null up to {scores.decimal(high, 3)}, p {scores.p_value(p)}" if math.isfinite(p) else value


def adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """The adjusted p-values of the ranking score and of the randomisation AUC, by measure."""
    return adjusted_p(frame, (scores.RANKING, "randomisation_auc"))


def rows(assessment: pd.DataFrame, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a measure, in the order of the leaderboard, with each statistic's value and text."""
    shown, found = columns(assessment), []
    for row in scores.rows(frame):
        if row["key"] not in assessment.index:
            continue
        one = scores.record(assessment, row["key"])
        found.append(
            {
                **row,
                "cells": [
                    {"value": one[s.key], "text": text(one, s), "weak": s.key == INFORMATION and not _informs(one)}
                    for s in shown
                ],
            }
        )
    return found


def _informs(row: Mapping[str, Any]) -> bool:
    return bool(row[INFORMATION] > row[f"{INFORMATION}_null_high"])


def multiplicity(frame: pd.DataFrame, adjusted: pd.DataFrame, level: float = 0.05) -> str:
    """How many measures' ranking scores differ from chance by themselves, and after each adjustment."""
    competing = scores.ranked(unfolded(frame))
    p = competing[f"{scores.RANKING}_p"]
    tested = p.dropna().index
    own = int((p[tested] <= level).sum())
    holm, bh = (int((adjusted.loc[tested, f"{scores.RANKING}_{name}"] <= level).sum()) for name in ("holm", "bh"))
    smallest = 1 / (1 + int(frame.attrs["permutations"]))
    out_of_reach = (
        f" With {frame.attrs['permutations']} permutations no p-value is below {smallest:.2g}, and Holm’s smallest "
        f"possible one is {min(1.0, smallest * len(tested)):.2g}."
        if smallest * len(tested) > level
        else ""
    )
    return (
        f"Of {len(tested)} ranked measures {own} differ from chance at 5 % each by itself (5 % of {len(tested)} would "
        f"be {0.05 * len(tested):.0f}); {holm} after Holm’s adjustment, which keeps the chance of any false one at "
        f"5 %; {bh} after Benjamini and Hochberg’s, which keeps the expected share of false ones at 5 %.{out_of_reach}"
    )


def facts(assessment: pd.DataFrame, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """What this zoo can show at all: ceiling, seeds, power."""
    attrs = assessment.attrs
    found = [("noise ceiling of τ_b within a label noise", scores.ceiling_text(frame))]
    if math.isfinite(attrs["between_seeds"]):
        found.append(
            (
                "τ_b between the gaps of two seeds",
                f"{scores.decimal(attrs['between_seeds'])}: about what a measure that sees the recipe and not the "
                "network can score at most",
            )
        )
    if math.isfinite(attrs["smallest_detectable"]):
        found.append(("smallest within-noise τ_b found with 80 % power", scores.decimal(attrs["smallest_detectable"])))
    return found
