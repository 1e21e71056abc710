"""The scores of a leaderboard: what they are called, where chance lies, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapbench.datasets.errors import unknown


@dataclass(frozen=True)
class Score:
    """How a score is shown: ``chance`` is what a measure that knows nothing scores, ``low`` and ``high`` its range."""

    key: str
    title: str
    meaning: str
    chance: float = 0.0
    low: float = -1.0
    high: float = 1.0


SCORES: Mapping[str, Score] = {
    score.key: score
    for score in (
        Score(
            "within_noise_tau",
            "within-noise τ_b",
            "Kendall's τ_b inside each label-noise level, averaged over the levels",
        ),
        Score(
            "granulated_tau", "granulated τ", "τ along one hyper-parameter at a time, averaged over cells, then axes"
        ),
        Score("tau_b", "τ_b", "Kendall's τ_b over all runs; the label-noise axis weighs heavily in it"),
        Score("tau_a", "τ_a", "Kendall's τ_a over all runs; a tie counts 0"),
        Score(
            "randomisation_auc",
            "randomisation AUC",
            "share of pairs of runs equal in all but their labels where the measure is larger, in the direction of "
            "its sign, for the more corrupted labels",
            chance=0.5,
            low=0.0,
        ),
    )
}
"""Every score of a leaderboard frame, the ranking score first."""

PSI = "psi_"
"""The start of the names of the granulated tau along one axis."""


def described(name: str) -> Score:
    """How a score is shown, that along one axis too.

    Raises: KeyError where it is none.
    """
    if name in SCORES or not name.startswith(PSI):
        return SCORES[name]
    axis = name.removeprefix(PSI)
    return Score(name, f"granulated τ along {axis}", f"τ between the values of {axis}, everything else fixed")


RANKING = "within_noise_tau"
"""The score that orders the leaderboard."""

MEASURE = "measure"
"""The kind of row that is ranked."""

TARGETS: Mapping[str, tuple[str, str]] = {
    "error_gap": ("error gap", "fraction"),
    "loss_gap": ("loss gap", "nats"),
    "clean_error_gap": ("clean error gap", "fraction"),
}
"""The name and the unit of each target."""


def target_name(target: str) -> str:
    """The words for a target column; an unknown one is its own name without underscores."""
    return TARGETS.get(target, (target.replace("_", " "), ""))[0]


def target_label(target: str) -> str:
    """The target's name with its unit, for an axis."""
    name, unit = TARGETS.get(target, (target.replace("_", " "), ""))
    return f"{name} ({unit})" if unit else name


def decimal(value: float, digits: int = 2, *, minus: str = "−") -> str:
    """A number between -1 and 1 without its leading zero (".62", "−.07", "1.00"); "–" where there is none."""
    if not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0.") else text
    return minus + text if value < 0 and float(text) != 0 else text


def seconds(value: float) -> str:
    """A duration with three digits at most and its unit."""
    if not math.isfinite(value):
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.2g} ms" if value < 0.0995 else f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"


def interval(point: float, low: float, high: float, *, minus: str = "−") -> str:
    """A score with its interval: ".62 [.48, .73]"; "–" where there is no score, no bracket where no interval."""
    if not math.isfinite(point):
        return "–"
    if not (math.isfinite(low) and math.isfinite(high)):
        return decimal(point, minus=minus)
    return f"{decimal(point, minus=minus)} [{decimal(low, minus=minus)}, {decimal(high, minus=minus)}]"


def score_text(row: Mapping[str, Any], score: str, *, minus: str = "−") -> str:
    """The interval text of one score of one leaderboard row."""
    return interval(row[score], row[f"{score}_low"], row[f"{score}_high"], minus=minus)


def place(row: Mapping[str, Any], score: str) -> str:
    """Where a score lies against its null band: "above", "inside" or "below"; empty where either is missing."""
    value, low, high = row[score], row.get(f"{score}_null_low", math.nan), row.get(f"{score}_null_high", math.nan)
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high)):
        return ""
    return "above" if value > high else "below" if value < low else "inside"


def places(frame: pd.DataFrame, score: str) -> pd.Series[str]:
    """`place` of every row, indexed as the frame."""
    return pd.Series([place(row, score) for row in rows(frame)], index=frame.index, dtype=object)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a leaderboard as dicts, in order, each with its measure's key under "key"."""
    return [
        {"key": str(key), **{str(name): value for name, value in row.items()}}
        for key, row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]


def record(frame: pd.DataFrame, key: str) -> dict[str, Any]:
    """One row of a frame by its key, as a dict."""
    row: Any = frame.loc[key]
    return {str(name): value for name, value in row.items()}


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that compete: measures with a ranking score that repeat no other's ranking."""
    return frame[_competes(frame, RANKING)]


def _competes(frame: pd.DataFrame, score: str) -> pd.Series[bool]:
    """Which rows have a rank by a score: with an interval, unless there are too few recipes for any."""
    known = (frame["kind"] == MEASURE) & (frame["same_as"] == "") & frame[score].notna()
    sure: pd.Series[bool] = known & frame[f"{score}_low"].notna()
    return sure if sure.any() else known


def rank_labels(frame: pd.DataFrame, score: str = RANKING) -> list[str]:
    """The rank of every row, counted down the frame: "" for what is no measure, "–" without this score
    or its interval, and "=" for
    what repeats the ranking of another.
    """
    labels, rank = [], 0
    for row, competes in zip(rows(frame), _competes(frame, score), strict=True):
        rank += bool(competes)
        labels.append(str(rank) if competes else _unranked(row))
    return labels


def _unranked(row: Mapping[str, Any]) -> str:
    return "" if row["kind"] != MEASURE else "=" if row["same_as"] else "–"


SORTABLE = (*SCORES, "seconds", "measure")
"""What a leaderboard can be sorted by, beside the granulated tau along an axis."""


def sorted_by(frame: pd.DataFrame, score: str) -> pd.DataFrame:
    """The frame by this column, best first: the cheapest first by seconds, of what has a ranking score; by name in the
    alphabet. Attributes stay.

    Raises: InputError where it is none of `SORTABLE` and no granulated tau along an axis of the zoo.
    """
    known = [*SORTABLE, *(PSI + axis for axis in axes(frame))]
    if score not in known:
        raise unknown("score", score, known)
    if score == "measure":
        ordered = frame.sort_index(kind="stable")
    elif score == "seconds":
        ordered = frame.loc[frame["seconds"].where(frame[RANKING].notna()).sort_values(kind="stable").index]
    else:
        ordered = frame.sort_values(score, ascending=False, kind="stable")
    ordered.attrs = frame.attrs
    return ordered


_STRATA = {RANKING: "within_noise", "tau_b": "overall"}
_LEVEL = "label_noise="


def ceiling(frame: pd.DataFrame, score: str = RANKING) -> Mapping[str, float] | None:
    """The noise ceiling of a score: what the true gap could reach, the test sets being finite.

    Returns: a mapping with "ceiling", "low" and "high", or None where it is not known for this score.
    """
    entry = dict(frame.attrs.get("ceiling") or {}).get(_STRATA.get(score, ""))
    return entry if entry is not None and math.isfinite(entry["ceiling"]) else None


def ceiling_text(frame: pd.DataFrame, *, minus: str = "−") -> str:
    """The noise ceiling of the ranking score in words, with its interval, and that of each label noise."""
    mean = ceiling(frame)
    if mean is None:
        return "not known (it needs the error of every test example)"
    text = interval(mean["ceiling"], mean["low"], mean["high"], minus=minus)
    levels = {name: entry for name, entry in frame.attrs["ceiling"].items() if str(name).startswith(_LEVEL)}
    if len(levels) > 1:
        parts = (f"{name.removeprefix(_LEVEL)}: {decimal(e['ceiling'], minus=minus)}" for name, e in levels.items())
        text += f" (by label noise {', '.join(parts)})"
    return text


def counts_text(frame: pd.DataFrame) -> str:
    """How many runs, recipes, label noises and seeds were ranked, and how many runs were left out and why."""
    attrs = frame.attrs
    noises = list(attrs["noises"])
    design = f"{_plural(attrs['recipes'], 'recipe')}, {_plural(len(noises), 'label noise')} ("
    design += f"{', '.join(f'{noise:g}' for noise in noises)}), {_plural(attrs['seeds'], 'seed')}"
    part = f" with {' and '.join(attrs['within'])}" if attrs.get("within") else ""
    text = f"{_plural(attrs['runs'], 'run')}{part}: {design}"
    excluded = int(attrs["excluded_not_converged"])
    if excluded:
        text += f"; {excluded} more did not converge and {'is' if excluded == 1 else 'are'} not ranked"
    constant = [f"{noise:g}" for noise in attrs.get("constant_gap") or ()]
    if constant:
        text += f"; the gap is constant at label noise {', '.join(constant)}, which within-noise scores leave out"
    few = [f"{noise:g}" for noise in attrs.get("few_recipes") or ()]
    if few:
        text += f"; within-noise scores leave out label noise {', '.join(few)}, of too few recipes"
    return text


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def method_text(frame: pd.DataFrame) -> str:
    """How the intervals and null bands were made, and what a rank is of."""
    attrs = frame.attrs
    text = f"intervals: 95 %, over whole recipes; null bands: 95 % of {attrs['permutations']} permutations"
    if "rank_low" in frame:
        text += f"; rank intervals: 95 % of {attrs['resamples']} paired resamples of recipes"
    placed = ranked(frame)
    if bool((placed["n"] < attrs["runs"]).any()):
        text += "; a measure that is not ok on every run has its score and its rank from the runs where it is"
    return f"{text}; seed {attrs['seed']}"


def rank_interval(row: Mapping[str, Any]) -> str:
    """Where a measure's rank lies in 95 % of the resamples ("1–4"); empty where that is not known."""
    low, high = row.get("rank_low", math.nan), row.get("rank_high", math.nan)
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{math.floor(low)}–{math.ceil(high)}"


def axes(frame: pd.DataFrame) -> list[str]:
    """The hyper-parameters along which the frame has a granulated tau."""
    names = [str(name) for name in frame]
    return [name.removeprefix(PSI) for name in names if name.startswith(PSI) and f"{name}_low" in names]


def p_value(value: float) -> str:
    """A p-value with two digits after the point, or as "<.01"; "–" where there is none."""
    return "<.01" if value < 0.005 else decimal(value)


def share_of_ceiling(row: Mapping[str, Any], frame: pd.DataFrame, score: str = RANKING) -> str:
    """The score as a percentage of its noise ceiling; empty where either is unknown."""
    limit = ceiling(frame, score)
    if limit is None or not math.isfinite(row[score]) or limit["ceiling"] <= 0:
        return ""
    return f"{100 * row[score] / limit['ceiling']:.0f} %".replace("-", "−")


def psi_text(row: Mapping[str, Any]) -> str:
    """The granulated tau along each axis: "width .31 [.05, .52], depth …"; empty where the frame has none."""
    names = [name for name in row if name.startswith(PSI) and f"{name}_low" in row]
    known = [name for name in names if math.isfinite(row[name])]
    return ", ".join(f"{name.removeprefix(PSI)} {score_text(row, name)}" for name in known)
