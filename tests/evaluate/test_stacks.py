"""Stacks in a zoo: chosen where there is a GPU (here, one is pretended), stored run by run, read as usual."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.evaluate import stacks
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.execute import make_instructions, run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.store import Store
from gapbench.evaluate.table import table
from gapbench.evaluate.zoo import parse
from gapbench.models import stacked
from gapbench.models.spec import run_id

GRID = """
name = "stacked"
seeds = [0, 1]
[data]
name = "digits"
train_size = 32
test_size = 50
[run]
architecture = "mlp"
depth = 1
batch_size = 16
max_epochs = 3
[axes]
width = [4, 6]
learning_rate = [0.05, 0.1]
[trajectory]
epochs = [1]
[[grids]]
[[grids]]
run.dropout = 0.1
axes.width = [4]
"""
KEYS = ["weight_sum", "distance_moved"]


def test_a_zoo_on_a_gpu_is_that_on_a_cpu_up_to_rounding(
    tmp_path: Path, measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = parse(GRID, "stacked.toml")
    run(zoo, tmp_path / "cpu", KEYS, files=[measure_file], progress=False)
    monkeypatch.setattr(stacks, "device", lambda: "cpu")
    planned = plan(zoo, tmp_path / "gpu", KEYS, files=[measure_file])
    assert planned.way == "16 runs in stacks of at most 256 on the GPU, 8 one at a time in workers"
    summary = run(zoo, tmp_path / "gpu", KEYS, files=[measure_file], progress=False)
    assert (summary.trained, summary.readings_ok, summary.problems) == (24, 48, ())
    one, other = (table(tmp_path / name) for name in ("cpu", "gpu"))
    assert one.runs.index.equals(other.runs.index)
    for name in ("train_loss_nats", "test_loss_nats"):
        assert other.runs[name].to_numpy() == pytest.approx(one.runs[name].to_numpy(), rel=1e-4)
    for key in KEYS:
        assert other.values[key].to_numpy() == pytest.approx(one.values[key].to_numpy(), rel=1e-3, abs=1e-4)
    store = Store(tmp_path / "gpu")
    assert all(store.trainings(name) == ["start", "end"] for name in store.runs())


def test_runs_that_another_holds_are_left_out_of_the_stack(tmp_path: Path) -> None:
    zoo = parse(GRID, "stacked.toml")
    instructions = make_instructions(zoo, [], [])
    store = Store(tmp_path)
    first = stacks.stacks(zoo.specs, instructions)[0][0]
    folder = store.folder(run_id(first))
    folder.mkdir(parents=True)
    with claimed(folder, tmp_path):
        done = list(stacks.trained_in_stacks(store, zoo.specs, instructions, "cpu", lambda worked: None))
    assert len(done) == 15
    assert run_id(first) not in {worked.run for worked in done}


def test_a_stack_that_fails_is_done_one_at_a_time(
    tmp_path: Path, measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **options: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stacks, "device", lambda: "cpu")
    monkeypatch.setattr(stacked, "train_stack", broken)
    summary = run(parse(GRID, "stacked.toml"), tmp_path / "zoo", ["weight_sum"], files=[measure_file], progress=False)
    assert (summary.trained, summary.readings_ok, summary.problems) == (24, 24, ())


def test_without_a_gpu_nothing_is_stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = parse(GRID, "stacked.toml")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert stacks.device() is None
    assert "one run at a time" in plan(zoo, tmp_path / "zoo", []).way
    with_path = parse(GRID.replace("epochs = [1]", "checkpoints = true"), "stacked.toml")
    assert stacks.stacks(with_path.specs, make_instructions(with_path, [], [])) == []
