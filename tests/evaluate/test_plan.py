"""Plans: what would be done, before and after it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate import memory
from gapbench.evaluate.compaction import Frames
from gapbench.evaluate.execute import run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.timings import Timings
from gapbench.evaluate.zoo import Zoo
from gapbench.models.spec import RunSpec, as_dict, run_id, twin


def test_plans(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    out = tmp_path / "zoo"
    before = plan(tiny_zoo, out, keys, files=[measure_file])
    assert (before.runs, before.trainings_to_do, before.readings_to_do, before.seconds) == (4, 4, 20, None)
    assert "time: unknown, no run stored yet" in before.lines()
    assert not out.exists()
    run(tiny_zoo, out, ["drawn"], files=[measure_file], progress=False, part="1/2")
    half = plan(tiny_zoo, out, ["drawn", "weight_sum"], files=[measure_file], jobs=2)
    assert (half.trainings_done, half.trainings_to_do) == (2, 2)
    assert (half.readings_done, half.readings_to_do) == (2, 6)
    assert half.seconds is not None
    assert half.seconds > 0
    assert half.untimed == ("weight_sum",)
    assert half.disk_bytes is not None
    assert half.disk_bytes > 1000
    assert any("with 2 workers" in line for line in half.lines())
    run(tiny_zoo, out, keys, files=[measure_file], progress=False)
    after = plan(tiny_zoo, out, keys, files=[measure_file])
    assert (after.trainings_to_do, after.readings_to_do, after.seconds, after.disk_bytes) == (0, 0, 0.0, 0)
    assert plan(tiny_zoo, out, keys, files=[measure_file], retry_failed=True).readings_to_do == 4


def test_a_plan_of_a_shard(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    assert plan(tiny_zoo, tmp_path / "zoo", keys, files=[measure_file], part="2/3").runs == 1


def test_a_plan_adds_the_stored_times(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path) -> None:
    out = tmp_path / "zoo"
    run(tiny_zoo, out, ["drawn"], files=[measure_file], progress=False, part="1/2")
    training = plan(tiny_zoo, out, [], files=[measure_file])
    both = plan(tiny_zoo, out, ["drawn"], files=[measure_file])
    halved = plan(tiny_zoo, out, ["drawn"], files=[measure_file], jobs=2)
    assert training.seconds is not None
    assert both.seconds is not None
    assert both.seconds > training.seconds
    assert halved.seconds == both.seconds / 2


def test_a_plan_counts_axes_and_shares_and_memory(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path) -> None:
    out = tmp_path / "zoo"
    empty = plan(tiny_zoo, out, ["drawn"], files=[measure_file])
    assert empty.axes == {"width": {4: 2, 6: 2}, "label_noise": {0.0: 2, 1.0: 2}}
    assert [(share.runs, share.to_train, share.seconds) for share in empty.shares] == [(2, 2, None), (2, 2, None)]
    assert empty.worker_bytes is None
    assert any("width: 4 (2), 6 (2)" in line for line in empty.lines())
    run(tiny_zoo, out, ["drawn"], files=[measure_file], progress=False, part="1/2")
    half = plan(tiny_zoo, out, ["drawn"], files=[measure_file], jobs=2)
    assert sum(share.to_train for share in half.shares) == 2
    assert half.seconds is not None
    assert sum(share.seconds or 0 for share in half.shares) == pytest.approx(2 * half.seconds)
    assert half.worker_bytes is not None
    assert 50e6 < half.worker_bytes < 20e9
    text = "\n".join(half.lines())
    for words in ("mlp 4x1 on 32 of digits: 2 runs", "core-hours", "GB a worker at most so far", "one run at a time"):
        assert words in text, text


def test_times_are_those_of_the_same_kind_else_of_the_architecture_else_of_all() -> None:
    data = DataSpec("digits", 32)
    small = RunSpec(data, "mlp", 4, 1, learning_rate=0.1, batch_size=16)
    noisy, large = twin(small), replace(small, width=8)
    made = Frames(
        pandas.DataFrame(
            {
                "run": [run_id(small), run_id(noisy), run_id(large)],
                "spec": [json.dumps(as_dict(spec)) for spec in (small, noisy, large)],
                "seconds": [1.0, 10.0, 3.0],
            }
        ),
        pandas.DataFrame(
            {"run": [run_id(small), run_id(large)], "measure": ["m", "m"], "seconds": [0.5, 1.5], "revision": [1, 1]}
        ),
    )
    timings = Timings(made)
    assert timings.training(small) == (1.0, True)
    assert timings.training(noisy) == (10.0, True)
    assert timings.training(replace(small, width=16)) == (2.0, False)
    assert timings.training(replace(small, architecture="cnn")) == (pytest.approx(14 / 3), False)
    assert (timings.reading("m", large), timings.reading("m", replace(small, depth=5))) == (1.5, 1.0)
    assert timings.reading("other", small) is None


def test_workers_that_fit() -> None:
    assert memory.jobs_that_fit(8, int(1e9), int(4e9)) == 3
    assert memory.jobs_that_fit(2, int(1e9), int(40e9)) == 2
    assert memory.jobs_that_fit(8, int(9e9), int(4e9)) == 1
    assert memory.jobs_that_fit(8, None, int(4e9)) == 2
    assert memory.jobs_that_fit(8, int(1e9), None) == 8
    found = memory.available_bytes()
    assert found is None or found > 1e6
