"""The commands on phenomena as a user meets them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner, Result

from gapbench.cli import main
from gapbench.evaluate import phenomena
from gapbench.evaluate.phenomena import PHENOMENA


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two phenomena at small settings: one is seen, one is not, and a third needs data that are not there."""
    expressivity, complexity, kernel = (
        PHENOMENA[name] for name in ("expressivity", "sample_complexity", "minimum_norm_kernel")
    )
    quick = dataclasses.replace(expressivity.quick, sizes=(10, 2000), dimensions=(50,), seeds=1)
    few = dataclasses.replace(complexity.quick, sizes=(16, 128), seeds=1)
    chosen = {
        "expressivity": dataclasses.replace(expressivity, quick=quick),
        "sample_complexity": dataclasses.replace(complexity, quick=few),
        "minimum_norm_kernel": kernel,
    }
    monkeypatch.setattr(phenomena, "PHENOMENA", MappingProxyType(chosen))
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_is_run_kept_and_not_run_again(small: Path) -> None:
    result = invoke("phenomenon", "expressivity")
    assert result.exit_code == 0, result.output
    assert "Seen: all 4 conditions hold" in result.output
    assert "2 cells (2 now)" in result.output
    folder = small / "phenomena/expressivity/quick"
    assert {path.name for path in folder.iterdir()} == {
        "cells.jsonl",
        "table.csv",
        "record.json",
        "figure.svg",
        "figure.png",
    }
    assert json.loads((folder / "record.json").read_text())["seen"] is True
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "2 cells (0 now)" in invoke("phenomenon", "expressivity").output


def test_the_exit_status_says_whether_it_was_seen(small: Path) -> None:
    result = invoke("phenomenon", "sample_complexity", "--out", "elsewhere")
    assert result.exit_code == 1, result.output
    assert "Not seen in full" in result.output
    assert (small / "elsewhere/sample_complexity/quick/record.json").is_file()


def test_all_are_shown_on_one_page_and_what_cannot_run_is_said(small: Path) -> None:
    result = invoke("phenomena", "--out", "all")
    assert result.exit_code == 2, result.output
    assert "1 of 3 seen in full" in result.output
    assert "minimum_norm_kernel: mnist needs the file" in result.output
    page = (small / "all/phenomena.html").read_text(encoding="utf-8")
    for part in ('id="expressivity"', 'id="sample_complexity"', "Theorem 1", "mnist needs the file", "<svg"):
        assert part in page
    seen = invoke("phenomena", "expressivity", "--out", "all")
    assert seen.exit_code == 0, seen.output
    assert invoke("phenomena", "expressivity", "sample_complexity", "--out", "all").exit_code == 1


def test_the_plan_does_nothing(small: Path) -> None:
    result = invoke("phenomena", "--full", "--plan")
    assert result.exit_code == 0, result.output
    assert len(result.output.strip().splitlines()) == 3
    assert "expressivity, full: 100 cells, 100 to do" in result.output
    assert not (small / "phenomena").exists()


def test_they_are_listed() -> None:
    output = invoke("phenomenon", "--list").output
    for entry in PHENOMENA.values():
        assert entry.name in output
        assert entry.title in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phenomenon", "groking"), "unknown phenomenon 'groking'; did you mean grokking?"),
        (("phenomena", "grokking", "double_decent"), "did you mean double_descent"),
        (("phenomenon",), "name a phenomenon"),
    ],
)
def test_wrong_input_is_named(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
