"""Plans: what would be done, before and after it is."""

from __future__ import annotations

from pathlib import Path

from gapbench.evaluate.execute import run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.zoo import Zoo


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
