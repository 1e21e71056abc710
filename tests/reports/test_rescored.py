"""Scores of a table in every format say the same."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from gapbench.evaluate.external import read_external
from gapbench.evaluate.rescore import rescore
from gapbench.reports import rescored


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(20)
    table = pd.DataFrame({"g|h": ["VGG_a", "b & c"] * 10, "a|b": y + rng.standard_normal(20), "empty": np.nan, "y": y})
    return rescore(read_external(table, target="y", group="g|h"))


def test_json_and_csv_hold_every_number(frame):
    records = json.loads(rescored.as_json(frame))
    read = pd.read_csv(io.StringIO(rescored.as_csv(frame)))
    assert [(one["group"], one["measure"]) for one in records] == list(zip(frame["group"], frame["measure"]))
    for at, record in enumerate(records):
        assert list(record) == list(frame.columns)
        for name in frame.columns[2:]:
            value = frame[name].iloc[at]
            assert record[name] == value if np.isfinite(value) else record[name] is None
            assert read[name].iloc[at] == value or (np.isnan(value) and np.isnan(read[name].iloc[at]))
    assert records[1]["n"] == 0
    assert records[1]["kendall_tau_b"] is None


def test_markdown_latex_and_terminal(frame):
    text = rescored.as_markdown(frame)
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1
    assert "a\\|b" in text
    tex = rescored.as_latex(frame)
    assert r"VGG\_a & a|b & 10 & " in tex
    assert r"b \& c" in tex
    assert tex.count(r"\\") == 5
    console = Console(width=100, file=io.StringIO())
    console.print(rescored.terminal(frame))
    shown = console.file.getvalue()
    assert "VGG_a" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert f"{frame['kendall_tau_b'].iloc[0]:.3f}".lstrip("0").replace("-0", "−").replace("-", "−") in shown
