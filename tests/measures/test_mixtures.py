"""Mixtures within classes: every pair by hand, linear networks, and a cut that is none."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.draws import draws_each, over_draws
from gapbench.measures.margins import mixup_margin
from gapbench.measures.mixtures import manifold_mixup_margins, mixup_margins, partners
from gapbench.measures.registry import Undefined
from gapbench.models.margins import label_margins


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.fixture
def train() -> Split:
    return Split(3 * torch.randn(16, 3, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2, 2)


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_partners_are_a_cycle_through_each_class() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    partner = partners(labels, rng())
    assert sorted(partner.tolist()) == list(range(7))
    assert torch.equal(labels[partner], labels)
    assert (partner == torch.arange(7)).tolist() == [True] + [False] * 6
    with pytest.raises(Undefined, match="share a label"):
        partners(torch.tensor([0, 1]), rng())


def test_mixup_margins_of_a_linear_network_average_out(train: Split) -> None:
    """Half-way points have the mean of the two margins; over a cycle of partners this is the mean margin."""
    linear = nn.Linear(3, 2)
    expected = float(label_margins(linear(train.inputs).detach(), train.labels).mean())
    found = mixup_margins(linear, train, rng())
    assert found.shape == (draws_each(16), 16)
    assert found.mean(dim=1).tolist() == pytest.approx([expected] * len(found), abs=1e-5)


def test_mixtures_see_what_lies_between() -> None:
    """f = (|x|, 1): at −2 and 2 the margin is 1, half-way it is −1; half-way between hidden units it is 1."""
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    network[0].weight.data = torch.tensor([[1.0], [-1.0]])
    network[2].weight.data = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    network[2].bias.data = torch.tensor([0.0, 1.0])
    train = Split(torch.tensor([[-2.0], [2.0], [7.0]]), torch.tensor([0, 0, 1]), 2)
    assert mixup_margin(mixup_margins(network, train, rng())).value == pytest.approx(-1)
    assert mixup_margin(manifold_mixup_margins(network, train, rng())).value == pytest.approx(1)


@pytest.mark.parametrize("hidden", [False, True])
def test_draws_agree_with_every_pair(network: nn.Sequential, train: Split, hidden: bool) -> None:
    cut = 2 if hidden else 0
    points, rest = network[:cut](train.inputs), network[cut:]
    pairs = [(i, k) for i, k in itertools.permutations(range(16), 2) if train.labels[i] == train.labels[k]]
    first, second = (torch.tensor(column) for column in zip(*pairs))
    every = label_margins(rest((points[first] + points[second]) / 2), train.labels[first])
    margins_of = manifold_mixup_margins if hidden else mixup_margins
    drawn = [over_draws((margins_of(network, train, rng(seed)) > 0).double()) for seed in range(10)]
    expected = float((every > 0).double().mean())
    assert 0.1 < expected < 0.9
    values = torch.tensor([one.value for one in drawn])
    errors = torch.tensor([one.standard_error for one in drawn])
    assert abs(float(values.mean()) - expected) < float(errors.mean())
    assert float(values.std()) < 2 * float(errors.mean())
    assert float(values.std()) > float(errors.mean()) / 5  # nor does the error promise nothing
    ends = label_margins(network(train.inputs), train.labels) > 0
    assert abs(float(ends.double().mean()) - expected) > float(errors.mean())


class Skipping(nn.Module):
    """A residual connection around the second weight layer."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first(inputs))
        outputs: Tensor = self.third(self.scale * hidden + self.second(hidden))
        return outputs


def test_a_connection_around_the_mixed_layer_is_noticed(train: Split) -> None:
    torch.manual_seed(0)
    with pytest.raises(Undefined, match="goes around it"):
        manifold_mixup_margins(Skipping(1.0), train, rng())
    assert manifold_mixup_margins(Skipping(0.0), train, rng()).shape == (draws_each(16), 16)
    with pytest.raises(Undefined, match="no second weight layer"):
        manifold_mixup_margins(nn.Linear(3, 2), train, rng())


def test_the_network_keeps_no_hook(network: nn.Sequential, train: Split) -> None:
    before = network(train.inputs)
    manifold_mixup_margins(network, train, rng())
    assert torch.equal(network(train.inputs), before)
