from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures.features import covariance_eigenvalues, features
from gapbench.measures.registry import Undefined

INPUTS = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0))
TRAIN = Split(INPUTS, torch.zeros(1500, dtype=torch.int64), 2)


class Reordered(nn.Module):
    """Declares its output layer first and calls it last, twice, after activations that no module walk sees."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(4, 4)
        self.hidden = nn.Linear(3, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        once: torch.Tensor = self.output(torch.relu(self.hidden(inputs)))
        again: torch.Tensor = self.output(once)
        return again


def test_features_are_what_enters_the_last_linear_layer_of_the_forward_pass() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    torch.testing.assert_close(features(network, TRAIN), network[:2](INPUTS.double()).detach())
    other = Reordered().double()
    once = other.output(torch.relu(other.hidden(INPUTS.double()))).detach()
    torch.testing.assert_close(features(other, TRAIN), once)


def test_images_are_flattened_and_a_network_without_a_linear_layer_is_undefined() -> None:
    images = Split(torch.randn(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64), 2)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2)).double()
    assert features(pooled, images).shape == (5, 12)
    with pytest.raises(Undefined, match="no linear layer"):
        features(nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten()).double(), images)


def test_no_hook_is_left_behind() -> None:
    network = nn.Sequential(nn.Linear(3, 2)).double()
    features(network, TRAIN)
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_the_eigenvalues_are_those_of_the_dense_covariance(shape: tuple[int, int]) -> None:
    made = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 2
    dense = torch.linalg.eigvalsh(torch.cov(made.T, correction=0)).flip(0)[: min(shape)].clamp_min(0)
    torch.testing.assert_close(covariance_eigenvalues(made), dense, atol=1e-12, rtol=1e-9)
    uncentred = torch.linalg.eigvalsh(made.T @ made / len(made)).flip(0)[: min(shape)]
    assert not torch.allclose(covariance_eigenvalues(made), uncentred, rtol=0.05)
