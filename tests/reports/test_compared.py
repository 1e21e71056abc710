"""A comparison as text."""

from __future__ import annotations

import io

import pandas as pd
from rich.console import Console

from gapbench.reports import compared

FRAME = pd.DataFrame(
    {
        "group": [None, None],
        "measure": ["path|norm", "l2"],
        "score": ["tau_b", "tau_b"],
        "first": [0.1, 0.5],
        "second": [0.4, 0.45],
        "change": [0.3, -0.05],
        "change_low": [0.1, float("nan")],
        "change_high": [0.5, float("nan")],
        "beyond": [True, False],
        "n_first": [9, 9],
        "n_second": [9, 9],
        "paired": [True, True],
    }
)


def test_markdown_and_terminal():
    text = compared.as_markdown(FRAME)
    assert "| path\\|norm | tau_b | .100 | .400 | .300 [.100, .500] | * |" in text
    assert "| l2 | tau_b | .500 | .450 | −.050 |  |" in text
    console = Console(width=100, file=io.StringIO())
    console.print(compared.terminal(FRAME))
    assert " .300 [.100, .500]  *" in console.file.getvalue()


def test_summary_counts():
    assert compared.summary(FRAME).startswith("1 of 1 changes are beyond")
    assert "not paired" in compared.summary(FRAME.assign(paired=False))
