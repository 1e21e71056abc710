"""The guard: every breach of contract is named and undone."""

from __future__ import annotations

import copy
import random
import re
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch
from torch import nn

from gapbench.measures.read import Reading, read
from gapbench.measures.registry import Measure, build
from gapbench.models.trained import Trained


def a_measure(name: str, function: object, *needs: str) -> Measure:
    return Measure(name, "test", function, needs, "unpublished", 1)


def read_one(function: object, trained: Trained, *needs: str) -> Reading:
    registry = build([a_measure("mine", function, *needs)])
    return read(list(registry.measures.values()), registry, trained)[0]


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


def _gradients(trained: Trained) -> list[torch.Tensor]:
    return [parameter.grad for parameter in trained.network.parameters() if parameter.grad is not None]


def test_gradients_of_the_users_own_training_are_nobodys_breach_and_come_back(with_twins: Trained) -> None:
    for run in (with_twins, *with_twins.seed_twins):
        _backward(run)
    before = [gradient.clone() for gradient in _gradients(with_twins)]
    objects = [id(gradient) for gradient in _gradients(with_twins)]
    assert len(before) == 6
    seen = read_one(lambda network: float(sum(p.grad is not None for p in network.parameters())), with_twins, "network")
    assert (seen.status, seen.value) == ("ok", 0.0)
    assert read_one(lambda network: _backward(with_twins), with_twins, "network").status == "failed"
    for found, expected in zip(_gradients(with_twins), before, strict=True):
        assert torch.equal(found, expected)
    assert [id(gradient) for gradient in _gradients(with_twins)] == objects
    assert len(_gradients(with_twins.seed_twins[0])) == 6
