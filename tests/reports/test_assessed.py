from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from gapbench.reports import assessed, by_axis


def test_text_has_the_digits_of_its_statistic() -> None:
    by_key = {one.key: one for one in assessed.STATISTICS}
    row = {"spearman": 0.514, "spearman_low": -0.2, "spearman_high": 0.8, "affine_oracle": 1234.5, "pgdl_score": 12.34}
    assert assessed.text(row, by_key["spearman"]) == ".51 [−.20, .80]"
    assert assessed.text(row, by_key["affine_oracle"]) == "1.2e+03"
    assert assessed.text(row, by_key["pgdl_score"]) == "12.3"
    assert assessed.text({"spearman": np.nan}, by_key["spearman"]) == "–"


def test_multiplicity_counts_what_is_ranked(frames: Callable[..., pd.DataFrame]) -> None:
    rows = {
        f"m{at:02d}": {"within_noise_tau": 0.5, "within_noise_tau_p": p} for at, p in enumerate([0.001, 0.02, 0.04])
    }
    rows["coin"] = {"within_noise_tau": 0.5, "within_noise_tau_p": 0.001, "control": True}
    rows["m00_again"] = {"within_noise_tau": 0.5, "within_noise_tau_p": 0.001, "same_as": "m00"}
    frame = frames(rows, permutations=9999)
    text = assessed.multiplicity(frame, assessed.adjusted(frame))
    assert "Of 3 ranked measures 3 differ from chance" in text
    assert "; 3 after Holm" in text
    assert "no p-value is below" not in text
    few = frames(rows, permutations=30)
    assert "no p-value is below 0.032" in assessed.multiplicity(few, assessed.adjusted(few))
    later = frames({**rows, "m02": {"within_noise_tau": 0.5, "within_noise_tau_p": 0.2}}, permutations=9999)
    assert "; 2 after Holm" in assessed.multiplicity(later, assessed.adjusted(later))


def test_shades_are_deepest_at_the_ends_and_none_at_chance() -> None:
    assert [by_axis.shade(value, "psi_width") for value in (-1.0, -0.5, 0.0, 1.0)] == [-10, -5, 0, 10]
    assert [by_axis.shade(value, "randomisation_auc") for value in (0.0, 0.5, 1.0)] == [-10, 0, 10]
    assert by_axis.shade(np.nan, "psi_width") is None


def test_cells_whose_interval_leaves_chance_out_are_sure(frames: Callable[..., pd.DataFrame]) -> None:
    frame = frames({"a": {"randomisation_auc": (0.6, 0.55, 0.7)}, "b": {"randomisation_auc": (0.6, 0.4, 0.7)}})
    found = {row["key"]: row["cells"][1]["weak"] for row in by_axis.rows(frame)}
    assert found == {"a": False, "b": True}
    assert [name for name, _, _ in by_axis.columns(frame)] == ["psi_width", "randomisation_auc"]


def test_facts_need_numbers(frames: Callable[..., pd.DataFrame]) -> None:
    frame, assessment = frames({"a": {}}), pd.DataFrame({"spearman": [0.5]}, index=["a"])
    assessment.attrs = {"between_seeds": 0.6, "smallest_detectable": np.nan}
    assert [name for name, _ in assessed.facts(assessment, frame)] == [
        "noise ceiling of τ_b within a label noise",
        "τ_b between the gaps of two seeds",
    ]
    assert assessed.of_measure(assessment, "a") == [("Spearman ρ", ".50")]
    assert assessed.of_measure(None, "a") == assessed.of_measure(assessment, "b") == []
