"""The gradient written out is autograd's, and only plain perceptrons have it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import DataSpec
from gapbench.models.build import build
from gapbench.models.chain import chain
from gapbench.models.flat import flatten
from gapbench.models.spec import RunSpec

MLP = RunSpec(DataSpec("digits", 64), "mlp", width=7, depth=2, learning_rate=0.1, batch_size=16)
LINEAR = dataclasses.replace(MLP, architecture="linear", width=1, depth=0)


def network(spec: RunSpec) -> nn.Module:
    return build(spec, (1, 8, 8), 10, torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("spec", [MLP, dataclasses.replace(MLP, depth=1), dataclasses.replace(MLP, depth=4), LINEAR])
def test_the_gradient_is_that_of_autograd_and_is_added(spec: RunSpec) -> None:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(9, 1, 8, 8, generator=draw, dtype=torch.float64)
    labels = torch.randint(10, (9,), generator=draw)
    mine, theirs = network(spec), network(spec)
    values, gradients = flatten(mine)
    # Biases that are zero, as at the start, would hide that they are left out.
    values.add_(0.1 * torch.randn(len(values), generator=draw, dtype=torch.float64))
    theirs.load_state_dict(mine.state_dict())
    gradients.fill_(0.25)
    by_hand = chain(mine, "cross_entropy")
    assert by_hand is not None
    by_hand.add_gradient(inputs, labels)
    cross_entropy(theirs(inputs), labels).backward()
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad + 0.25, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "change", [{"activation": "tanh"}, {"dropout": 0.1}, {"norm": "layer"}, {"architecture": "cnn"}]
)
def test_other_networks_have_no_chain(change: dict[str, object]) -> None:
    other = network(dataclasses.replace(MLP, **change))  # type: ignore[arg-type]
    flatten(other)
    assert chain(other, "cross_entropy") is None


def test_other_losses_and_frozen_networks_have_no_chain() -> None:
    mine = network(MLP)
    assert chain(mine, "cross_entropy") is None
    flatten(mine)
    assert chain(mine, "squared") is None
    assert chain(mine, "cross_entropy") is not None


class _Doubled(nn.Sequential):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


class _Rounded(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs).round()


@pytest.mark.parametrize(
    "other",
    [
        _Doubled(nn.Flatten(), nn.Linear(64, 10)),
        nn.Sequential(nn.Flatten(), _Rounded(64, 10)),
        nn.Sequential(nn.Linear(64, 10)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10)),
        nn.Sequential(nn.Flatten()),
        nn.Linear(64, 10),
    ],
)
def test_networks_of_ones_own_have_a_chain_only_where_they_are_one(other: nn.Module) -> None:
    for parameter in other.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert chain(other, "cross_entropy") is None


def test_a_sequence_of_ones_own_has_a_chain() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 10))
    flatten(own)
    assert chain(own, "cross_entropy") is not None
