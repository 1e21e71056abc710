"""Path norms and Fisher–Rao: hand values, sums over paths, and rescaling with its positive control."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures import path
from gapbench.measures.layers import weight_layers
from gapbench.measures.outputs import outputs_of
from gapbench.measures.registry import Undefined

MATRICES = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, -1.0]])
RESCALED = ([[30.0, 0.0], [0.0, 4.0]], [[0.1, 2.0], [0.2, -1.0]])


def network(matrices: tuple[list[list[float]], ...] = MATRICES) -> nn.Sequential:
    layers = [nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in matrices]
    for layer, matrix in zip(layers, matrices, strict=True):
        layer.weight.data = torch.tensor(matrix, dtype=torch.float64)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def split(inputs: torch.Tensor, *labels: int) -> Split:
    return Split(inputs, torch.tensor(labels or [0] * len(inputs)), 2)


def test_path_norm_hand_values() -> None:
    train = split(torch.ones(1, 2))
    squared = path.path_sum_of_squares(network(), train)
    assert squared == pytest.approx(125, rel=1e-9)
    assert path.path_norm(squared) == pytest.approx(11.1803398875, rel=1e-9)
    assert path.path_norm_over_margin(squared, 6.0) == pytest.approx(3.4722222222, rel=1e-9)
    assert path.path_norm_l1(network(), train) == pytest.approx(21, rel=1e-9)


def test_rescaling_leaves_the_path_norms_alone() -> None:
    train = split(torch.ones(1, 2))
    moved = network(RESCALED)
    assert path.path_sum_of_squares(moved, train) == pytest.approx(125, rel=1e-12)
    assert path.path_norm_l1(moved, train) == pytest.approx(21, rel=1e-12)
    squares = sum(float(parameter.detach().square().sum()) for parameter in moved.parameters())
    assert squares == pytest.approx(921.05, rel=1e-9)  # positive control: the parameter norm was 35


def test_path_norm_is_the_sum_over_paths_biases_included() -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    before = copy.deepcopy(mlp.state_dict())
    first, second = mlp[0], mlp[2]
    squares = absolute = 0.0
    for hidden, out in itertools.product(range(4), range(2)):
        for into in (*first.weight[hidden], first.bias[hidden]):
            weight = float((into * second.weight[out, hidden]).detach())
            squares += weight**2
            absolute += abs(weight)
    squares += float(second.bias.detach().square().sum())
    absolute += float(second.bias.detach().abs().sum())
    train = split(torch.ones(1, 3))
    assert path.path_sum_of_squares(mlp, train) == pytest.approx(squares, rel=1e-12)
    assert path.path_norm_l1(mlp, train) == pytest.approx(absolute, rel=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in mlp.state_dict().items())


def test_path_norm_names_the_activation_it_cannot_take() -> None:
    with pytest.raises(Undefined, match="Tanh"):
        path.path_sum_of_squares(nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double(), split(torch.ones(1, 2)))


def test_fisher_rao_hand_value() -> None:
    train = split(torch.tensor([[1.0, 0.0]]), 1)
    net = network()
    logits = outputs_of(net, train).logits
    found = path.fisher_rao(logits, train, weight_layers(net, net, train.inputs[:1]))
    assert float(torch.softmax(logits, dim=1)[0, 1]) == pytest.approx(0.9525741268, rel=1e-9)
    assert found == pytest.approx(0.08097168408, rel=1e-9)
    assert found * (3 / 2) ** 2 != pytest.approx(found)  # (d+1)² with d = 2 weight layers is another number
    loss = cross_entropy(net(train.inputs.double()), train.labels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    inner = sum(float((p * g).sum().detach()) for p, g in zip(net.parameters(), gradients, strict=True))
    assert inner == pytest.approx(-0.2845552391, rel=1e-9)
    assert found == pytest.approx(inner**2, rel=1e-9)


def test_fisher_rao_is_a_mean_over_examples_and_invariant_under_rescaling() -> None:
    inputs = torch.tensor([[1.0, 0.2], [0.3, 1.0], [0.5, 0.5]])
    train = split(inputs, 1, 0, 1)
    values = []
    for net in (network(), network(RESCALED)):
        layers = weight_layers(net, net, inputs[:1])
        values.append(path.fisher_rao(outputs_of(net, train).logits, train, layers))
    single = [
        path.fisher_rao(outputs_of(network(), one).logits, one, layers)
        for one in (split(inputs[i : i + 1], int(train.labels[i])) for i in range(3))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert values[0] == pytest.approx(sum(single) / 3, rel=1e-12)
    assert not math.isclose(single[0], single[1], rel_tol=1e-3)
