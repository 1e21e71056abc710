"""Capacity counts: hand values, and linear regions against a loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from gapbench.datasets.spec import Split
from gapbench.measures import capacity
from gapbench.measures.layers import Layer, weight_layers
from gapbench.measures.registry import Undefined
from gapbench.models.trained import History, Trained

MATRICES = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, -1.0]])


def network() -> nn.Sequential:
    layers = [nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in MATRICES]
    for layer, matrix in zip(layers, MATRICES, strict=True):
        layer.weight.data = torch.tensor(matrix, dtype=torch.float64)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@pytest.fixture
def layers() -> tuple[Layer, ...]:
    return weight_layers(network(), network(), torch.ones(1, 2))


def split(count: int, *shape: int) -> Split:
    return Split(torch.zeros(1, *shape).expand(count, *shape), torch.zeros(1, dtype=torch.long).expand(count), 2)


def test_num_params() -> None:
    assert capacity.num_params(network()) == 8
    with_norm = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert capacity.num_params(with_norm) == 3 * 4 + 4 + 2 * 4 + 4 * 2 + 2
    with_norm[0].weight.requires_grad_(False)
    assert capacity.num_params(with_norm) == 4 + 2 * 4 + 4 * 2 + 2
    assert capacity.parameters_per_sample(network(), split(20, 2)) == pytest.approx(0.4)


def test_vc_hand_values(layers: tuple[Layer, ...]) -> None:
    assert capacity.vc_bartlett2019(layers) == pytest.approx(117.4310599, rel=1e-9)
    assert capacity.vc_pgdl(layers) == pytest.approx(344.9011661, rel=1e-9)


def test_vc_jiang_of_two_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).double()
    layers = weight_layers(network, network, torch.ones(1, 3, 32, 32))
    assert capacity.vc_jiang(layers, split(50000, 3, 32, 32)) == pytest.approx(17908.54001, rel=1e-9)
    with_biases = 17908.54001 * math.sqrt(sum(layer.num_params for layer in layers) / 792)
    assert sum(layer.num_params for layer in layers) == 808
    assert with_biases != pytest.approx(17908.54001, rel=1e-3)  # positive control: the sum leaves biases out


def test_output_weight_vc(layers: tuple[Layer, ...]) -> None:
    assert capacity.output_weight_vc(layers) == 3  # ‖W_2‖² = 10 exceeds the two inputs
    small = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    small[0].weight.data = torch.tensor([[0.6, 0.8]]).double()
    found = capacity.output_weight_vc(weight_layers(small, small, torch.ones(1, 2)))
    assert found == pytest.approx(2, rel=1e-6)


def test_vc_gap_bound(layers: tuple[Layer, ...]) -> None:
    train = Split(torch.zeros(100, 2), torch.zeros(100, dtype=torch.long), 2)
    right, wrong = torch.tensor([1.0, 0.0]).repeat(100, 1), torch.tensor([0.0, 1.0]).repeat(100, 1)
    epsilon = (3 * (math.log(100 / 3) + 1) - math.log(0.0125)) / 100
    assert capacity.vc_gap_bound(layers, right, train) == pytest.approx(epsilon, rel=1e-12)
    expected = epsilon / 2 * (1 + math.sqrt(1 + 4 / epsilon))
    assert capacity.vc_gap_bound(layers, wrong, train) == pytest.approx(expected, rel=1e-12)


def test_vc_gap_bound_is_vacuous_where_the_dimension_exceeds_the_sample() -> None:
    wide = nn.Sequential(nn.Linear(50, 2)).double()
    wide[0].weight.data.fill_(1.0)
    layers = weight_layers(wide, wide, torch.ones(1, 50))
    train = Split(torch.zeros(10, 50), torch.zeros(10, dtype=torch.long), 2)
    assert capacity.vc_gap_bound(layers, torch.tensor([1.0, 0.0]).repeat(10, 1), train) > 1


def test_linear_regions_of_one_hidden_layer_by_hand() -> None:
    """Units switch at 0.25 and 0.75 of the segment from 0 to 1: three regions; two, when both switch at 0.25."""
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    network[0].weight.data = torch.tensor([[1.0], [1.0]])
    train = Split(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0]), 1)
    for offsets, regions in (([-0.25, -0.75], 3), ([-0.25, -0.25], 2), ([1.0, 1.0], 1)):
        network[0].bias.data = torch.tensor(offsets)
        assert capacity.linear_regions(network, train, points=100) == regions


def test_linear_regions_against_a_loop() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2))
    train = Split(torch.randn(5, 3) * 3, torch.zeros(5, dtype=torch.long), 2)
    counts = []
    for start, end in zip(train.inputs[:-1], train.inputs[1:], strict=True):
        patterns = []
        for place in range(64):
            hidden = network[0](start + (end - start) * place / 63)
            deeper = network[2](torch.relu(hidden))
            patterns.append(((hidden > 0).tolist(), (deeper > 0).tolist()))
        counts.append(1 + sum(a != b for a, b in itertools.pairwise(patterns)))
    assert capacity.linear_regions(network, train, points=64) == pytest.approx(sum(counts) / 4)
    assert max(counts) > 3


def test_linear_regions_need_relu_and_two_examples() -> None:
    tanh = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with pytest.raises(Undefined, match="Tanh has no linear regions"):
        capacity.linear_regions(tanh, split(4, 2))
    with pytest.raises(Undefined, match="no ReLU"):
        capacity.linear_regions(nn.Linear(2, 2), split(4, 2))
    with pytest.raises(Undefined, match="two training examples"):
        capacity.linear_regions(tanh, split(1, 2))


def curve(steps: list[float], errors: list[float]) -> History:
    columns = (torch.tensor(column, dtype=torch.float64) for column in (steps, errors))
    done, error = columns
    return History(done, torch.zeros_like(done), error)


def test_rademacher_of_random_labels() -> None:
    twin = Trained(network(), {}, split(4, 2), curve([0, 5, 10, 15], [0.5, 0.4, 0.25, 0.0]))
    run = curve([0, 6, 12], [0.5, 0.1, 0.0])
    assert capacity.rademacher_random_labels(run, twin, split(4, 2)) == 1
    assert capacity.rademacher_random_labels(run, twin, split(4, 2), same_steps=True) == pytest.approx(2 * 0.75 - 1)
    short = curve([0, 2], [0.5, 0.0])
    assert capacity.rademacher_random_labels(short, twin, split(4, 2), same_steps=True) == 0
    long = curve([0, 99], [0.5, 0.0])
    assert capacity.rademacher_random_labels(long, twin, split(4, 2), same_steps=True) == 1
    ten = Split(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 10)
    at_chance = Trained(network(), {}, ten, curve([0, 5], [0.9, 0.9]))
    assert capacity.rademacher_random_labels(run, at_chance, ten) == pytest.approx(0, abs=1e-15)
    with pytest.raises(Undefined, match="history of the random-label twin"):
        capacity.rademacher_random_labels(run, Trained(network(), {}, ten), ten)


class Units(nn.Module):
    """Two units with offsets, and any functional activation."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.units, self.activation = nn.Linear(1, 2), activation
        self.units.weight.data.fill_(1.0)
        self.units.bias.data = torch.tensor([-0.25, -0.75])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.units(x))


def test_linear_regions_of_functional_and_other_units() -> None:
    train = Split(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0]), 1)
    clipped = lambda x: functional.hardtanh(x, -0.5, 0.5)  # noqa: E731  second unit: bent at x = 0.25, first at 0.75
    leaky = lambda x: functional.leaky_relu(x, 0.1)  # noqa: E731
    for activation, regions in (
        (torch.relu, 3), (functional.relu6, 3), (leaky, 3), (clipped, 3), (lambda x: functional.relu_(2 * x), 3),
        (lambda x: functional.relu(x - 5), 1), (lambda x: functional.relu(x) + functional.relu(x - 0.1), 5),
    ):  # fmt: skip
        assert capacity.linear_regions(Units(activation), train, points=100) == regions
    for hidden in (torch.tanh, lambda x: x * x, lambda x: x.softmax(dim=1), lambda x: x / (1 + x.abs())):
        with pytest.raises(Undefined, match="no linear regions"):
            capacity.linear_regions(Units(hidden), train)
