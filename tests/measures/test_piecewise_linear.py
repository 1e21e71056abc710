"""What the graph says of a network's function, in whatever way its forward pass is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gapbench.datasets.spec import Split
from gapbench.measures import path, spectral
from gapbench.measures.piecewise_linear import nonlinear_operation, operation_off_paths
from gapbench.measures.registry import Undefined


class Between(nn.Module):
    """Two layers, any function between them, and a scale and a shift that are parameters."""

    def __init__(self, function: Callable[[Between, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scale, self.shift = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.function = function
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.function(self, self.first(x)))
        return out


X = torch.ones(1, 3, dtype=torch.float64)

CASES: list[tuple[Callable[[Between, Tensor], Tensor], bool, bool]] = [
    (lambda net, x: functional.relu(x), True, True),
    (lambda net, x: functional.relu(x) + x, True, True),
    (lambda net, x: functional.relu(x * net.scale + net.shift), True, True),
    (lambda net, x: torch.stack([x, functional.relu(x)]).mean(dim=0), True, True),
    (lambda net, x: functional.relu(x).flip(1).reshape(2, 2).reshape(1, 4), True, True),
    (lambda net, x: functional.relu(x) - x, True, False),  # a difference is no sum of squares
    (lambda net, x: functional.relu(0.5 * x), True, False),  # a constant would not be squared
    (lambda net, x: functional.relu(x + 1), True, False),
    (lambda net, x: torch.add(x, x, alpha=2), True, False),
    (lambda net, x: functional.relu(x * net.scale.exp()), True, False),  # not the parameter itself
    (lambda net, x: functional.leaky_relu(x), True, False),
    (lambda net, x: functional.hardtanh(x), True, False),
    (lambda net, x: x / 2, True, False),
    (lambda net, x: functional.tanh(x), False, False),
    (lambda net, x: x * (x > 0), False, False),  # a switch that no operation shows
    (lambda net, x: 0.5 * x, True, False),
    (lambda net, x: functional.relu(x) * x, False, False),
    (lambda net, x: x.softmax(dim=1) + x, False, False),
    (lambda net, x: functional.layer_norm(x, (4,)), False, False),
    (lambda net, x: 1 / x, False, False),
    (lambda net, x: (x.T @ x).mean(dim=0, keepdim=True), False, False),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_functions_in_forward_are_seen(case: int) -> None:
    function, linear_in_pieces, sums_over_paths = CASES[case]
    network = Between(function)
    assert (nonlinear_operation(network, X) is None) == linear_in_pieces
    assert (operation_off_paths(network, X, maxima=True) is None) == sums_over_paths
    train = Split(torch.ones(2, 3), torch.tensor([0, 1]), 2)
    if not sums_over_paths:
        with pytest.raises(Undefined, match="path norms need"):
            path.path_norm_l1(network, train)
        with pytest.raises(Undefined, match="no bound on the slope"):
            spectral.lipschitz_upper(network, train)


def test_path_norms_and_lipschitz_bound_of_a_residual_network_with_functional_relu() -> None:
    network = Between(lambda net, x: functional.relu(x * net.scale + net.shift) + x)
    train = Split(torch.ones(2, 3), torch.tensor([0, 1]), 2)
    with torch.no_grad():
        first, last = network.first.weight, network.last.weight
        scale = network.scale
        for power, found in ((2, path.path_sum_of_squares(network, train)), (1, path.path_norm_l1(network, train))):
            of = lambda tensor, power=power: tensor.abs() ** power  # noqa: E731
            into = of(first).sum(dim=1) + of(network.first.bias)
            hidden = into * of(scale) + of(network.shift) + into
            total = (of(last) @ hidden + of(network.last.bias)).sum()
            assert found == pytest.approx(float(total), rel=1e-12)
        matrix = last.abs() @ torch.diag(scale.abs() + 1) @ first.abs()
    bound = spectral.lipschitz_upper(network, train)
    assert bound.value == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-6)
    slopes = torch.autograd.functional.jacobian(network, X)[0, :, 0]
    assert float(torch.linalg.matrix_norm(slopes, 2)) <= bound.value


def test_maxima_are_on_paths_but_not_in_the_absolute_map() -> None:
    pooled = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)).double()
    image = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert operation_off_paths(pooled, image, maxima=True) is None
    assert operation_off_paths(pooled, image, maxima=False) == "MaxPool2DWithIndices"
    assert nonlinear_operation(pooled, image) is None
