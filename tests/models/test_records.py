"""The records of the path: against weights kept at every step, states of every epoch, and a loop without records."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from gapbench.datasets.load import load
from gapbench.datasets.seeds import derive_seed, generator
from gapbench.datasets.spec import DataSpec
from gapbench.models import train as train_module
from gapbench.models.build import build
from gapbench.models.flat import flatten
from gapbench.models.optimisers import Adam, MomentumSGD, Optimiser
from gapbench.models.spec import RunSpec
from gapbench.models.train import gradient, train

DATA = DataSpec("digits", train_size=64, label_noise=0.5)
SGD = RunSpec(DATA, "mlp", width=16, depth=2, learning_rate=0.05, batch_size=24, max_epochs=12, weight_decay=1e-3)
ADAM = dataclasses.replace(SGD, optimiser="adam", learning_rate=0.003, dropout=0.1)
CNN = dataclasses.replace(SGD, architecture="cnn", width=4, norm="batch", dropout=0.2)
SPECS = {"sgd": SGD, "adam": ADAM, "cnn": CNN}


def weights_without_records(spec: RunSpec) -> dict[str, Tensor]:
    """The state dict after the same training by a loop, and by update rules, that record nothing."""
    sample, seeds = load(spec.data)[0], (spec.root_seed, "train", spec.seed)
    network = build(spec, tuple(sample.inputs.shape[1:]), sample.classes, generator(*seeds, "initialisation"))
    values, gradients = flatten(network)
    add_gradient = gradient(network, spec)
    order, inputs = generator(*seeds, "order"), sample.inputs.contiguous(memory_format=torch.channels_last)
    mean, square, steps = torch.zeros_like(values), torch.zeros_like(values), 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*seeds, "dropout"))
        for _ in range(spec.max_epochs):
            shuffled = torch.randperm(len(sample), generator=order)
            network.train()
            for rows in torch.split(shuffled, spec.batch_size):
                steps += 1
                gradients.mul_(spec.momentum if spec.optimiser == "sgd" else 0)
                if spec.optimiser == "sgd":
                    gradients.add_(values, alpha=spec.weight_decay)
                add_gradient(inputs[rows], sample.labels[rows])
                if spec.optimiser == "sgd":
                    values.add_(gradients, alpha=-spec.learning_rate)
                    continue
                gradients.add_(values, alpha=spec.weight_decay)
                mean.lerp_(gradients, 1 - 0.9)
                square.mul_(0.999).addcmul_(gradients, gradients, value=1 - 0.999)
                scale = (square / (1 - 0.999**steps)).sqrt_().add_(1e-8)
                values.addcdiv_(mean, scale, value=-spec.learning_rate / (1 - 0.9**steps))
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", SPECS)
def test_the_records_change_no_bit_of_training(name: str) -> None:
    trained, outcome, _ = train(SPECS[name], load(DATA))
    assert outcome.epochs == 12
    expected = weights_without_records(SPECS[name])
    for part, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, expected[part]), part
    other = weights_without_records(dataclasses.replace(SPECS[name], learning_rate=0.0501))
    assert any(not torch.equal(tensor, other[part]) for part, tensor in trained.network.state_dict().items())


@pytest.mark.parametrize("name", SPECS)
def test_the_path_length_is_the_sum_of_the_distances_between_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path: list[Tensor] = []
    made = train_module.optimiser

    def watched(spec: RunSpec, values: Tensor, gradients: Tensor) -> Optimiser:
        rule = made(spec, values, gradients)
        step = rule.step

        def kept() -> float:
            length = step()
            path.append(values.double())
            return length

        path.append(values.double())
        monkeypatch.setattr(rule, "step", kept)
        return rule

    monkeypatch.setattr(train_module, "optimiser", watched)
    history = train(SPECS[name], load(DATA))[0].history
    assert history is not None
    assert history.path_length is not None
    lengths = torch.stack([(after - before).norm() for before, after in itertools.pairwise(path)])
    expected = torch.cat([torch.zeros(1), lengths.cumsum(0)])[:: len(lengths) // 12]
    torch.testing.assert_close(history.path_length, expected.double(), rtol=1e-4, atol=0)
    chord = float((path[-1] - path[0]).norm())
    assert float(history.path_length[-1]) > 1.2 * chord


def test_step_sizes_add_up() -> None:
    for spec, size in ((SGD, 0.05 / 0.1), (dataclasses.replace(SGD, momentum=0.0), 0.05), (ADAM, 0.003)):
        history = train(spec, load(DATA))[0].history
        assert history is not None
        assert history.step_size is not None
        torch.testing.assert_close(history.step_size, torch.arange(13).double() * 3 * size)


@pytest.mark.parametrize(("rule", "momentum"), [(MomentumSGD, 0.9), (MomentumSGD, 0.5), (Adam, 0.9)])
def test_the_effective_step_size_is_that_of_a_constant_gradient(rule: type[Optimiser], momentum: float) -> None:
    """Under a gradient of ones, every step in the end has the effective step size in each coordinate."""
    values, gradients = torch.zeros(4), torch.zeros(4)
    made = rule(values, gradients, dataclasses.replace(SGD, momentum=momentum, weight_decay=0.0))  # type: ignore[call-arg]
    for _ in range(300):
        before = values.clone()
        made.before_backward()
        gradients.add_(1.0)
        length = made.step()
    torch.testing.assert_close(before - values, torch.full((4,), made.step_size), rtol=1e-4, atol=0)
    assert length == pytest.approx(2 * made.step_size, rel=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_forgotten_examples_are_those_that_were_right_one_epoch_before(name: str) -> None:
    trained = train(SPECS[name], load(DATA), trajectory_epochs=range(13))[0]
    assert trained.trajectory is not None
    assert trained.history is not None
    assert trained.history.forgotten is not None
    network = build(SPECS[name], tuple(trained.train.inputs.shape[1:]), 10, generator(0)).eval()
    right = []
    for state in trained.trajectory.states.values():
        network.load_state_dict(dict(state))
        with torch.no_grad():
            right.append(network(trained.train.inputs).argmax(dim=1) == trained.train.labels)
    expected = [0, *(int((before & ~after).sum()) for before, after in itertools.pairwise(right))]
    assert trained.history.forgotten.tolist() == expected
    assert 0 < sum(expected) < 64 * 12
    learned = [0, *(int((~before & after).sum()) for before, after in itertools.pairwise(right))]
    assert expected != learned
