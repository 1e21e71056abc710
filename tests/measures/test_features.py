"""Features: what the last linear layer is given, in every batch, and in a network without batch norm folded in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import quantities
from gapbench.measures.features import features
from gapbench.measures.registry import Undefined


def test_features_are_the_inputs_of_the_last_linear_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()
    train = Split(torch.randn(7, 4), torch.zeros(7, dtype=torch.long), 3)
    with torch.no_grad():
        expected = network.double()[:3](train.inputs.double())
    monkeypatch.setattr(quantities, "EXAMPLES_AT_ONCE", 3)
    folded = quantities.folded(network, train)
    torch.testing.assert_close(features(folded, train), expected)
    torch.testing.assert_close(folded[3](features(folded, train)), quantities.logits(folded, train))
    with torch.no_grad():
        assert not torch.allclose(network[0](train.inputs.double()), expected)
    assert not folded[3]._forward_pre_hooks


def test_a_network_without_a_linear_layer_has_no_features() -> None:
    train = Split(torch.randn(2, 1, 4, 4), torch.zeros(2, dtype=torch.long), 3)
    with pytest.raises(Undefined, match="no linear layer"):
        features(nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()).double(), train)
