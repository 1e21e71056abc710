"""Readings made from two runs: they wait for both, whatever the order, and are made again when the grid grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.datasets.load import load
from gapbench.evaluate import execute, tensors
from gapbench.evaluate.execute import run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.second_runs import second_runs
from gapbench.evaluate.store import WEIGHTS, Store
from gapbench.evaluate.zoo import Zoo, parse
from gapbench.models import train as train_module
from gapbench.models.spec import RunSpec, run_id, twin

Result = Callable[[Path], dict[str, Any]]

GRID = """
name = "tiny"
seeds = [0, 1]
[data]
name = "digits"
train_size = 32
test_size = 50
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
max_epochs = 3
[axes]
width = [4]
"""

MEASURES = '''
"""Measures that see other runs, or test inputs."""

from gapbench.measures import measure, quantity


def weights(trained) -> float:
    return float(sum(float(p.detach().double().sum()) for p in trained.network.parameters()))


@measure(source="unpublished", sign=1)
def own_weights(network) -> float:
    """The sum of its own weights."""
    return float(sum(float(p.detach().double().sum()) for p in network.parameters()))


@quantity
def seed_weights(seed_twins):
    """The sums of weights of its seed twins."""
    return [weights(twin) for twin in seed_twins]


@measure(source="unpublished", sign=1)
def other_seeds(seed_weights) -> float:
    """The sum over its seed twins, in their order."""
    return sum((place + 1) * value for place, value in enumerate(seed_weights))


@measure(source="unpublished", sign=1)
def random_labels(random_label_twin) -> float:
    """The weights and the labels of its random-label twin."""
    return weights(random_label_twin) + 100 * float(random_label_twin.train.labels.double().mean())


@measure(source="unpublished", sign=1, uses_unlabelled_test_inputs=True)
def test_inputs(unlabelled_test_inputs) -> float:
    """The mean of the test inputs."""
    return float(unlabelled_test_inputs.double().mean())
'''

KEYS = ["own_weights", "other_seeds", "random_labels", "test_inputs"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "second_measures.py"
    path.write_text(MEASURES)
    return path


def grid(seeds: str = "[0, 1]", *, twins: bool = True) -> Zoo:
    return parse(GRID.replace("[0, 1]", seeds).replace("[data]", f"twins = {str(twins).lower()}\n[data]"), "tiny.toml")


def do(zoo: Zoo, out: Path, file: Path, **options: Any) -> execute.Summary:
    return run(zoo, out, KEYS, files=[file], progress=False, **options)


def values(out: Path, key: str) -> dict[str, float | None]:
    return {name: Store(out).readings(name)[key, 1]["value"] for name in Store(out).runs()}


def weight_sum(out: Path, spec: RunSpec) -> float:
    store = Store(out)
    stored = store.stored(run_id(spec))
    assert stored is not None
    names = [f"{layer}.{part}" for layer in ("linear1", "output") for part in ("weight", "bias")]
    _, final = tensors.weights(store.content(stored, WEIGHTS), names)
    return sum(float(tensor.double().sum()) for tensor in final.values())


def test_the_second_runs_of_a_grid() -> None:
    zoo = parse(GRID.replace("[4]", "[4, 6]").replace("[0, 1]", "[2, 0, 1]"), "tiny.toml")
    found = second_runs(zoo.specs)
    assert len(found) == 12
    for spec in zoo.specs:
        mine = found[run_id(spec)]
        others = [o for o in zoo.specs if (o.width, o.data) == (spec.width, spec.data) and o.seed != spec.seed]
        assert list(mine.seed_twins) == sorted(others, key=lambda other: other.seed)
        assert mine.random_label_twin == (twin(spec),)
    alone = second_runs(grid("[0]", twins=False).specs)
    assert [(one.seed_twins, one.random_label_twin) for one in alone.values()] == [((), ())]


def test_readings_see_the_runs_they_name_and_nothing_is_done_twice(tmp_path: Path, file: Path) -> None:
    out, zoo = tmp_path / "zoo", grid()
    first = do(zoo, out, file)
    assert (first.trained, first.read, first.readings_ok, first.exit_status) == (4, 16, 16, 0)
    assert first.notes == ()
    again = do(zoo, out, file)
    assert (again.trained, again.read, again.readings_ok) == (0, 0, 16)
    assert plan(zoo, out, KEYS, files=[file]).readings_to_do == 0
    for spec in zoo.specs:
        name, other = run_id(spec), next(o for o in zoo.specs if o.data == spec.data and o.seed != spec.seed)
        assert values(out, "own_weights")[name] == pytest.approx(weight_sum(out, spec))
        assert values(out, "other_seeds")[name] == pytest.approx(weight_sum(out, other))
        sample, test = load(twin(spec).data)
        expected = weight_sum(out, twin(spec)) + 100 * float(sample.labels.double().mean())
        assert values(out, "random_labels")[name] == pytest.approx(expected)
        assert values(out, "test_inputs")[name] == pytest.approx(float(test.inputs.double().mean()))
        assert Store(out).trainings(name) == ["start", "end"]
    assert len(set(values(out, "other_seeds").values())) == 4
    assert len(set(values(out, "random_labels").values())) == 2


def test_workers_shards_and_orders_do_not_change_the_result(tmp_path: Path, file: Path, result: Result) -> None:
    do(grid(), tmp_path / "one", file)
    expected = result(tmp_path / "one")
    assert len(expected) == 4
    do(grid(), tmp_path / "two", file, jobs=2)
    assert result(tmp_path / "two") == expected
    for order in ("4/4 2/4 1/4 3/4", "2/3 3/3 1/3"):
        out = tmp_path / order.replace("/", "")
        summaries = [do(grid(), out, file, part=part) for part in order.split()]
        assert result(out) == expected, order
        assert any("wait for second runs" in note for note in summaries[0].notes)
        assert all(Store(out).trainings(name) == ["start", "end"] for name in expected)
        lines = [(Store(out).folder(name) / "readings.jsonl").read_text().splitlines() for name in expected]
        assert [len(own) for own in lines] == [4] * 4


def test_a_missing_twin_is_undefined_and_read_when_the_grid_has_it(tmp_path: Path, file: Path, result: Result) -> None:
    out = tmp_path / "zoo"
    first = do(grid("[0]", twins=False), out, file)
    assert (first.trained, first.readings_ok, first.readings_undefined, first.notes) == (1, 2, 2, ())
    assert do(grid("[0]", twins=False), out, file).read == 0
    (name,) = Store(out).runs()
    assert "no seed twin" in Store(out).readings(name)["other_seeds", 1]["reason"]
    assert "no random-label twin" in Store(out).readings(name)["random_labels", 1]["reason"]
    grown = do(grid("[0]"), out, file)
    assert (grown.trained, grown.read, grown.readings_undefined) == (1, 5, 2)
    last = do(grid(), out, file)
    assert (last.trained, last.readings_ok, last.readings_undefined) == (2, 16, 0)
    do(grid(), tmp_path / "at once", file)
    assert result(out) == result(tmp_path / "at once")


def test_another_seed_on_the_grid_makes_readings_of_all_seeds_anew(tmp_path: Path, file: Path, result: Result) -> None:
    out = tmp_path / "zoo"
    do(grid(), out, file)
    before = values(out, "other_seeds")
    assert plan(grid("[0, 1, 2]"), out, KEYS, files=[file]).readings_to_do == 2 * 4 + 4
    grown = do(grid("[0, 1, 2]"), out, file)
    assert (grown.trained, grown.read) == (2, 2 * 4 + 4)
    assert all(values(out, "other_seeds")[name] != value for name, value in before.items())
    do(grid("[0, 1, 2]"), tmp_path / "at once", file)
    assert result(out) == result(tmp_path / "at once")


def test_readings_wait_for_a_twin_whose_training_failed(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, result: Result
) -> None:
    out, train = tmp_path / "zoo", train_module.train

    def moody(spec: RunSpec, data: Any, **options: Any) -> Any:
        if spec.seed == 1 and spec.data.label_noise == 1:
            raise RuntimeError("no memory left")
        return train(spec, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train", moody)
        first = do(grid(), out, file)
    assert (first.trained, len(first.problems)) == (3, 1)
    assert first.notes == ("2 readings wait for second runs (other seeds, random labels) that are not trained yet",)
    assert do(grid(), out, file).read == 0
    mended = do(grid(), out, file, retry_failed=True)
    assert (mended.trained, mended.read, mended.notes, mended.exit_status) == (1, 6, (), 0)
    do(grid(), tmp_path / "undisturbed", file)
    assert result(out) == result(tmp_path / "undisturbed")


def test_damaged_weights_of_a_twin_are_refused_by_name(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "zoo"
    run(grid("[0]"), out, ["own_weights"], files=[file], progress=False)
    victim = next(run_id(spec) for spec in grid("[0]").specs if spec.data.label_noise == 1)
    path = Store(out).folder(victim) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    hurt = run(grid("[0]"), out, ["random_labels"], files=[file], progress=False)
    assert (hurt.read, len(hurt.problems)) == (0, 2)
    assert all(str(path) in problem for problem in hurt.problems)


def test_a_failed_reading_of_two_runs_is_retried_once_a_call(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "zoo"
    file.write_text(MEASURES.replace("return weights(random_label_twin)", "raise ValueError(1)\n    return 1"))
    assert do(grid(), out, file).readings_failed == 4
    assert do(grid(), out, file).read == 0
    assert do(grid(), out, file, retry_failed=True).read == 4
