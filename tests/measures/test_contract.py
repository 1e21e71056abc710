"""The contract: every built-in measure keeps it, and each of its checks fails on a measure that breaks it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gapbench.measures import BUILT_IN
from gapbench.measures.contract import TRANSFORMS, check, example_networks
from gapbench.measures.registry import INVARIANCES, Measure, Registry, Undefined, build, collect

FAMILIES = sorted({entry.family for entry in BUILT_IN.measures.values()})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_built_in_measure_keeps_the_contract(family: str) -> None:
    entries = [entry for entry in BUILT_IN.measures.values() if entry.family == family]
    checks = check(entries, BUILT_IN)
    assert len(checks) >= 8 * len(entries)
    assert [one for one in checks if not one.passed] == []


def with_measure(function: object, *needs: str, source: str = "unpublished", **options: object) -> Registry:
    entry = Measure("mine", "test", function, needs, source, 1, **options)
    return build([*BUILT_IN.quantities.values(), entry])


def failures(registry: Registry) -> list[str]:
    return [one.what for one in check([registry.measures["mine"]], registry) if not one.passed]


def test_a_sound_measure_passes() -> None:
    assert failures(with_measure(lambda network: 1.0, "network", invariances=INVARIANCES)) == []


def test_an_unresolved_source_fails() -> None:
    assert failures(with_measure(lambda network: 1.0, "network", source="nobody1999, eq. 1")) == ["source resolves"]


@pytest.mark.parametrize("source", ["jiang2020, eq. 33; neyshabur2015", "arXiv:1912.02178", "doi:10.1", "unpublished"])
def test_sources_that_resolve(source: str) -> None:
    assert failures(with_measure(lambda network: 1.0, "network", source=source)) == []


def test_a_value_that_changes_from_call_to_call_fails() -> None:
    counter = itertools.count()
    found = failures(with_measure(lambda network: float(next(counter)), "network"))
    assert [what for what in found if what.startswith("same value twice")]


def test_a_measure_that_is_nowhere_defined_fails() -> None:
    def undefined(network: nn.Module) -> float:
        raise Undefined("never")

    assert failures(with_measure(undefined, "network")) == ["defined on at least one network"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails(value: float) -> None:
    assert any(what.startswith("finite") for what in failures(with_measure(lambda network: value, "network")))


FALSE_CLAIMS = {
    "rescaling": (lambda parameters: float(parameters.square().sum()), "parameters"),
    "unit_permutation": (lambda parameters: float(parameters @ torch.arange(len(parameters)).double()), "parameters"),
    "example_permutation": (lambda losses: float(losses @ torch.arange(len(losses)).double()), "losses"),
    "example_duplication": (lambda losses: float(losses.sum()), "losses"),
    "input_rotation": (lambda layers: float(layers[0].weight.abs().sum()), "layers"),
}


@pytest.mark.parametrize("kind", INVARIANCES)
def test_a_false_claim_of_invariance_fails(kind: str) -> None:
    function, need = FALSE_CLAIMS[kind]
    expected = [f"invariant under {kind}: deep mlp", f"invariant under {kind}: cnn"]
    expected = expected[:1] if kind == "input_rotation" else expected
    assert failures(with_measure(function, need, invariances=(kind,))) == expected
    assert failures(with_measure(function, need)) == []


@pytest.mark.parametrize("kind", INVARIANCES)
def test_transformations_keep_the_function_and_change_the_network(kind: str) -> None:
    transform, probe = TRANSFORMS[kind]
    for name, trained in example_networks().items():
        if name == "cnn" and kind == "input_rotation":
            continue
        moved = transform(trained)
        assert probe(moved) != probe(trained)
        with torch.no_grad():
            # A sample that was itself transformed is compared example by example with what it was made from.
            twice = len(moved.train) // len(trained.train)
            own = moved.train.inputs if kind == "input_rotation" else trained.train.inputs
            torch.testing.assert_close(moved.network(own), trained.network(trained.train.inputs), rtol=1e-4, atol=1e-4)
            assert twice == (2 if kind == "example_duplication" else 1)


def test_the_example_networks_are_trained() -> None:
    for trained in example_networks().values():
        assert trained.history is not None
        assert float(trained.history.loss_nats[-1]) <= 0.01


def test_families_are_modules_and_modules_families() -> None:
    from gapbench import measures

    for family in FAMILIES:
        assert collect(getattr(measures, family))
