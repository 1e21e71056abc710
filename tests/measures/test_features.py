from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import quantities
from gapbench.measures.features import covariance_eigenvalues, features
from gapbench.measures.outputs import logits, outputs_of
from gapbench.measures.registry import Undefined


def test_features_are_what_the_last_layer_maps_to_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))
    network = network.double()
    train = Split(torch.randn(11, 1, 4, 4), torch.arange(11) % 3, 3)
    monkeypatch.setattr(quantities.batches, "__defaults__", (4,))  # several batches, the last one smaller
    both = outputs_of(network, train)
    found = features(both)
    torch.testing.assert_close(logits(both), network(train.inputs.double()))
    assert found.shape == (11, 5)
    torch.testing.assert_close(network[5](found), network(train.inputs.double()))
    assert not torch.allclose(network[5](found.roll(1, 0)), network(train.inputs.double()))


def test_a_network_without_a_linear_last_layer_has_no_features() -> None:
    train = Split(torch.randn(3, 1, 4, 4), torch.arange(3) % 2, 2)
    with pytest.raises(Undefined, match="not a linear layer"):
        features(outputs_of(nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten()).double(), train))
    found = outputs_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double(), train)
    assert features(found).shape == (3, 16)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_the_eigenvalues_are_those_of_the_dense_covariance(shape: tuple[int, int]) -> None:
    made = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 2
    dense = torch.linalg.eigvalsh(torch.cov(made.T, correction=0)).flip(0)[: min(shape)].clamp_min(0)
    torch.testing.assert_close(covariance_eigenvalues(made), dense, atol=1e-12, rtol=1e-9)
    uncentred = torch.linalg.eigvalsh(made.T @ made / len(made)).flip(0)[: min(shape)]
    assert not torch.allclose(covariance_eigenvalues(made), uncentred, rtol=0.05)
