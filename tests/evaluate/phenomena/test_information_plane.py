"""Binned information where it is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.information_plane import hidden_layers, information, patterns


def test_a_layer_that_tells_all_inputs_apart_and_one_that_tells_none() -> None:
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 1, 0])
    apart = torch.linspace(-0.95, 0.95, 8)[:, None]
    assert information(apart, labels, -1, 1) == pytest.approx((3, 1))
    same = torch.zeros(8, 2)
    assert information(same, labels, -1, 1) == pytest.approx((0, 0))
    # A unit that only knows the label has one bit of both.
    assert information(labels[:, None].float(), labels, 0, 1) == pytest.approx((1, 1))
    # Saturated units fall into the two outer bins: compression by saturation.
    assert information(torch.tanh(100 * apart), labels, -1, 1)[0] == pytest.approx(1)


def test_the_hidden_layers_are_those_of_the_forward_pass() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2))
    inputs = torch.randn(5, 3)
    first, second = hidden_layers(network, inputs)
    assert torch.allclose(first, network[:2](inputs))
    assert torch.allclose(second, network[:4](inputs))
    assert not any(module._forward_hooks for module in network.modules())


def test_the_patterns_are_all_inputs_once_split_in_half_by_their_labels() -> None:
    train, test = patterns(Bench("tests"), 0)
    inputs, labels = (torch.cat([getattr(train, part), getattr(test, part)]) for part in ("inputs", "labels"))
    assert len(torch.unique(inputs, dim=0)) == len(inputs) == 4096
    assert float(labels.double().mean()) == pytest.approx(0.5, abs=0.01)
    assert len(train) == 3481
