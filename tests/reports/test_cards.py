from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gapbench.evaluate.declared import Declared
from gapbench.reports import html
from gapbench.reports.cards import documentation


@pytest.fixture(scope="module")
def cards(small: Any, boards: Callable[..., Any], references: Any) -> list[str]:
    return re.findall(r'<details class="card.*?</details>', html.page(small, boards(small), {}, references), re.S)


def test_every_measure_has_a_card_with_its_scatters_and_source(cards: list[str], small: Any) -> None:
    assert len(cards) == len(small.measures)
    assert sum("Jiang et al. 2020, eq. 33" in card for card in cards) == len(cards) - 3
    assert [card.count('class="s"') for card in cards].count(2) == len(cards) - 1, "by label noise and by architecture"
    assert sum("No run has a value" in card for card in cards) == 1
    assert all("<code>sum_i ||W_i||^2</code>" in card for card in cards)
    bound = next(card for card in cards if "As a bound" in card)
    assert re.search(r"held in \d+ of \d+ runs", bound)


def test_cards_name_what_ranks_most_alike(cards: list[str], small: Any) -> None:
    ranks = small.values[small.runs["converged"]].rank()
    card = next(card for card in cards if 'id="m-num_params"' in card)
    others = re.search(r"<dt>Most alike</dt><dd>(.*?)</dd>", card, re.S)
    assert others is not None
    first = re.sub(r"<[^>]*>", "", others[1]).split(",")[0].split()
    correlations = ranks.corr()["num_params"] * [entry.sign for entry in small.measures.values()]
    nearest = correlations.drop(index="num_params").abs().idxmax()
    assert first[0] == nearest
    assert float(first[1].replace("−", "-")) == pytest.approx(correlations[nearest], abs=0.005)


def test_a_malicious_docstring_is_escaped(declare: Callable[..., Any]) -> None:
    def function() -> None:
        """Sum of ``<script>``.

        <img src=x>
        """

    shown = documentation(replace(declare("evil"), function=function))
    assert [str(p) for p in shown] == ["Sum of <code>&lt;script&gt;</code>.", "&lt;img src=x&gt;"]


def test_documentation_needs_no_code() -> None:
    entry = Declared("one", "one", "own", "unpublished", 1, 1, "0", documentation="What it is.\n\nFormula: a.")
    assert [str(p) for p in documentation(entry)] == ["What it is.", "Formula: a."]
    assert [str(p) for p in documentation(replace(entry, documentation=""))] == ["No documentation."]
