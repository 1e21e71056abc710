"""The answer in three sentences, made from the numbers of a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapbench.reports.scores import (
    MEASURE,
    RANKING,
    ceiling,
    decimal,
    interval,
    place,
    places,
    ranked,
    rows,
    score_text,
    target_name,
)

FAMOUS = (
    "num_params",
    "param_norm",
    "l2_distance",
    "frobenius_distance",
    "log_prod_frobenius",
    "log_prod_spectral",
    "log_prod_spectral_over_margin",
    "log_prod_frobenius_over_margin",
    "bartlett_foster_telgarsky",
    "spectral_orig_main",
    "inverse_margin",
    "path_norm",
    "fisher_rao",
    "pacbayes_init",
    "pacbayes_orig",
    "pacbayes_flatness",
    "pacbayes_mag_flatness",
    "worst_sharpness_linf",
    "worst_adaptive_sharpness_linf",
    "hessian_top",
    "hessian_trace",
    "alpha",
    "alpha_weighted",
    "stable_rank",
    "training_speed",
)
"""Names that every reader of this literature knows; they only decide whom the third sentence speaks of."""


@dataclass(frozen=True)
class Mention:
    """A measure named in a sentence, so that a page can link to it."""

    key: str


Sentence = tuple[str | Mention, ...]

_NAMED = 6


def answer(frame: pd.DataFrame) -> tuple[Sentence, Sentence, Sentence]:
    """Three sentences: who leads and how surely, how many know nothing, and which famous ones fail the randomisation.

    A measure competes where it has a ranking score; controls and predictors do not. It is *surely behind* the leader
    where the 95 % interval of their distance, on the runs that both cover, is below 0; it *knows nothing* where its
    score is inside its null band; it *fails* the randomisation test where its AUC is not above that score's null band.
    """
    return _leaders(frame), _inside(frame), _randomisation(frame)


def plain(sentence: Sentence) -> str:
    """The sentence as text."""
    return "".join(part.key if isinstance(part, Mention) else part for part in sentence)


def _leaders(frame: pd.DataFrame) -> Sentence:
    competing = rows(ranked(frame).sort_values(RANKING, ascending=False, kind="stable"))
    target = target_name(str(frame.attrs["target"]))
    if not competing:
        return (f"No measure could be ranked by the {target}: every score is missing.",)
    leader = competing[0]
    score = f"τ_b = {score_text(leader, RANKING)}"
    if place(leader, RANKING) == "inside":
        band = interval(leader[RANKING], leader[f"{RANKING}_null_low"], leader[f"{RANKING}_null_high"])
        band = band[band.index("[") :]
        known = f"{score}{_where(leader, frame)}, inside the null band {band} of a measure that knows nothing"
        above = [row["key"] for row in competing if place(row, RANKING) == "above"]
        if not above:
            best: Sentence = ("the best, ", Mention(leader["key"]), f", scores {known}.")
            return (f"No measure orders the {target} better than chance: ", *best)
        others = "one other is above its own" if len(above) == 1 else f"{len(above)} others are above their own"
        named: Sentence = (f": {known}; {others} (", *_names(above), ").")
        return (f"The highest score for the {target} is that of ", Mention(leader["key"]), *named)
    if place(leader, RANKING) == "below" or leader[RANKING] <= 0:
        text = f", scores {score}, against its declared sign."
        return (f"No measure orders the {target} as its theory says: the best, ", Mention(leader["key"]), text)
    limit = ceiling(frame)
    bound = (
        f"{',' if _where(leader, frame) else ''} against a noise ceiling of {decimal(limit['ceiling'])}"
        if limit
        else ""
    )
    rivals = [row for row in competing[1:] if not _behind(row, leader, "high") < 0]
    ahead = [row["key"] for row in rivals if _behind(row, leader, "low") > 0]
    start: Sentence = (
        "Among networks trained with the same share of noisy labels, ",
        Mention(leader["key"]),
        f" {'has the highest score for' if ahead else 'orders'} the {target}{'' if ahead else ' best'}: ",
        f"{score}{_where(leader, frame)}{bound}",
    )
    both = " on the runs that both cover" if any(_where(row, frame) for row in competing) else ""
    if len(competing) == 1:
        return (*start, "; no other measure is ranked.")
    if not rivals:
        return (*start, f"; every other measure is surely behind it{both}.")
    others = "one other measure is" if len(rivals) == 1 else f"{len(rivals)} other measures are"
    names = _names([row["key"] for row in rivals])
    sentence: Sentence = (*start, f"; {others} not surely behind it{both} (", *names, ")")
    if not ahead:
        return (*sentence, ".")
    return (*sentence, f", {len(ahead)} of them surely ahead (", *_names(ahead), ").")


def _behind(row: Mapping[str, Any], leader: Mapping[str, Any], bound: str) -> float:
    """A bound of the score less the leader's: on the runs that both cover, where paired resamples were drawn."""
    paired = float(row.get(f"{RANKING}_behind_{bound}", math.nan))
    return float(row[f"{RANKING}_{bound}"] - leader[RANKING]) if math.isnan(paired) else paired


def _where(leader: Mapping[str, Any], frame: pd.DataFrame) -> str:
    runs = frame.attrs["runs"]
    return "" if leader["n"] == runs else f" on the {leader['n']} of {runs} runs where it is defined"


def _inside(frame: pd.DataFrame) -> Sentence:
    where = places(ranked(frame), RANKING)
    judged = int((where != "").sum())
    if judged == 0:
        return ("No null band is known, so no score can be told from that of a random measure.",)
    inside, below = int((where == "inside").sum()), int((where == "below").sum())
    counted = f"{_count(inside, judged, 'ranked measure')} {_are(1 if judged == 1 else inside)}"
    text = f"{counted} inside the null band, where 95 % of random measures fall"
    if below:
        text += f", and {below} {_are(below)} below it: {_they(below)} the gap against the declared sign"
    return (text + ".",)


def _randomisation(frame: pd.DataFrame) -> Sentence:
    candidates = frame[(frame["kind"] == MEASURE) & (frame["same_as"] == "")]
    where = places(candidates, "randomisation_auc")
    judged = where[where != ""]
    if judged.empty:
        why = "no measure is defined on" if len(frame.attrs["noises"]) > 1 else "there are not here"
        return (f"The randomisation test could not be made: {why} two runs that differ in their labels alone.",)
    # Where the band of a random measure reaches 1, nothing can pass.
    judged = judged[candidates.loc[judged.index, "randomisation_auc_null_high"] < 1]
    if judged.empty:
        few = "there are too few recipes: a random measure may tell all corrupted labels from true ones"
        return (f"The randomisation test could not be made: {few}.",)
    famous = judged[[str(key).partition("[")[0] in FAMOUS for key in judged.index]]
    kind = "famous measure" if len(famous) else "measure"
    judged = famous if len(famous) else judged
    failed = [str(key) for key in judged[judged != "above"].index]
    if not failed:
        every = f"All {len(judged)} {kind}s pass" if len(judged) > 1 else f"The one {kind} here passes"
        return (f"{every} the randomisation test: more corrupted labels give a value that predicts a larger gap.",)
    backwards = int((judged == "below").sum())
    tail = f"; {backwards} of them {'get' if backwards > 1 else 'gets'} it backwards" if backwards else ""
    verb = "fail" if len(failed) > 1 else "fails"
    start = (
        f"{_count(len(failed), len(judged), kind)} {verb} the randomisation test, telling corrupted labels from true "
    )
    return (f"{start}ones no better than a coin (", *_names(failed), f"){tail}.")


def _count(part: int, whole: int, noun: str) -> str:
    if part == whole > 1:
        return f"All {whole} {noun}s"
    if whole == 1:
        return f"The one {noun}" if part else f"No {noun}"
    return f"{part or 'None'} of the {whole} {noun}s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _they(count: int) -> str:
    return "it orders" if count == 1 else "they order"


def _names(keys: Sequence[str]) -> Sentence:
    shown = list(keys[:_NAMED]) if len(keys) != _NAMED + 1 else list(keys)
    parts: list[str | Mention] = []
    for position, key in enumerate(shown):
        parts += [", "] if position else []
        parts.append(Mention(key))
    hidden = len(keys) - len(shown)
    return (*parts, f" and {hidden} more") if hidden else tuple(parts)


def bound_verdict(values: pd.Series[float], gap: pd.Series[float]) -> str:
    """How a measure that bounds the error gap did: how often it held, was below 1, and its median ratio to the gap."""
    known = values.notna() & gap.notna()
    count = int(known.sum())
    if count == 0:
        return "no run has a value"
    bound, actual = values[known], gap[known]
    held, below = int((bound >= actual).sum()), int((bound < 1).sum())
    positive = actual > 0
    ratio = float((bound[positive] / actual[positive]).median()) if positive.any() else math.nan
    size = f"; median ratio to the gap {ratio:.3g}" if math.isfinite(ratio) else ""
    return f"held in {held} of {count} runs, below 1 (not vacuous) in {below}{size}"
