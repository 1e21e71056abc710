"""Every rule says seen of a table where the phenomenon was planted, and not seen of one where it was not."""

from __future__ import annotations

from types import ModuleType

import pytest

from gapbench.evaluate.phenomena import PHENOMENA


def test_every_phenomenon_has_planted_tables(planted: ModuleType) -> None:
    assert set(planted.TABLES) == set(PHENOMENA)


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_a_planted_phenomenon_is_seen(name: str, planted: ModuleType) -> None:
    verdict = PHENOMENA[name].judge(planted.table(name, True))
    assert verdict.seen, verdict.statement


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_an_absent_phenomenon_is_not_seen_and_the_reason_is_named(name: str, planted: ModuleType) -> None:
    verdict = PHENOMENA[name].judge(planted.table(name, False))
    assert not verdict.seen
    failed = [condition for condition in verdict.conditions if not condition.holds]
    assert failed
    assert all(condition.what in verdict.statement for condition in failed)


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_published_numbers_stand_beside_ours_in_both_cases(name: str, planted: ModuleType) -> None:
    for there in (True, False):
        rows = PHENOMENA[name].beside(planted.table(name, there))
        assert rows
        assert all(row.what and row.published and row.where and row.ours for row in rows)
