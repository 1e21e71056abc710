"""Entropies against counts by hand, the information plane against a loop, the Fisher matrix against a dense one."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from gapbench.datasets.spec import Split
from gapbench.measures import information
from gapbench.measures.features import features
from gapbench.measures.outputs import outputs_of
from gapbench.measures.registry import Undefined
from gapbench.measures.tangent import tangent_kernel


def hidden_of(network: nn.Module, train: Split) -> torch.Tensor:
    """`last_hidden` from the network itself."""
    return information.last_hidden(features(outputs_of(network, train)), network, train)


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False, dtype=torch.float64)
    layer.weight.data = torch.tensor(rows, dtype=torch.float64)
    return layer


def entropy(items: list[object]) -> float:
    counts = Counter(items).values()
    return -sum(count / len(items) * math.log2(count / len(items)) for count in counts)


def test_weight_entropy_by_hand() -> None:
    """Four bins of [−2, 2]: 2 weights in the first, 1 in the third, 1 in the last: 1.5 bits; a constant layer has 0."""
    first = linear([[-2.0, -1.5], [0.5, 2.0]])
    assert information.weight_entropy(first, bins=4) == pytest.approx(1.5, rel=1e-12)
    assert information.weight_entropy(nn.Sequential(first, linear([[3.0, 3.0]])), bins=4) == pytest.approx(1.0)
    assert information.weight_entropy(linear([[-4.0, -3.0], [1.0, 4.0]]), bins=4) == pytest.approx(1.5), "scale-free"
    assert information.weight_entropy(linear([[-2.0, -0.5], [0.5, 2.0]]), bins=4) == pytest.approx(2.0), "control"
    assert information.weight_entropy(linear([[0.0, 0.0]])) == 0


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()


def sample(examples: int = 40) -> Split:
    generator = torch.Generator().manual_seed(1)
    return Split(torch.randn(examples, 5, generator=generator), torch.randint(3, (examples,), generator=generator), 3)


@pytest.mark.parametrize("bins", [2, 5, 30])
def test_information_plane_against_a_loop(bins: int) -> None:
    net, train = network(), sample()
    activations = net[:4](train.inputs.double()).detach()
    least, largest = float(activations.min()), float(activations.max())
    rows = [
        tuple(min(int((value - least) / (largest - least) * bins), bins - 1) for value in row)
        for row in activations.tolist()
    ]
    labels = train.labels.tolist()
    hidden = hidden_of(net, train)
    expected = entropy(rows)
    assert expected > 0
    assert information.information_plane_input(hidden, bins=bins) == pytest.approx(expected, rel=1e-12)
    mutual = entropy(rows) + entropy(labels) - entropy(list(zip(rows, labels)))
    assert information.information_plane_label(hidden, train, bins=bins) == pytest.approx(mutual, abs=1e-12)


def test_information_plane_of_a_layer_that_tells_the_label_and_no_more() -> None:
    labels = torch.tensor([0, 1] * 8)
    train = Split(torch.randn(16, 2), labels, 2)
    told = nn.functional.one_hot(labels, 2).double()
    assert information.information_plane_input(told) == 1.0
    assert information.information_plane_label(told, train) == 1.0
    silent = torch.tensor([0.0, 0.0, 1.0, 1.0] * 4, dtype=torch.float64)[:, None]
    assert information.information_plane_input(silent) == 1.0
    assert information.information_plane_label(silent, train) == pytest.approx(0, abs=1e-12)


def test_the_information_plane_saturates_where_each_example_has_its_own_cell() -> None:
    train = Split(torch.randn(32, 2), torch.randint(2, (32,), generator=torch.Generator().manual_seed(3)), 2)
    wide = torch.rand(32, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert information.information_plane_input(wide) == pytest.approx(5)
    label_entropy = entropy(train.labels.tolist())
    assert information.information_plane_label(wide, train) == pytest.approx(label_entropy)


def test_no_hidden_layer_and_a_constant_one_are_undefined() -> None:
    train = sample()
    with pytest.raises(Undefined, match="no hidden layer"):
        hidden_of(nn.Sequential(nn.Linear(5, 3)).double(), train)
    dead = network()
    dead[2].weight.data.zero_()
    dead[2].bias.data.fill_(-1.0)
    with pytest.raises(Undefined, match="constant"):
        hidden_of(dead, train)


def test_a_last_layer_that_is_used_twice_is_undefined() -> None:
    shared = nn.Linear(5, 5)
    with pytest.raises(Undefined, match="more than once"):
        hidden_of(nn.Sequential(shared, nn.ReLU(), shared).double(), sample())


def test_only_weights_count_as_weights() -> None:
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.LayerNorm(4), nn.MultiheadAttention(4, 2))
    shapes = {name: tuple(tensor.shape) for name, tensor in information.weight_tensors(block).items()}
    assert shapes == {"0.weight": (3, 2, 3, 3), "2.in_proj_weight": (12, 4), "2.out_proj.weight": (4, 4)}


def test_the_hidden_layer_leaves_no_hook_behind() -> None:
    net = network()
    hidden_of(net, sample())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_fisher_information_against_the_dense_fisher_matrix() -> None:
    net, train = network(), sample(12)
    inputs = train.inputs.double()
    parameters = {name: tensor.detach() for name, tensor in net.named_parameters()}
    jacobians = jacrev(lambda p: functional_call(net, p, inputs))(parameters)
    jacobian = torch.cat([part.flatten(2) for part in jacobians.values()], dim=2)
    logits = net(inputs).detach()
    fisher = torch.zeros(jacobian.shape[2], jacobian.shape[2], dtype=torch.float64)
    for rows, p in zip(jacobian, torch.softmax(logits, dim=1)):
        for c in range(3):  # the definition: gradients of ln p_c under the model's own labels
            gradient = rows[c] - p @ rows
            fisher += p[c] * torch.outer(gradient, gradient) / len(inputs)
    initial = torch.full((len(fisher),), 0.5, dtype=torch.float64)
    expected = float(torch.logdet(torch.eye(len(fisher), dtype=torch.float64) + 12 * 0.25 * fisher)) / 2
    gram = tangent_kernel(net, inputs)
    found = information.fisher_information_in_weights(gram, logits, initial, train)
    assert found == pytest.approx(expected, rel=1e-9)
    assert information.fisher_information_in_weights(gram, 3 * logits, initial, train) != pytest.approx(expected, 1e-3)
    with pytest.raises(Undefined, match="all zero"):
        information.fisher_information_in_weights(gram, logits, torch.zeros_like(initial), train)


def test_fisher_information_vanishes_with_certainty() -> None:
    """At logits of infinite contrast the Fisher matrix is zero, and the weights may be as noisy as the prior."""
    net, train = network(), sample(12)
    gram = tangent_kernel(net, train.inputs.double())
    certain: Tensor = 1e4 * nn.functional.one_hot(train.labels, 3).double()
    initial = torch.ones(5, dtype=torch.float64)
    assert information.fisher_information_in_weights(gram, certain, initial, train) == pytest.approx(0, abs=1e-12)
