"""What a rule says of a table: conditions, each on an interval, and the verdict that they make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gapbench.evaluate.statistics.interval import Interval


@dataclass(frozen=True)
class Condition:
    """One statement that must hold: ``what`` was estimated, its 95 % interval, and what of it was needed.

    ``part``: which part of the phenomenon it belongs to ("random features", "network by width").
    """

    part: str
    what: str
    interval: Interval
    needed: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.part}: {self.what} {shown(self.interval)}, needed {self.needed}"


@dataclass(frozen=True)
class Verdict:
    """``seen`` where every condition holds; ``statement`` says so in words."""

    seen: bool
    statement: str
    conditions: tuple[Condition, ...]


def above(part: str, what: str, interval: Interval, bound: float) -> Condition:
    """The whole interval lies above the bound. An interval that is not defined fails."""
    return Condition(part, what, interval, f"above {_signed(bound)}", interval.low > bound)


def below(part: str, what: str, interval: Interval, bound: float) -> Condition:
    """The whole interval lies below the bound. An interval that is not defined fails."""
    return Condition(part, what, interval, f"below {_signed(bound)}", interval.high < bound)


def within(part: str, what: str, interval: Interval, low: float, high: float) -> Condition:
    """The whole interval lies within [low, high]. An interval that is not defined fails."""
    return Condition(
        part, what, interval, f"within [{_signed(low)}, {_signed(high)}]", low <= interval.low and interval.high <= high
    )


def at_least(part: str, what: str, interval: Interval, bound: float) -> Condition:
    """The point is at least the bound: for shares of exact statements, which no resampling moves."""
    return Condition(part, what, interval, f"at least {_signed(bound)}", interval.point >= bound)


def verdict(conditions: Iterable[Condition]) -> Verdict:
    """Seen where all conditions hold, and there is one.

    The statement names the parts that were seen and the conditions that failed.
    """
    given = tuple(conditions)
    parts = dict.fromkeys(condition.part for condition in given)
    whole = [part for part in parts if all(c.holds for c in given if c.part == part)]
    failed = [condition for condition in given if not condition.holds]
    if not given:
        return Verdict(False, "Not seen: nothing was measured.", ())
    if not failed:
        return Verdict(True, f"Seen: all {len(given)} conditions hold ({', '.join(parts)}).", given)
    seen = f" Seen in part: {', '.join(whole)}." if whole else ""
    reasons = "; ".join(str(condition) for condition in failed)
    return Verdict(False, f"Not seen in full: {reasons}.{seen}", given)


def shown(interval: Interval) -> str:
    """The point with its interval, three significant digits: "−0.123 [−0.2, 0.1]"."""

    def number(value: float) -> str:
        return "–" if not math.isfinite(value) else _signed(value, 3)

    if not math.isfinite(interval.low):
        return number(interval.point)
    return f"{number(interval.point)} [{number(interval.low)}, {number(interval.high)}]"


def _signed(value: float, digits: int = 6) -> str:
    return f"{value:.{digits}g}".replace("-", "−")
