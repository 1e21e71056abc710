"""Progress: plain lines where there is no terminal, silence on request, and counts that add up."""

from __future__ import annotations

import sys

import pytest

from gapbench.evaluate import progress
from gapbench.evaluate.progress import Tally, duration, reporting, stepping
from gapbench.evaluate.work import Worked

DONE = (
    Worked("a", trained=True, statuses=("ok", "failed", "undefined")),
    Worked("b", busy="process 1 on elsewhere"),
    Worked("c", problem="training failed: it diverged"),
)


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with reporting(2) as report:
        for worked in DONE:
            report(worked)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs to do: 2"
    assert "run c: training failed: it diverged" in lines
    assert lines[-1].startswith("runs 2/2, 1 trained, 3 readings, 2 failed")
    assert "\x1b" not in "".join(lines)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(2, shown=False) as report:
        report(DONE[0])
    with reporting(0):
        pass
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with reporting(2) as report:
        for worked in DONE:
            report(worked)
    out = capsys.readouterr().out
    assert "2/2" in out
    assert "1 trained, 3 readings, 2 failed" in out


def test_counts() -> None:
    tally = Tally(3)
    for worked in DONE:
        tally.add(worked)
    assert (tally.runs, tally.trained, tally.read, tally.failed) == (2, 1, 3, 2)


@pytest.mark.parametrize(("seconds", "shown"), [(3.4, "3 s"), (89, "89 s"), (120, "2.0 min"), (7200, "2.0 h")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_steps_are_told_on_the_error_stream(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with stepping("assessing measures") as step:
        for done in (1, 2, 3):
            step(done, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.rsplit(",", 1)[0] for line in captured.err.splitlines()] == [
        "assessing measures 1/3",
        "assessing measures 2/3",
    ]
    with stepping("assessing measures", shown=False) as step:
        step(1, 3)
    assert capsys.readouterr().err == ""


def test_quick_steps_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with stepping("assessing measures") as step:
        step(1, 3)
    assert capsys.readouterr().err == ""
