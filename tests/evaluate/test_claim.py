"""Claims: one holder, dead ones expire, living ones do not."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gapbench.evaluate import claim
from gapbench.evaluate.claim import claimed, holder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "EXPIRY_SECONDS", 0.6)
    monkeypatch.setattr(claim, "CONFIRMATION_SECONDS", 0.2)
    monkeypatch.setattr(claim, "UNSIGNED_SECONDS", 0.1)


def _write(folder: Path, age: float = 0.0, **changes: Any) -> None:
    record = {
        **claim._machine(),
        "pid": os.getpid(),
        "started": claim._started(os.getpid()),
        "token": "other",
        **changes,
    }
    path = folder / "claim"
    path.write_text(json.dumps(record))
    os.utime(path, (time.time() - age, time.time() - age))


def test_one_holder(tmp_path: Path) -> None:
    with claimed(tmp_path, tmp_path) as first:
        assert first is not None
        assert first.held()
        assert holder(tmp_path).startswith(f"process {os.getpid()} on ")
        with claimed(tmp_path, tmp_path) as second:
            assert second is None
        assert first.held()
    assert not (tmp_path / "claim").exists()
    with claimed(tmp_path, tmp_path) as third:
        assert third is not None


def test_released_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path, tmp_path):
        raise KeyboardInterrupt
    assert not (tmp_path / "claim").exists()


def test_the_heartbeat_beats(tmp_path: Path) -> None:
    with claimed(tmp_path, tmp_path):
        first = (tmp_path / "claim").stat().st_mtime_ns
        time.sleep(0.3)
        assert (tmp_path / "claim").stat().st_mtime_ns > first


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    _write(tmp_path, pid=child.pid, started=claim._started(child.pid))
    with claimed(tmp_path, tmp_path) as held:
        assert held is None
    child.kill()
    # Not waited for: the dead child is a zombie, which still has a process id.
    while claim._started(child.pid) is not None:
        time.sleep(0.01)
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None
    child.wait()


def test_a_reused_process_id_does_not_keep_a_claim(tmp_path: Path) -> None:
    _write(tmp_path, started="0")
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None


def test_a_living_process_of_this_machine_keeps_its_claim_without_heartbeat(tmp_path: Path) -> None:
    _write(tmp_path, age=1e6)
    with claimed(tmp_path, tmp_path) as held:
        assert held is None


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"boot": "another"}, {"namespace": "pid:[1]"}])
def test_other_machines_are_judged_by_heartbeat(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    _write(tmp_path, age=0.0, started="0", **elsewhere)
    with claimed(tmp_path, tmp_path) as held:
        assert held is None
    _write(tmp_path, age=10.0, started="0", **elsewhere)
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None


def test_a_jumping_clock_does_not_expire_a_beating_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock leaps an hour ahead, so the heartbeat looks an hour old; but it beats while it is watched."""
    _write(tmp_path, age=3600.0, host="elsewhere")
    sleep = time.sleep

    def beat(seconds: float) -> None:
        sleep(seconds)
        os.utime(tmp_path / "claim")

    monkeypatch.setattr(claim.time, "sleep", beat)
    with claimed(tmp_path, tmp_path) as held:
        assert held is None


@pytest.mark.parametrize("age", [3600.0, -3600.0])
def test_a_dead_claim_expires_whichever_way_the_clock_jumped(tmp_path: Path, age: float) -> None:
    _write(tmp_path, age=age, host="elsewhere")
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None


def test_a_clock_set_back_does_not_expire_a_beating_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, age=-3600.0, host="elsewhere")
    sleep = time.sleep

    def beat(seconds: float) -> None:
        sleep(seconds)
        os.utime(tmp_path / "claim")

    monkeypatch.setattr(claim.time, "sleep", beat)
    with claimed(tmp_path, tmp_path) as held:
        assert held is None


@pytest.mark.parametrize("content", ["", '{"pid": 1', "[]"])
def test_an_unsigned_claim_expires(tmp_path: Path, content: str) -> None:
    (tmp_path / "claim").write_text(content)
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None


def test_a_lost_claim_is_noticed_and_left_alone(tmp_path: Path) -> None:
    with claimed(tmp_path, tmp_path) as held:
        assert held is not None
        _write(tmp_path)
        assert not held.held()
    assert json.loads((tmp_path / "claim").read_text())["token"] == "other"


def _race(folder: Path, barrier: Any, wins: Any) -> None:
    look = claim._owner

    def look_slowly(path: Path) -> dict[str, Any]:
        owner = look(path)
        time.sleep(0.03)
        return owner

    # Between finding a claim dead and taking it there is time for every other taker to do the same.
    claim._owner = look_slowly
    barrier.wait()
    with claimed(folder, folder) as held:
        if held is not None:
            wins.put(os.getpid())
            time.sleep(0.5)


def test_one_of_many_takers_gets_a_dead_claim(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        _write(tmp_path, started="0")
        barrier, wins = context.Barrier(6), context.SimpleQueue()
        takers = [context.Process(target=_race, args=(tmp_path, barrier, wins)) for _ in range(6)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        assert not wins.empty()
        wins.get()
        assert wins.empty()
