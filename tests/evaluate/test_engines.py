"""Engines: every one ends with the bits of one process; workers may die and come late; bundles; what is refused."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate import engines, units
from gapbench.evaluate.engines import Engine, bundles, in_one_thread, settings_of
from gapbench.evaluate.execute import make_instructions, run
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import Zoo, parse
from gapbench.models.spec import run_id

Result = Callable[[Path], dict[str, Any]]
KEYS = ["weight_sum", "drawn", "distance_moved"]
LARGER = """
name = "larger"
seeds = [0, 1, 2]
[data]
name = "digits"
train_size = 64
test_size = 50
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
dropout = 0.2
stop_loss_nats = 1e-9
max_epochs = 150
[axes]
width = [8, 12]
[trajectory]
epochs = [1]
"""


def expected(tmp_path: Path, zoo: Zoo, measure_file: Path, result: Result) -> dict[str, Any]:
    run(zoo, tmp_path / "local", KEYS, files=[measure_file], progress=False)
    return result(tmp_path / "local")


def needs(package: str, extra: str) -> Any:
    return pytest.importorskip(package, reason=f"{package} is not installed: pip install 'gapbench[{extra}]'")


def test_dask_with_a_worker_killed_and_one_come_late(
    tmp_path: Path, measure_file: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = needs("distributed", "dask")
    monkeypatch.setattr(units, "WAIT_SECONDS", 0.1)
    zoo, out = parse(LARGER, "larger.toml"), tmp_path / "dask"
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        killed: list[int] = []

        def disturb() -> None:
            while not list(out.glob("runs/*/*/claim")):
                time.sleep(0.02)
            victim = next(iter(client.run(os.getpid).values()))
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            cluster.scale(3)

        thread = threading.Thread(target=disturb)
        thread.start()
        engine = Engine("dask", address=cluster.scheduler_address)
        summary = run(zoo, out, KEYS, files=[measure_file], engine=engine, progress=False)
        thread.join()
        assert killed
    assert (summary.exit_status, summary.runs, summary.readings_ok) == (0, 12, 36)
    assert result(out) == expected(tmp_path, zoo, measure_file, result)


def test_ray_ends_with_the_bits_of_one_process(
    tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("ray", "ray")
    # Ray's workers stand behind everything else on the machine, which on a busy one is forever.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    engine = Engine("ray", jobs=2)
    summary = run(tiny_zoo, tmp_path / "ray", KEYS, files=[measure_file], engine=engine, progress=False)
    assert (summary.exit_status, summary.trained) == (0, 4)
    assert result(tmp_path / "ray") == expected(tmp_path, tiny_zoo, measure_file, result)


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_submitit_ends_with_the_bits_of_one_process(
    tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result, cluster: str
) -> None:
    needs("submitit", "slurm")
    engine = Engine("slurm", jobs=2, settings={"cluster": cluster})
    summary = run(tiny_zoo, tmp_path / "slurm", KEYS, files=[measure_file], engine=engine, progress=False)
    assert (summary.exit_status, summary.trained) == (0, 4)
    assert result(tmp_path / "slurm") == expected(tmp_path, tiny_zoo, measure_file, result)


def test_a_slurm_job_that_fails_is_a_problem_of_each_of_its_runs(
    tmp_path: Path, measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("submitit", "slurm")
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)
    zoo = parse(LARGER.replace("digits", "mnist").replace("seeds = [0, 1, 2]", ""), "larger.toml")
    engine = Engine("slurm", jobs=1, settings={"cluster": "local"})
    summary = run(zoo, tmp_path / "slurm", ["drawn"], files=[measure_file], engine=engine, progress=False)
    assert summary.exit_status == 1
    assert len(summary.problems) == 4
    assert all("no data folder is given" in problem and ".err" in problem for problem in summary.problems)


def test_units_that_share_a_process_wait_for_one_another(tmp_path: Path, measure_file: Path, result: Result) -> None:
    """Dropout draws from the global generator: interleaved, two trainings would draw each other's numbers."""
    zoo = parse(LARGER.replace("max_epochs = 150", "max_epochs = 12"), "larger.toml")
    instructions = make_instructions(zoo, ["drawn"], [measure_file])
    store = Store(tmp_path / "threads")
    given = [(store.path, spec, instructions, SecondRuns()) for spec in zoo.specs[:4]]
    threads = [threading.Thread(target=in_one_thread, args=one) for one in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in given:
        in_one_thread(tmp_path / "alone", *one[1:])
    assert len(store.runs()) == 4
    for name in store.runs():
        assert store.stored(name).digests == Store(tmp_path / "alone").stored(name).digests  # type: ignore[union-attr]


def test_bundles_are_filled_by_time_and_hold_every_unit_once(tmp_path: Path) -> None:
    zoo = parse(LARGER, "larger.toml")
    specs, instructions = zoo.specs, make_instructions(zoo, [], [])
    given = [(tmp_path, spec, instructions, SecondRuns()) for spec in specs]
    times = {run_id(spec): 60.0 * (1 + index) for index, spec in enumerate(specs)}

    def seconds(spec: Any) -> float:
        return times[run_id(spec)]

    made = bundles(given, seconds, 20, 2)
    assert [run_id(one[1]) for part in made for one in part.arguments] == [run_id(spec) for spec in specs]
    lengths = [sum(seconds(one[1]) for one in part.arguments) / 60 for part in made]
    assert all(length <= 20 for length in lengths)
    assert lengths == [15, 13, 17, 10, 11, 12]
    unknown = bundles(given, lambda spec: None, 20, 5)
    assert [len(part.arguments) for part in unknown] == [3, 3, 3, 3]
    assert len(bundles(given, lambda spec: 7200.0, 20, 5)) == 12


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine("dusk"), "unknown executor 'dusk'; did you mean dask"),
        (Engine(jobs=0), "jobs is 0"),
        (Engine("slurm", bundle_minutes=5), "bundles of 5 minutes: give 10 to 60"),
    ],
)
def test_wrong_engines_are_refused(engine: Engine, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.check()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PACKAGES", {"ray": "no_such_package"})
    with pytest.raises(InputError, match=r"needs no_such_package: pip install 'gapbench\[ray\]'"):
        Engine("ray").check()


def test_settings() -> None:
    assert settings_of(["partition=long", "mem_gb = 4"]) == {"partition": "long", "mem_gb": "4"}
    with pytest.raises(InputError, match="NAME=VALUE"):
        settings_of(["partition"])
