"""Steps, speed and gradient noise: hand values, and the layerwise variance against gradients of single examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures import optimisation, quantities
from gapbench.measures.read import read
from gapbench.measures.registry import Undefined, build, collect
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
    registry = build([*collect(quantities), *collect(optimisation)])
    entries = [registry.measures[f"gradient_noise_{when}"] for when in ("epoch_1", "final")]

    def values(states: dict[int, dict[str, Tensor]]) -> list[float | str | None]:
        trained = Trained(network, earlier.state_dict(), train, trajectory=Trajectory(states))
        return [reading.value or reading.reason for reading in read(entries, registry, trained)]

    at_one, final = values({0: {}, 1: earlier.state_dict()})
    assert at_one != pytest.approx(final, rel=1e-3)
    assert values({1: network.state_dict()})[0] == pytest.approx(final, rel=1e-12)
    assert values({0: {}, 2: {}})[0] == "the state after epoch 1 was not kept (kept: [0, 2])"
