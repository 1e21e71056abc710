"""Reading: each quantity once, dropped after its last use, no draw shared."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter

import pytest
import torch
from torch import nn

from gapbench.measures import BUILT_IN
from gapbench.measures.contract import example_networks
from gapbench.measures.optimisation import training_speed
from gapbench.measures.read import LayerReading, Reading, read, read_layers
from gapbench.measures.registry import Estimate, LayerSum, Measure, Quantity, Undefined, build
from gapbench.models.trained import History, Trained


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


def test_each_measure_is_a_step(trained: Trained) -> None:
    registry = build([a_measure(name, lambda network: 1.0, "network") for name in ("one", "two", "three")])
    steps: list[tuple[int, int]] = []
    read(list(registry.measures.values()), registry, trained, step=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


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
