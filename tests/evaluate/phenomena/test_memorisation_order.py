"""The Gini coefficient, and the sensitivity of the loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.evaluate.phenomena.memorisation_order import gini, loss_sensitivity


def test_the_gini_coefficient_of_known_distributions() -> None:
    assert gini(torch.ones(10)) == pytest.approx(0)
    assert gini(torch.tensor([0.0, 0.0, 0.0, 1.0])) == pytest.approx(3 / 4)
    # Of the uniform law it is 1/3.
    assert gini(torch.linspace(0, 1, 2001)) == pytest.approx(1 / 3, abs=1e-3)


def test_the_sensitivity_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    sample = Split(torch.randn(4, 1, 2, 3).double(), torch.tensor([0, 1, 2, 1]), 3)
    found = loss_sensitivity(network, sample)
    step, expected = 1e-6, torch.zeros(4, dtype=torch.float64)
    for example in range(4):
        for place in range(6):
            losses = []
            for sign in (1, -1):
                moved = sample.inputs[example].clone().flatten()
                moved[place] += sign * step
                outputs = network(moved.view(1, 1, 2, 3))
                losses.append(nn.functional.cross_entropy(outputs, sample.labels[example][None]))
            expected[example] += ((losses[0] - losses[1]) / (2 * step)).abs().detach()
    assert torch.allclose(found, expected, atol=1e-6)
