from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from gapbench.reports.findings import FAMOUS, answer, bound_verdict, plain

Frames = Callable[..., pd.DataFrame]


def sentences(frame: pd.DataFrame) -> list[str]:
    return [plain(sentence) for sentence in answer(frame)]


def test_always_three_sentences(frame: pd.DataFrame, frames: Frames) -> None:
    nothing = frames({"a": {"within_noise_tau": math.nan, "randomisation_auc": math.nan}})
    for shown in (sentences(frame), sentences(nothing)):
        assert len(shown) == 3
        assert all(text.endswith(".") and not re.search(r"nan|None,", text) for text in shown)


def test_a_lone_leader(frames: Frames) -> None:
    frame = frames({"a": {"within_noise_tau": (0.62, 0.48, 0.73)}, "b": {"within_noise_tau": (0.3, 0.2, 0.61)}})
    first = sentences(frame)[0]
    assert "a orders the error gap best: τ_b = .62 [.48, .73]" in first
    assert "against a noise ceiling of .85" in first
    assert "; every other measure is surely behind it." in first


def test_a_leader_that_is_not_defined_everywhere_says_so(frames: Frames) -> None:
    leader = {"within_noise_tau": (0.62, 0.48, 0.73)}
    frame = frames({"a": {**leader, "ok": 40, "undefined": 151, "failed": 1}, "b": {"within_noise_tau": 0.3}})
    assert "τ_b = .62 [.48, .73] on the 40 of 192 runs where it is defined, against" in sentences(frame)[0]
    assert "where it is defined" not in sentences(frames({"a": leader}))[0]


def test_rivals_are_compared_on_the_runs_that_both_cover(frames: Frames) -> None:
    """What scores lower on all runs may be ahead where the leader is defined, and what scores nearly as high behind."""
    scored = {"a": (0.62, 0.48, 0.73), "b": (0.6, 0.5, 0.7), "c": (0.3, 0.2, 0.4), "d": (0.4, 0.3, 0.5)}
    frame = frames({name: {"within_noise_tau": score} for name, score in scored.items()})
    for name, low, high in (("a", 0, 0), ("b", -0.2, -0.1), ("c", 0.05, 0.2), ("d", -0.1, 0.1)):
        frame.loc[name, ["within_noise_tau_behind_low", "within_noise_tau_behind_high"]] = low, high
    first = sentences(frame)[0]
    assert "a has the highest score for the error gap: τ_b = .62 [.48, .73] against" in first
    assert first.endswith("; 2 other measures are not surely behind it (d, c), 1 of them surely ahead (c).")
    frame.loc["a", "n"] = 40
    assert "are not surely behind it on the runs that both cover (d, c)" in sentences(frame)[0]


def test_leaders_within_noise_are_counted_and_named(frames: Frames) -> None:
    frame = frames(
        {
            "a": {"within_noise_tau": (0.62, 0.48, 0.73)},
            "b": {"within_noise_tau": (0.58, 0.5, 0.64)},
            "c": {"within_noise_tau": (0.5, 0.3, 0.62)},
            "d": {"within_noise_tau": (0.5, 0.3, 0.61)},
            "coin": {"within_noise_tau": (0.7, 0.6, 0.8), "control": True},
        }
    )
    assert "; 2 other measures are not surely behind it (b, c)." in sentences(frame)[0]


def test_many_leaders_are_not_all_named(frames: Frames) -> None:
    rows = {f"m{i}": {"within_noise_tau": (0.5 - i / 1000, 0.3, 0.7)} for i in range(12)}
    assert (
        "11 other measures are not surely behind it (m1, m2, m3, m4, m5, m6 and 5 more)." in sentences(frames(rows))[0]
    )


@pytest.mark.parametrize(("score", "words"), [(0.1, "better than chance"), (-0.5, "as its theory says")])
def test_no_leader(frames: Frames, score: float, words: str) -> None:
    first = sentences(frames({"a": {"within_noise_tau": score}, "b": {"within_noise_tau": score - 0.02}}))[0]
    assert first.startswith("No measure orders the error gap")
    assert words in first
    assert ("inside the null band [−.15, .15]" in first) == (score == 0.1)


def test_null_band_counts_follow_the_numbers(frames: Frames) -> None:
    rows: dict[str, dict[str, Any]] = {f"i{i}": {"within_noise_tau": 0.1} for i in range(3)}
    rows |= {f"b{i}": {"within_noise_tau": -0.4} for i in range(2)} | {"a": {"within_noise_tau": 0.5}}
    rows |= {"coin": {"within_noise_tau": 0.0, "control": True}, "never": {"within_noise_tau": math.nan}}
    second = sentences(frames(rows))[1]
    assert second.startswith("3 of the 6 ranked measures are inside the null band")
    assert "2 are below it: they order the gap against the declared sign" in second
    rows["i0"] = {"within_noise_tau": 0.2}
    assert sentences(frames(rows))[1].startswith("2 of the 6 ranked measures are")


def test_famous_measures_that_fail_the_randomisation_test(frames: Frames) -> None:
    rows = {
        "path_norm": {"randomisation_auc": 0.95},
        "num_params": {"randomisation_auc": 0.5, "within_noise_tau": 0.3},
        "param_norm": {"randomisation_auc": 0.1, "within_noise_tau": 0.2},
        "my_own": {"randomisation_auc": 0.2},
        "coin": {"randomisation_auc": 0.5, "control": True},
    }
    third = sentences(frames(rows))[2]
    assert third.startswith("2 of the 3 famous measures fail the randomisation test")
    assert "(num_params, param_norm); 1 of them gets it backwards" in third
    assert "my_own" not in third
    rows["num_params"] = rows["param_norm"] = {"randomisation_auc": 0.9}
    assert sentences(frames(rows))[2].startswith("All 3 famous measures pass the randomisation test")


def test_a_variant_is_as_famous_as_its_measure(frames: Frames) -> None:
    assert "path_norm" in FAMOUS
    assert "1 of the 1 famous" not in sentences(frames({"path_norm[p=1]": {"randomisation_auc": 0.9}}))[2]
    third = sentences(frames({"path_norm[p=1]": {"randomisation_auc": 0.5}, "b": {"randomisation_auc": 0.5}}))[2]
    assert "path_norm[p=1]" in third


def test_without_famous_measures_all_are_judged(frames: Frames) -> None:
    rows = {"a": {"randomisation_auc": 0.5}, "b": {"randomisation_auc": 0.9}}
    assert sentences(frames(rows))[2].startswith("1 of the 2 measures fails the randomisation test")


def test_without_twins_there_is_no_test(frames: Frames) -> None:
    assert "could not be made" in sentences(frames({"a": {"randomisation_auc": math.nan}}))[2]


def test_bound_verdict() -> None:
    values = pd.Series([2.0, 0.5, 0.2, math.nan])
    gap = pd.Series([0.1, 0.4, 0.3, 0.1])
    assert bound_verdict(values, gap) == "held in 2 of 3 runs, below 1 (not vacuous) in 2; median ratio to the gap 1.25"
    assert bound_verdict(values * math.nan, gap) == "no run has a value"


def test_famous_measures_exist() -> None:
    from gapbench.measures import MEASURES

    assert set(FAMOUS) <= {entry.name for entry in MEASURES.values()}


def test_what_repeats_a_ranking_is_not_counted_again(frames: Frames) -> None:
    rows = {"a": {"randomisation_auc": 0.5}, "b": {"randomisation_auc": 0.5}}
    twice = {**rows, "a_per_sample": {"randomisation_auc": 0.5, "same_as": "a"}}
    assert "All 2 ranked measures are inside the null band" in sentences(frames(twice))[1]
    assert sentences(frames(twice)) == sentences(frames(rows))
    assert "All 3 ranked measures" in sentences(frames({**twice, "a_per_sample": {"randomisation_auc": 0.5}}))[1]


def test_one_measure_on_few_runs_does_not_speak_for_all(frames: Frames) -> None:
    frame = frames({"rare": {"within_noise_tau": 1.0, "n": 4}, "path_norm": {"within_noise_tau": 0.78}})
    frame.loc["rare", ["within_noise_tau_null_low", "within_noise_tau_null_high"]] = -1, 1
    assert sentences(frame)[0] == (
        "The highest score for the error gap is that of rare: τ_b = 1.00 [.92, 1.08] on the 4 of 192 runs where it is "
        "defined, inside the null band [−1.00, 1.00] of a measure that knows nothing; one other is above its own "
        "(path_norm)."
    )


def test_a_distance_that_is_not_known_is_not_sure(frames: Frames) -> None:
    frame = frames({"a": {"within_noise_tau": 0.6}, "b": {"within_noise_tau": (0.3, math.nan, math.nan)}})
    frame["within_noise_tau_low"] = frame["within_noise_tau_low"].fillna(-1.0)
    assert sentences(frame)[0].endswith("; one other measure is not surely behind it (b).")
    assert sentences(frames({"a": {"within_noise_tau": 0.6}}))[0].endswith("; no other measure is ranked.")


def test_what_has_no_interval_is_no_leader_where_others_have_one(frames: Frames) -> None:
    scored = {"few": {"within_noise_tau": (0.9, math.nan, math.nan)}, "a": {"within_noise_tau": 0.6}}
    assert " a orders the error gap best" in sentences(frames(scored))[0]
    alone = {"few": {"within_noise_tau": (0.9, math.nan, math.nan)}}
    assert " few orders the error gap best" in sentences(frames(alone))[0]


def test_why_the_randomisation_test_could_not_be_made(frames: Frames) -> None:
    nowhere = {"a": {"randomisation_auc": math.nan}}
    assert "no measure is defined on two runs that differ" in sentences(frames(nowhere))[2]
    assert "there are not here two runs that differ" in sentences(frames(nowhere, noises=[0.0]))[2]
    frame = frames({"a": {"randomisation_auc": 1.0}, "b": {"randomisation_auc": 0.5}})
    frame["randomisation_auc_null_high"] = 1.0
    assert "too few recipes" in sentences(frame)[2]
    frame.loc["b", "randomisation_auc_null_high"] = 0.9
    assert sentences(frame)[2].startswith("The one measure fails the randomisation test")


def test_one_measure_is_counted_in_words(frames: Frames) -> None:
    assert sentences(frames({"a": {"within_noise_tau": 0.6}}))[1].startswith("No ranked measure is inside")
    assert sentences(frames({"a": {"within_noise_tau": 0.1}}))[1].startswith("The one ranked measure is inside")
