"""Kill it anywhere, run it again: finished work is never redone, unfinished work is, and the bits are the same.

One subprocess imports everything once and forks a process for each attempt, which is killed with SIGKILL: before every
operation that changes the store, in the middle of every append, and at random moments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import Zoo

Result = Callable[[Path], dict[str, Any]]

FORKER = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
from gapbench.datasets.load import load
from gapbench.evaluate.compaction import compact
from gapbench.evaluate.execute import run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import load_zoo
import gapbench.measures.read, gapbench.models.train

KEYS = ["weight_sum", "drawn", "distance_moved", "change_of_labels"]
mode, folder, grid, measures = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
zoo = load_zoo(grid)
load(zoo.specs[0].data)


def attempt(out, before=lambda: None, delay=None):
    child = os.fork()
    if child == 0:
        try:
            before()
            run(zoo, out, KEYS, files=[measures], progress=False)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(3)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def die_before(step):
    count, opened = 0, os.open

    def wrap(function, torn):
        def counted(*arguments, **options):
            nonlocal count
            # Opening what is there changes nothing on disk, so a kill before it is one after the last operation.
            count += function is not opened or bool(arguments[1] & os.O_CREAT)
            if count == step:
                if torn:
                    descriptor, content, *rest = arguments
                    function(descriptor, content[: len(content) // 2], *rest)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return counted

    for name in ("mkdir", "open", "replace", "unlink", "pwrite", "write"):
        setattr(os, name, wrap(getattr(os, name), name in ("pwrite", "write")))


attempt(folder / "undisturbed")
# What is imported and loaded here need not be in every fork.
plan(zoo, folder / "undisturbed", KEYS, files=[measures])
compact(Store(folder / "undisturbed"))
if mode == "steps":
    step, status = 0, -1
    while status != 0:
        step += 1
        status = attempt(folder / f"step{step}", lambda: die_before(step))
        assert status in (0, signal.SIGKILL), (step, status)
        finished = Store(folder / f"step{step}").runs()
        assert attempt(folder / f"step{step}") == 0, step
        starts = [Store(folder / f"step{step}").trainings(r).count("start") for r in finished]
        assert all(number == 1 for number in starts), (step, "finished work was done again", starts)
    print(json.dumps(step))
elif mode == "together":
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            run(zoo, folder / "together", KEYS, files=[measures], progress=False)
            os._exit(0)
    print(json.dumps(sum(os.waitpid(child, 0)[1] for child in children)))
else:
    started = time.monotonic()
    attempt(folder / "timing")
    whole = time.monotonic() - started
    draw, kills = random.Random(int(mode)), 0
    for _ in range(6):
        finished = {r: Store(folder / "killed").trainings(r) for r in Store(folder / "killed").runs()}
        kills += attempt(folder / "killed", delay=draw.uniform(0.1, 0.35) * whole) != 0
        for r, events in finished.items():
            assert Store(folder / "killed").trainings(r) == events, "finished work was done again"
    assert attempt(folder / "killed") == 0
    print(json.dumps(kills))
"""


def _fork(mode: str, tmp_path: Path, text: str, measure_file: Path) -> int:
    grid = tmp_path / "tiny.toml"
    grid.write_text(text)
    command = [sys.executable, "-c", FORKER, mode, str(tmp_path), str(grid), str(measure_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout))


def test_killed_before_every_operation(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result) -> None:
    text = tiny_zoo.source_text.replace("[4, 6]", "[4]")
    steps = _fork("steps", tmp_path, text, measure_file)
    assert steps > 40
    expected = result(tmp_path / "undisturbed")
    assert len(expected) == 2
    for step in range(1, steps + 1):
        out = tmp_path / f"step{step}"
        assert result(out) == expected, step
        assert not list((out / "runs").rglob("*.tmp"))


@pytest.mark.parametrize("seed", ["1"])
def test_killed_at_random_moments(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result, seed: str) -> None:
    text = tiny_zoo.source_text.replace("max_epochs = 3", "max_epochs = 60")
    kills = _fork(seed, tmp_path, text, measure_file)
    assert kills >= 3
    expected = result(tmp_path / "undisturbed")
    assert len(expected) == 4
    assert result(tmp_path / "killed") == expected
    store = Store(tmp_path / "killed")
    events = [store.trainings(run) for run in store.runs()]
    assert sum(e.count("start") for e in events) <= 4 + kills
    assert all(e.count("end") <= 1 for e in events)


def test_processes_at_once_do_no_run_twice(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result) -> None:
    assert _fork("together", tmp_path, tiny_zoo.source_text, measure_file) == 0
    assert result(tmp_path / "together") == result(tmp_path / "undisturbed")
    store = Store(tmp_path / "together")
    assert [store.trainings(run) for run in store.runs()] == [["start", "end"]] * 4
    for run in store.runs():
        lines = (store.folder(run) / "readings.jsonl").read_text().splitlines()
        assert len(lines) == len(store.readings(run)) == 4
