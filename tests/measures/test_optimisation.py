"""Steps, speed and gradient noise: hand values, and the layerwise variance against gradients of single examples."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures import optimisation, outputs, quantities, tangent
from gapbench.measures.outputs import outputs_of
from gapbench.measures.read import read
from gapbench.measures.registry import Undefined, build, collect
from gapbench.measures.tangent import tangent_gram
from gapbench.models.trained import History, Trained, Trajectory


def history(*losses: float) -> History:
    count = len(losses)
    return History(torch.arange(count) * 10, torch.tensor(losses, dtype=torch.float64), torch.zeros(count))


def test_training_speed_hand_values() -> None:
    curve = history(2.3, 1.1, 0.6, 0.3, 0.1)
    assert optimisation.training_speed(curve) == pytest.approx(4.4, rel=1e-9)
    assert optimisation.training_speed_last(curve) == pytest.approx(0.4, rel=1e-9)
    assert optimisation.training_speed_last(curve, epochs=5) == pytest.approx(4.4, rel=1e-9)
    expected = 0.1 + 0.5 * 0.3 + 0.25 * 0.6 + 0.125 * 1.1 + 0.0625 * 2.3
    assert optimisation.training_speed_ema(curve, decay=0.5) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(Undefined, match="5 losses"):
        optimisation.training_speed_last(curve, epochs=6)


def test_steps_to_loss() -> None:
    curve = history(2.3, 0.2, 0.05, 0.3, 0.008)
    assert optimisation.steps_to_loss(curve) == pytest.approx(10 + 10 * 0.1 / 0.15)  # the first crossing counts
    assert optimisation.steps_to_loss(curve, loss_nats=0.2) == pytest.approx(10)
    assert optimisation.steps_to_loss(curve, loss_nats=5.0) == 0
    last = 30 + 10 * 0.29 / 0.292
    assert optimisation.steps_between_losses(curve) == pytest.approx(last - 10 - 10 * 0.1 / 0.15)
    with pytest.raises(Undefined, match=r"never reached 0.001 nats \(least: 0.008\)"):
        optimisation.steps_to_loss(curve, loss_nats=0.001)


def variance_of_single_gradients(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    gradients = []
    for x, y in zip(inputs.double(), labels, strict=True):
        loss = cross_entropy(network(x.unsqueeze(0)), y.unsqueeze(0))
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
    return float(torch.stack(gradients).var(dim=0, correction=0).sum())


NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 7), nn.ReLU(), nn.Linear(7, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2, stride=2, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(8, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_variance_against_single_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    train = Split(torch.randn(13, 1, 6, 6), torch.randint(0, 3, (13,)), 3)
    expected = variance_of_single_gradients(network, train.inputs, train.labels)
    assert optimisation.gradient_variance(network, train) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(optimisation, "EXAMPLES_AT_ONCE", 5)
    assert optimisation.gradient_variance(network, train) == pytest.approx(expected, rel=1e-10)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradient_noise_of_identical_examples_is_zero() -> None:
    network = nn.Sequential(nn.Linear(2, 3)).double()
    same = Split(torch.ones(6, 2), torch.zeros(6, dtype=torch.long), 3)
    assert optimisation.gradient_variance(network, same) == pytest.approx(0, abs=1e-12)
    other = Split(torch.ones(6, 2), torch.tensor([0, 0, 0, 1, 1, 1]), 3)
    assert optimisation.gradient_variance(network, other) > 0.1


def test_gradient_noise_reads_the_state_of_its_epoch() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).eval()
    earlier = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).eval()
    train = Split(torch.randn(9, 4), torch.randint(0, 3, (9,)), 3)
    registry = build([*collect(quantities), *collect(outputs), *collect(tangent), *collect(optimisation)])
    entries = [registry.measures[f"gradient_noise_{when}"] for when in ("epoch_1", "final")]

    def values(states: dict[int, dict[str, Tensor]]) -> list[float | str | None]:
        trained = Trained(network, earlier.state_dict(), train, trajectory=Trajectory(states))
        return [reading.value or reading.reason for reading in read(entries, registry, trained)]

    at_one, final = values({0: {}, 1: earlier.state_dict()})
    assert at_one != pytest.approx(final, rel=1e-3)
    assert values({1: network.state_dict()})[0] == pytest.approx(final, rel=1e-12)
    assert values({0: {}, 2: {}})[0] == "the state after epoch 1 was not kept (kept: [0, 2])"


def records(**columns: list[float]) -> History:
    made = {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}
    return dataclasses.replace(history(2.0, 1.0, 0.5), **made)


def test_path_and_forgetting_hand_values() -> None:
    curve = records(path_length=[0, 3, 7], forgotten=[0, 2, 4])
    train = Split(torch.zeros(12, 2), torch.zeros(12, dtype=torch.long), 2)
    assert optimisation.path_length(curve) == 7
    assert optimisation.forgetting_events(curve, train) == 0.5
    assert optimisation.distance_per_step(curve, torch.tensor([3.0, 4.0]), torch.zeros(2)) == 0.25
    with pytest.raises(Undefined, match="no optimiser step"):
        optimisation.distance_per_step(history(2.0), torch.ones(2), torch.ones(2))


def test_records_that_were_not_kept_or_diverged_are_undefined() -> None:
    train = Split(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 2)
    with pytest.raises(Undefined, match="length of the path was not kept"):
        optimisation.path_length(history(2.0, 1.0))
    with pytest.raises(Undefined, match="forgotten examples was not kept"):
        optimisation.forgetting_events(history(2.0, 1.0), train)
    with pytest.raises(Undefined, match="diverged"):
        optimisation.path_length(records(path_length=[0, 1, float("nan")]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gram_of_loss_gradients_against_single_gradients(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    train = Split(torch.randn(70, 1, 6, 6), torch.randint(0, 3, (70,)), 3)
    gradients = []
    for x, y in zip(train.inputs[:64].double(), train.labels, strict=False):
        loss = cross_entropy(network(x.unsqueeze(0)), y.unsqueeze(0))
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
    expected = torch.stack(gradients) @ torch.stack(gradients).T
    kernel, logits = tangent_gram(network, train), outputs_of(network, train).logits
    gram = optimisation.loss_gradient_gram(kernel, logits, train)
    torch.testing.assert_close(gram, expected, rtol=1e-9, atol=1e-12)
    shuffled = dataclasses.replace(train, labels=train.labels.flip(0))
    assert not torch.allclose(optimisation.loss_gradient_gram(kernel, logits, shuffled), expected, rtol=1e-2)


VECTORS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 3.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
GRAM = VECTORS @ VECTORS.T
FIVE = Split(torch.zeros(5, 2), torch.tensor([0, 0, 1, 1, 1]), 3)


def test_gradient_confusion_hand_values() -> None:
    assert optimisation.gradient_confusion(GRAM) == 6
    assert optimisation.gradient_confusion(GRAM, cosine=True) == pytest.approx(0.5**0.5)
    assert optimisation.gradient_confusion(GRAM[[0, 4]][:, [0, 4]]) == -2  # all pairs agree
    with pytest.raises(Undefined, match="two examples"):
        optimisation.gradient_confusion(torch.diag(torch.tensor([1.0, 0.0])).double(), cosine=True)


def test_stiffness_hand_values() -> None:
    """Class 0: one pair of cosine 0. Class 1: the zero gradient is left out, and one pair of cosine -1/√2 stays."""
    assert optimisation.stiffness(GRAM, FIVE) == pytest.approx(-(0.5**1.5))
    assert optimisation.stiffness(GRAM, FIVE, statistic="sign") == -0.5
    apart = (-(0.5**0.5) + 0.5**0.5 + 1 + 0) / 4
    assert optimisation.stiffness(GRAM, FIVE, classes="different") == pytest.approx(apart)
    assert optimisation.stiffness(25 * GRAM, FIVE) == pytest.approx(-(0.5**1.5))
    with pytest.raises(Undefined, match="same classes"):
        optimisation.stiffness(GRAM[:2, :2], Split(torch.zeros(2, 2), torch.tensor([0, 1]), 3))


def test_stiffness_is_one_where_all_gradients_of_a_class_agree() -> None:
    parallel = torch.outer(torch.arange(1.0, 6).double(), torch.arange(1.0, 6).double())
    assert optimisation.stiffness(parallel, FIVE) == pytest.approx(1)
    assert optimisation.gradient_confusion(parallel, cosine=True) == pytest.approx(-1)
