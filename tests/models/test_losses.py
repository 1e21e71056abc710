"""The losses that networks are trained on, and training on the squared one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec
from gapbench.models.build import build
from gapbench.models.losses import LOSSES
from gapbench.models.spec import RunSpec, run_id
from gapbench.models.train import train

DATA = DataSpec("gaussian_mixture", train_size=32, dimension=6, classes=3, test_size=50)
SPEC = RunSpec(
    DATA, "mlp", 8, 1, 0.1, 32, momentum=0.0, activation="tanh", loss="squared", stop_loss_nats=0.05, max_epochs=400
)


def test_the_mean_is_that_of_the_labels_own_column() -> None:
    outputs = torch.randn(5, 3, dtype=torch.float64, generator=generator(0, "losses"))
    labels = torch.tensor([0, 2, 1, 1, 0])
    for loss in LOSSES.values():
        own = loss.by_class(outputs).gather(1, labels[:, None])
        torch.testing.assert_close(loss.mean(outputs, labels), own.mean())
        assert not torch.allclose(loss.mean(outputs, labels.flip(0)), own.mean())


def test_the_squared_loss_by_hand() -> None:
    outputs, labels = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1])
    assert float(LOSSES["squared"].mean(outputs, labels)) == pytest.approx(4 / 4)
    assert LOSSES["squared"].by_class(outputs)[0].tolist() == pytest.approx([2.0, 3.0, 1.0])


def test_training_on_it_is_gradient_descent_on_it() -> None:
    """Full batch, no momentum: the same steps by hand, and the stop by the value of the loss."""
    sample, test = load(DATA)
    trained, outcome, _ = train(SPEC, (sample, test))
    twin = build(SPEC, tuple(sample.inputs.shape[1:]), 3, generator(0, "train", 0, "initialisation"))
    targets = torch.eye(3)[sample.labels]

    def loss(inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return ((twin(inputs) - wanted) ** 2).sum() / (2 * len(inputs))

    steps = 0
    while float(loss(sample.inputs, targets).detach()) > 0.05:
        gradients = torch.autograd.grad(loss(sample.inputs, targets), list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
        steps += 1
    assert steps > 20
    assert (outcome.steps, outcome.epochs, outcome.converged) == (steps, steps, True)
    for found, expected in zip(trained.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        assert outcome.test_loss_nats == pytest.approx(float(loss(test.inputs, torch.eye(3)[test.labels])), rel=1e-3)
    assert train(dataclasses.replace(SPEC, loss="cross_entropy"), (sample, test))[1].steps != steps


def test_the_name_of_the_default_loss_is_in_no_identity() -> None:
    assert run_id(SPEC) != run_id(dataclasses.replace(SPEC, loss="cross_entropy"))
    plain = RunSpec(DATA, "mlp", 8, 1, 0.1, 32)
    assert run_id(plain) == run_id(dataclasses.replace(plain, loss="cross_entropy", gate="soft", gate_ridge=1.0))
