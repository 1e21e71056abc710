"""Reading: each quantity once, dropped after its last use, no draw shared, and every breach of contract named."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN
from gapbench.measures.contract import example_networks
from gapbench.measures.optimisation import training_speed
from gapbench.measures.read import LayerReading, Reading, read, read_layers
from gapbench.measures.registry import Estimate, LayerSum, Measure, Quantity, Undefined, build
from gapbench.models.trained import History, Trained


@pytest.fixture
def trained() -> Trained:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = torch.randn(6, 3, generator=generator)
    return Trained(network, initial, Split(inputs, torch.tensor([0, 1, 0, 1, 0, 1]), 2))


def a_measure(name: str, function: object, *needs: str) -> Measure:
    return Measure(name, "test", function, needs, "unpublished", 1)


def read_one(function: object, trained: Trained, *needs: str) -> Reading:
    registry = build([a_measure("mine", function, *needs)])
    return read(list(registry.measures.values()), registry, trained)[0]


def test_each_quantity_is_computed_once_and_dropped_after_its_last_use(trained: Trained) -> None:
    calls: Counter[str] = Counter()
    alive: set[str] = set()
    most: list[set[str]] = []

    class Big:
        def __init__(self, name: str) -> None:
            self.name = name
            alive.add(name)
            most.append(set(alive))

        def __del__(self) -> None:
            alive.discard(self.name)

    def make(name: str) -> Quantity:
        def compute(network: nn.Module) -> Big:
            calls[name] += 1
            return Big(name)

        return Quantity(name, compute, ("network",), large=True)

    def use(big: Big) -> float:
        return 1.0

    names = [("one", "big_a"), ("two", "big_b"), ("three", "big_a"), ("four", "big_b")]
    registry = build([make("big_a"), make("big_b"), *(a_measure(name, use, need) for name, need in names)])
    readings = read(list(registry.measures.values()), registry, trained)
    assert [reading.measure for reading in readings] == ["one", "two", "three", "four"]
    assert calls == {"big_a": 1, "big_b": 1}
    assert max(len(together) for together in most) == 1, "large quantities must live one at a time"
    assert not alive


def test_a_value_does_not_depend_on_what_else_is_read(trained: Trained) -> None:
    def draw(rng: torch.Generator) -> float:
        return float(torch.rand((), generator=rng))

    registry = build([a_measure("first", draw, "rng"), a_measure("second", draw, "rng")])
    together = read(list(registry.measures.values()), registry, trained)
    alone = read([registry.measures["second"]], registry, trained)
    assert together[1].value == alone[0].value
    assert together[0].value != together[1].value
    other = read([registry.measures["second"]], registry, trained, seed=1)
    assert other[0].value != alone[0].value


def test_an_estimate_keeps_its_standard_error(trained: Trained) -> None:
    reading = read_one(lambda network: Estimate(2.0, 0.5, converged=False), trained, "network")
    assert (reading.value, reading.standard_error, reading.status) == (2.0, 0.5, "ok")
    assert "cap" in reading.reason


def test_undefined_is_not_failed(trained: Trained) -> None:
    def undefined(network: nn.Module) -> float:
        raise Undefined("training margin is not positive")

    reading = read_one(undefined, trained, "network")
    assert (reading.status, reading.reason, reading.value) == ("undefined", "training margin is not positive", None)


def test_a_root_that_was_not_kept_is_undefined(trained: Trained) -> None:
    reading = read_one(lambda history: 1.0, trained, "history")
    assert (reading.status, reading.reason) == ("undefined", "the history of this run was not kept")
    kept = Trained(trained.network, trained.initial, trained.train, History(*(torch.zeros(1).double(),) * 3))
    assert read_one(lambda history: 1.0, kept, "history").status == "ok"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "text", None, torch.ones(2)])
def test_what_is_not_a_finite_number_fails(trained: Trained, value: object) -> None:
    reading = read_one(lambda network: value, trained, "network")
    assert reading.status == "failed"
    assert "mine returned" in reading.reason


def test_a_failing_quantity_fails_once_and_marks_all_that_need_it(trained: Trained) -> None:
    calls: list[int] = []

    def broken(network: nn.Module) -> float:
        calls.append(1)
        raise ValueError("the disk of numbers is full")

    use = [a_measure(name, lambda broken: 1.0, "broken") for name in ("one", "two")]
    registry = build(
        [Quantity("broken", broken, ("network",)), *use, a_measure("three", lambda network: 3.0, "network")]
    )
    one, two, three = read(list(registry.measures.values()), registry, trained)
    assert one.status == two.status == "failed"
    assert one.reason == "broken raised ValueError: the disk of numbers is full"
    assert three.value == 3.0
    assert len(calls) == 1


def _add_to_weights(trained: Trained) -> None:
    with torch.no_grad():
        next(trained.network.parameters()).add_(1.0)


def _add_to_data(trained: Trained) -> None:
    next(trained.network.parameters()).data += 1.0


def _forward_in_training_mode(trained: Trained) -> None:
    trained.network.train()
    trained.network(trained.train.inputs)
    trained.network.eval()


def _backward(trained: Trained) -> None:
    trained.network(trained.train.inputs).sum().backward()


def _draw_from_torch(trained: Trained) -> None:
    torch.rand(1)


def _draw_from_numpy(trained: Trained) -> None:
    numpy.random.rand()  # noqa: NPY002  the offence under test


def _draw_from_python(trained: Trained) -> None:
    random.random()


def _change_inputs(trained: Trained) -> None:
    trained.train.inputs[0, 0] = 9.0


def _change_labels(trained: Trained) -> None:
    trained.train.labels[0] = 1


def _change_initial(trained: Trained) -> None:
    trained.initial["0.weight"].zero_()


@pytest.mark.parametrize(
    ("offend", "message"),
    [
        (_add_to_weights, r"changed the network \(0.weight\)"),
        (_add_to_data, r"changed the network \(0.weight\)"),
        (_forward_in_training_mode, r"changed the network \(1.running_mean"),
        (lambda trained: trained.network.train(), "training mode"),
        (lambda trained: trained.network.requires_grad_(False), "require gradients"),
        (_backward, "left gradients"),
        (_draw_from_torch, "global random generator"),
        (_draw_from_numpy, "global random generator"),
        (_draw_from_python, "global random generator"),
        (_change_inputs, "training inputs"),
        (_change_labels, "training labels"),
        (_change_initial, "initial weights"),
    ],
)
def test_a_breach_is_named_and_undone(trained: Trained, offend: object, message: str) -> None:
    def offending(network: nn.Module) -> float:
        offend(trained)
        return 1.0

    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    state = torch.get_rng_state()
    registry = build([a_measure("mine", offending, "network"), a_measure("good", lambda network: 1.0, "network")])
    bad, good = read(list(registry.measures.values()), registry, trained)
    assert bad.status == "failed"
    assert bad.reason.startswith("mine ")
    assert re.search(message, bad.reason), bad.reason
    assert good.status == "ok", "the breach must be undone before the next measure"
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not trained.network.training
    assert trained.train.labels[0] == 0


def test_beside_the_main_thread_draws_from_pythons_generator_are_nobodys_breach(trained: Trained) -> None:
    """An engine's main thread draws from it at any moment; the other generators stay watched."""
    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(read_one, lambda network: random.random(), trained, "network").result().status == "ok"
        caught = beside.submit(read_one, lambda network: float(torch.rand(1)), trained, "network").result()
    assert caught.status == "failed"
    assert read_one(lambda network: random.random(), trained, "network").status == "failed"


def test_seconds_of_a_shared_quantity_count_once(trained: Trained) -> None:
    def slow(network: nn.Module) -> float:
        time.sleep(0.05)
        return 1.0

    registry = build(
        [Quantity("slow", slow, ("network",)), *(a_measure(name, lambda slow: slow, "slow") for name in ("one", "two"))]
    )
    one, two = read(list(registry.measures.values()), registry, trained)
    assert one.seconds > 0.04
    assert two.seconds < 0.04


def test_a_diverged_network_is_undefined(trained: Trained) -> None:
    with torch.no_grad():
        next(trained.network.parameters())[0, 0] = torch.nan
    reading = read_one(lambda network: 1.0, trained, "network")
    assert reading.status == "undefined"
    assert "diverged" in reading.reason
    assert read_one(lambda train: 1.0, trained, "train").status == "ok"


def test_the_terms_of_each_layer(trained: Trained) -> None:
    """Both folded layers of the fixture, by name; squares of their norms by hand."""
    entries = [BUILT_IN.measures[name] for name in ("num_params", "param_norm", "log_prod_frobenius")]
    rows = read_layers(entries, BUILT_IN, trained)
    assert [(row.measure, row.layer) for row in rows] == [
        ("param_norm", "0"),
        ("param_norm", "3"),
        ("log_prod_frobenius", "0"),
        ("log_prod_frobenius", "3"),
    ]
    square = float(trained.network[3].weight.detach().double().square().sum())
    assert rows[1].value == pytest.approx(square, rel=1e-12)
    assert rows[3].value == pytest.approx(math.log(square), rel=1e-9)
    values = {reading.measure: reading.value for reading in read(entries, BUILT_IN, trained)}
    assert rows[0].value + rows[1].value == pytest.approx(values["param_norm"], rel=1e-12)


def test_terms_carry_the_place_of_their_layer(trained: Trained) -> None:
    one_layer = a_measure("of_one", lambda network: LayerSum(2.0, [2.0], layers=[1]), "network")
    registry = build([*BUILT_IN.quantities.values(), one_layer])
    assert read_layers([one_layer], registry, trained) == [LayerReading("of_one", "3", 2.0)]


def test_measures_without_value_or_terms_have_no_rows(trained: Trained) -> None:
    def undefined(network: nn.Module) -> LayerSum:
        raise Undefined("nothing to sum")

    def offending(network: nn.Module) -> LayerSum:
        _add_to_weights(trained)
        return LayerSum(1.0, [1.0])

    entries = [
        a_measure("undefined", undefined, "network"),
        a_measure("plain", lambda network: 1.0, "network"),
        a_measure("infinite", lambda network: LayerSum(float("inf"), [float("inf")]), "network"),
        a_measure("offending", offending, "network"),
        a_measure("good", lambda network: LayerSum(1.0, [0.5, 0.5]), "network"),
    ]
    registry = build([*BUILT_IN.quantities.values(), *entries])
    assert {row.measure for row in read_layers(entries, registry, trained)} == {"good"}
    nameless = build([Quantity("layers", undefined, ("network",)), *entries])
    assert read_layers(entries, nameless, trained) == []


def test_every_layer_wise_measure_is_the_sum_or_the_mean_of_its_terms() -> None:
    trained = example_networks()["deep mlp"]
    entries = [entry for entry in BUILT_IN.measures.values() if entry.has_terms]
    assert {"param_norm", "log_prod_spectral_operator", "frobenius_over_spectral", "normalised_layer_margin"} <= {
        entry.name for entry in entries
    }
    values = {reading.measure: reading.value for reading in read(entries, BUILT_IN, trained)}
    terms: dict[str, list[float]] = {}
    for row in read_layers(entries, BUILT_IN, trained):
        terms.setdefault(row.measure, []).append(row.value)
    assert terms.keys() == {name for name, value in values.items() if value is not None}
    for name, parts in terms.items():
        total = sum(parts)
        assert values[name] in (pytest.approx(total, rel=1e-9), pytest.approx(total / len(parts), rel=1e-9)), name
        assert values[name] != pytest.approx(total + 0.01 * abs(total) + 0.01, rel=1e-3), name


@pytest.fixture
def with_twins(trained: Trained) -> Trained:
    twin = copy.deepcopy(trained)
    other = dataclasses.replace(copy.deepcopy(trained), train=trained.train)
    return dataclasses.replace(
        trained, seed_twins=(other,), random_label_twin=twin, unlabelled_test_inputs=torch.ones(4, 3)
    )


SECOND_BREACHES = {
    r"changed a second run's network \(0.weight\)": lambda run: _add_to_weights(run.seed_twins[0]),
    "changed a second run's network's training mode": lambda run: run.random_label_twin.network.train(),
    "which parameters of a second run's network require": lambda run: run.seed_twins[0].network.requires_grad_(False),
    "left gradients in a second run's network": lambda run: _backward(run.seed_twins[0]),
    "changed a second run's initial weights": lambda run: _change_initial(run.random_label_twin),
    "changed the training labels": lambda run: _change_labels(run.random_label_twin),
    "changed the test inputs": lambda run: run.unlabelled_test_inputs.zero_(),
}


@pytest.mark.parametrize("message", SECOND_BREACHES)
def test_a_breach_on_a_second_run_is_named_and_undone(with_twins: Trained, message: str) -> None:
    def offending(network: nn.Module) -> float:
        SECOND_BREACHES[message](with_twins)
        return 1.0

    before = copy.deepcopy(with_twins)
    registry = build([a_measure("mine", offending, "network"), a_measure("good", lambda network: 1.0, "network")])
    bad, good = read(list(registry.measures.values()), registry, with_twins)
    assert (bad.status, good.status) == ("failed", "ok")
    assert re.search(message, bad.reason), bad.reason
    twins, were = ((*run.seed_twins, run.random_label_twin) for run in (with_twins, before))
    for twin, was in zip(twins, were, strict=True):
        assert all(torch.equal(twin.network.state_dict()[name], was.network.state_dict()[name]) for name in was.initial)
        assert all(torch.equal(twin.initial[name], was.initial[name]) for name in was.initial)
        assert torch.equal(twin.train.labels, was.train.labels)
    assert torch.equal(with_twins.unlabelled_test_inputs, before.unlabelled_test_inputs)


@pytest.mark.parametrize("root", ["seed_twins", "random_label_twin", "unlabelled_test_inputs"])
def test_second_runs_and_test_inputs_are_roots_that_may_be_absent(
    trained: Trained, with_twins: Trained, root: str
) -> None:
    seen: list[object] = []
    entry = Measure(
        "mine", "test", lambda value: float(len(seen.append(value) or seen)), (root,), "unpublished", 1,
        uses_unlabelled_test_inputs=root == "unlabelled_test_inputs",
    )  # fmt: skip
    registry = build([entry])
    absent = read([entry], registry, trained)[0]
    assert absent.status == "undefined"
    assert {"seed_twins": "no seed twin", "random_label_twin": "no random-label twin"}.get(
        root, "no test inputs"
    ) in absent.reason
    assert read([entry], registry, with_twins)[0].status == "ok"
    assert seen == [getattr(with_twins, root)]


def test_a_second_run_that_diverged_is_undefined(with_twins: Trained) -> None:
    with torch.no_grad():
        next(with_twins.seed_twins[0].network.parameters())[0, 0] = torch.inf
    reading = read_one(lambda seed_twins: 1.0, with_twins, "seed_twins")
    assert (reading.status, reading.reason) == (
        "undefined", "the weights of its seed_twins are not finite: that training diverged",
    )  # fmt: skip
    assert read_one(lambda twin: 1.0, with_twins, "random_label_twin").status == "ok"


def test_the_curve_of_a_training_whose_loss_is_not_finite_is_undefined(trained: Trained) -> None:
    curve = torch.tensor([2.0, 1.0], dtype=torch.float64)
    history = History(curve, curve, curve)
    assert read_one(training_speed, dataclasses.replace(trained, history=history), "history").value == 3.0
    curve[1] = torch.nan
    reading = read_one(training_speed, dataclasses.replace(trained, history=history), "history")
    assert (reading.status, reading.reason) == (
        "undefined", "the training loss is not finite: this training diverged",
    )  # fmt: skip
