from __future__ import annotations

import math

from gapbench.evaluate.phenomena.verdict import above, at_least, below, shown, verdict, within
from gapbench.evaluate.statistics.interval import Interval

NARROW = Interval(1.0, 0.9, 1.1, 5)
UNDEFINED = Interval(1.0, math.nan, math.nan, 1)


def test_the_whole_interval_decides() -> None:
    assert above("a", "b", NARROW, 0.8).holds
    assert not above("a", "b", NARROW, 0.95).holds
    assert below("a", "b", NARROW, 1.2).holds
    assert not below("a", "b", NARROW, 1.05).holds
    assert within("a", "b", NARROW, 0.9, 1.1).holds
    assert not within("a", "b", NARROW, 0.95, 1.2).holds
    assert at_least("a", "b", Interval(1.0, 0.7, 1.0, 4), 1.0).holds


def test_an_interval_that_is_not_defined_fails() -> None:
    assert not above("a", "b", UNDEFINED, 0).holds
    assert not below("a", "b", UNDEFINED, 2).holds
    assert not within("a", "b", UNDEFINED, 0, 2).holds


def test_a_verdict_needs_all_conditions_and_at_least_one() -> None:
    good, bad = above("first", "x", NARROW, 0), above("second", "y", NARROW, 5)
    assert verdict([good]).seen
    mixed = verdict([good, bad])
    assert not mixed.seen
    assert mixed.statement == "Not seen in full: second: y 1 [0.9, 1.1], needed above 5. Seen in part: first."
    assert not verdict([]).seen


def test_intervals_are_shown_with_three_digits() -> None:
    assert shown(Interval(1.2345, 1.1, 1.4, 5)) == "1.23 [1.1, 1.4]"
    assert shown(Interval(-0.12345, -0.2, 0.1, 5)) == "−0.123 [−0.2, 0.1]"
    assert shown(UNDEFINED) == "1"
    assert shown(Interval(math.nan, math.nan, math.nan, 0)) == "–"
