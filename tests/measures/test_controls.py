"""Controls: hand values, and the fact that loss dissipated is training loss in disguise."""

from __future__ import annotations

import pytest
import torch

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures import controls
from gapbench.measures.registry import Measure, Undefined, collect
from gapbench.models.trained import History


def history(*losses: float) -> History:
    count = len(losses)
    return History(torch.arange(count), torch.tensor(losses, dtype=torch.float64), torch.zeros(count))


def test_every_entry_is_a_control() -> None:
    entries = collect(controls)
    assert [entry.name for entry in entries] == [
        "coin",
        "train_error",
        "train_loss",
        "epochs_trained",
        "loss_dissipated",
    ]
    assert all(isinstance(entry, Measure) and entry.control for entry in entries)


def test_coin_is_uniform_and_its_generators_own() -> None:
    draws = torch.tensor([controls.coin(generator(seed, "read", "coin")) for seed in range(400)])
    assert 0 <= float(draws.min()) < 0.05
    assert 0.95 < float(draws.max()) < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 400) ** 0.5)
    assert controls.coin(generator(7, "read", "coin")) == controls.coin(generator(7, "read", "coin"))


def test_error_loss_and_epochs() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    train = Split(torch.zeros(4, 1), torch.tensor([0, 1, 0, 0]), 2)
    assert controls.train_error(logits, train) == 0.25
    assert controls.train_loss(torch.tensor([0.1, 0.5], dtype=torch.float64)) == pytest.approx(0.3)
    assert controls.epochs_trained(history(2.0, 1.0, 0.5)) == 2


def test_loss_dissipated() -> None:
    assert controls.loss_dissipated(history(2.0, 1.0, 0.5)) == pytest.approx(0.75)
    assert controls.loss_dissipated(history(2.0, 3.0)) == pytest.approx(-0.5)
    with pytest.raises(Undefined, match="initial training loss is zero"):
        controls.loss_dissipated(history(0.0, 0.0))


def test_loss_dissipated_is_the_gramian_form_for_squared_loss() -> None:
    """gᵀW g / ((n/2)‖g‖²) = 1 − Φ_T/Φ_0 with g = r/n, W = (n/2)(I − PᵀP), P = exp(−KT/n)."""
    n, time = 6, 3.0
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(n, 4, dtype=torch.float64, generator=rng)
    kernel, residual = features @ features.T, torch.randn(n, dtype=torch.float64, generator=rng)
    propagator = torch.linalg.matrix_exp(-kernel * time / n)
    gradient = residual / n
    gramian = n / 2 * (torch.eye(n, dtype=torch.float64) - propagator.T @ propagator)
    share = float(gradient @ gramian @ gradient / (n / 2 * gradient @ gradient))
    losses = [float((r @ r) / (2 * n)) for r in (residual, propagator @ residual)]
    assert controls.loss_dissipated(history(*losses)) == pytest.approx(share, rel=1e-12)
