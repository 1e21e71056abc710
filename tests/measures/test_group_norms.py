"""Group norms, Schatten norms and capacities on the two-layer network whose values can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import group_norms, quantities
from gapbench.measures.layers import Layer, fold_batch_norm, weight_layers
from gapbench.measures.path import path_sum_of_squares
from gapbench.measures.registry import Undefined

GAMMA = 6.0
TRAIN = Split(torch.ones(2, 2), torch.tensor([0, 1]), 2)


def network(first: list[list[float]], second: list[list[float]]) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    net[0].weight.data, net[2].weight.data = (torch.tensor(rows, dtype=torch.float64) for rows in (first, second))
    return net


HAND = network([[3.0, 0.0], [0.0, -4.0]], [[1.0, 2.0], [2.0, -1.0]])


def layers_of(net: nn.Module, example: Tensor) -> tuple[Layer, ...]:
    return weight_layers(net, net, example)


def values(net: nn.Module) -> dict[str, float]:
    layers = layers_of(net, TRAIN.inputs[:1])
    singular = quantities.singular_values(layers)
    return {
        "l1_inf": math.exp(group_norms.log_prod_l1_inf_over_margin(layers, GAMMA)),
        "l3_l15": math.exp(group_norms.log_prod_l3_l15_over_margin(layers, GAMMA)),
        "trace": math.exp(group_norms.log_prod_schatten_over_margin(singular, GAMMA)),
        "schatten": math.exp(group_norms.log_prod_schatten_over_margin(singular, GAMMA, p=1.5)),
        "l2": math.exp(group_norms.log_l2_capacity(quantities.frobenius_norms(layers), GAMMA)),
        "l1_path": math.exp(group_norms.log_l1_path_capacity(net, layers, GAMMA, TRAIN)),
        "l2_path": math.exp(group_norms.log_l2_path_capacity(path_sum_of_squares(net, TRAIN), layers, GAMMA)),
        "spectral": math.exp(group_norms.log_spectral_capacity(quantities.spectral_norms(singular), layers, GAMMA)),
    }


def test_hand_values() -> None:
    """Singular values 3, 4 and √5, √5; paths |W2||W1|1 = 11 + 10; squares 73 + 52."""
    found = values(HAND)
    first = 3**1.5 + 4**1.5
    expected = {
        "l1_inf": 4 * 3 / 6,
        "l3_l15": (first * 2 * 9**0.5) ** (2 / 3) / 6,
        "trace": 7 * 2 * math.sqrt(5) / 6,
        "schatten": (first * 2 * 5**0.75) ** (2 / 3) / 6,
        "l2": 4 * 25 * 4 * 10 / 36,
        "l1_path": (2 * 2 * 21) ** 2 / 36,
        "l2_path": (4 * 2) * (4 * 2) * 125 / 36,
        "spectral": (2 * 16) * (2 * 5) / 36,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_schatten_norms_agree_with_the_norms_they_generalise() -> None:
    layers = layers_of(HAND, TRAIN.inputs[:1])
    singular = quantities.singular_values(layers)
    frobenius = float(quantities.frobenius_norms(layers).log().sum())
    assert group_norms.log_prod_schatten_over_margin(singular, 1.0, p=2.0) == pytest.approx(frobenius)
    spectral = float(quantities.spectral_norms(singular).log().sum())
    assert group_norms.log_prod_schatten_over_margin(singular, 1.0, p=math.inf) == pytest.approx(spectral)
    assert group_norms.log_prod_schatten_over_margin(singular, 1.0) > frobenius > spectral


def test_units_are_rows() -> None:
    """One row 3, 4: by columns the L_{1,∞} norm would be 4 and the L_{2,1} norm 7."""
    row = layers_of(nn.Sequential(nn.Linear(2, 1, bias=False)), TRAIN.inputs[:1])
    row[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    assert float(group_norms.group_norms(row, 1, math.inf)) == 7
    assert float(group_norms.group_norms(row, 2, 1)) == 5


def test_rescaling_leaves_the_path_capacities_alone_and_no_other() -> None:
    scaled = network([[30.0, 0.0], [0.0, -4.0]], [[0.1, 2.0], [0.2, -1.0]])
    before, after = values(HAND), values(scaled)
    for name, value in before.items():
        assert (after[name] == pytest.approx(value, rel=1e-9)) == name.endswith("path"), name


def test_l1_inf_of_a_convolution_is_that_of_the_linear_map() -> None:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False)).double()
    (layer,) = layers_of(fold_batch_norm(convolution, torch.ones(1, 2, 5, 5)), torch.ones(1, 2, 5, 5).double())
    units = torch.eye(50, dtype=torch.float64).view(50, 2, 5, 5)
    dense = convolution(units).detach().flatten(1).T
    assert float(group_norms.group_norms((layer,), 1, math.inf)) == pytest.approx(
        float(torch.linalg.matrix_norm(dense, ord=math.inf)), rel=1e-12
    )


def test_a_network_without_paths_is_undefined() -> None:
    cut = network([[1.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]])
    layers = layers_of(cut, TRAIN.inputs[:1])
    for compute in (
        lambda: group_norms.log_l1_path_capacity(cut, layers, 1.0, TRAIN),
        lambda: group_norms.log_l2_path_capacity(path_sum_of_squares(cut, TRAIN), layers, 1.0),
    ):
        with pytest.raises(Undefined, match="no path"):
            compute()
