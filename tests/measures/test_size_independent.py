"""Size-independent bounds by hand, and above the Rademacher complexity that gradient ascent finds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from gapbench.datasets.spec import Split
from gapbench.measures import quantities, size_independent
from gapbench.measures.layers import Layer
from gapbench.measures.registry import Undefined

GAMMA = 6.0
INPUTS = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
TRAIN = Split(INPUTS, torch.tensor([0, 1, 0]), 2)


def layers_of(*matrices: list[list[float]]) -> tuple[Layer, ...]:
    weights = [torch.tensor(matrix, dtype=torch.float64) for matrix in matrices]
    return tuple(Layer(str(k), w, w, None, None, (w.shape[1],), (w.shape[0],)) for k, w in enumerate(weights))


LAYERS = layers_of([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, -1.0]])
FROBENIUS = quantities.frobenius_norms(LAYERS)
SPECTRAL = quantities.spectral_norms(quantities.singular_values(LAYERS))


def test_root_depth_by_hand() -> None:
    """Σ‖x‖² = 25 + 1 + 4, Π‖W‖_F = 5√10; columns' Σx² are 10 and 20, Π‖W‖_{1,∞} = 4·3."""
    found = math.exp(size_independent.log_golowich_frobenius(FROBENIUS, GAMMA, TRAIN))
    assert found == pytest.approx((math.sqrt(4 * math.log(2)) + 1) * math.sqrt(30) / 3 * 5 * math.sqrt(10) / 6)
    assert size_independent.log_golowich_frobenius_operator(FROBENIUS, GAMMA, TRAIN) == pytest.approx(math.log(found))
    l1_inf = math.exp(size_independent.log_golowich_l1_inf(LAYERS, GAMMA, TRAIN))
    assert l1_inf == pytest.approx(2 / 3 * math.sqrt(3 + math.log(2)) * math.sqrt(20) * 12 / 6)


def test_depth_independent_takes_the_lesser_of_its_two_rates() -> None:
    """Of 10^6 examples: the root of the depth for 2 layers, and for 10^5 layers the rate of the stable ranks."""
    examples = 10**6
    many = Split(torch.full((examples, 1), 5.0), torch.zeros(examples, dtype=torch.long), 2)
    few_layers = size_independent.log_golowich_depth_independent(FROBENIUS, SPECTRAL, GAMMA, many)
    assert math.exp(few_layers) == pytest.approx(5 / 6 * 5 * math.sqrt(10) * math.sqrt(2 / examples))
    ones = torch.ones(10**5, dtype=torch.float64)
    rate = math.log(examples) ** 0.75 / examples**0.25
    for log_ratio in (0.0, 0.5, 1.0, 1.9):  # L(·) is 1 up to a ratio of e; from 1.95 on the root of the depth is less
        frobenius = ones.clone()
        frobenius[0] = math.exp(log_ratio)
        found = size_independent.log_golowich_depth_independent_operator(frobenius, ones, 1.0, many)
        expected = log_ratio + math.log(5 * rate * math.sqrt(max(1.0, log_ratio)))
        assert found == pytest.approx(expected, abs=1e-9), log_ratio
    frobenius[0] = math.exp(2.5)
    found = size_independent.log_golowich_depth_independent_operator(frobenius, ones, 1.0, many)
    assert found == pytest.approx(2.5 + math.log(5 * math.sqrt(0.1)), abs=1e-9)


def test_fat_shattering_by_hand() -> None:
    """A = 4, d = 2, n = 2: ½·8^6·6^{−4}·log2 6; balancing the layers lowers A though the product stays."""
    found = math.exp(size_independent.log_bartlett1998_l1(LAYERS, GAMMA, TRAIN))
    assert found == pytest.approx(0.5 * 8**6 / 6**4 * math.log2(6))
    balanced = layers_of([[3.0, 0.0], [0.0, 3.0]], [[4 / 3, 8 / 3], [8 / 3, -4 / 3]])
    assert size_independent.log_golowich_l1_inf(balanced, GAMMA, TRAIN) == pytest.approx(
        size_independent.log_golowich_l1_inf(LAYERS, GAMMA, TRAIN)
    )
    assert size_independent.log_bartlett1998_l1(balanced, GAMMA, TRAIN) == pytest.approx(math.log(found))
    assert size_independent.log_bartlett1998_l1(layers_of([[3.5]], [[3.5]]), GAMMA, TRAIN) < math.log(found)


def ascended(inputs: torch.Tensor, norm_of: Callable[[torch.Tensor], torch.Tensor], draws: int = 6) -> float:
    """A lower estimate of the mean over signs ε of sup (1/m) Σ ε_i f(x_i) over two ReLU layers of unit norm."""
    found = []
    for _ in range(draws):
        signs = torch.randint(2, (len(inputs),)).double() * 2 - 1
        first, second = torch.randn(8, 3).double().requires_grad_(), torch.randn(1, 8).double().requires_grad_()
        optimiser, best = torch.optim.Adam([first, second], lr=0.1), 0.0
        for _ in range(80):
            outputs = torch.relu(inputs @ (first / norm_of(first)).T) @ (second / norm_of(second)).T
            value = (signs @ outputs.squeeze(1)) / len(inputs)
            best = max(best, float(value.detach()))
            optimiser.zero_grad()
            (-value).backward()
            optimiser.step()
        found.append(best)
    return sum(found) / draws


def test_the_theorems_bound_the_rademacher_complexity_that_ascent_finds() -> None:
    """Positive control: a tenth of either bound is below what ascent finds."""
    torch.manual_seed(0)
    inputs = torch.randn(12, 3, dtype=torch.float64)
    train = Split(inputs, torch.zeros(12, dtype=torch.long), 2)
    ones = torch.ones(2, dtype=torch.float64)
    frobenius = math.exp(size_independent.log_golowich_frobenius(ones, 1.0, train))
    assert frobenius / 10 < ascended(inputs, torch.linalg.vector_norm) < frobenius
    l1_inf = math.exp(size_independent.log_golowich_l1_inf(layers_of([[1.0]], [[1.0]]), 1.0, train))
    assert l1_inf / 10 < ascended(inputs, lambda weight: weight.abs().sum(dim=1).max()) < l1_inf


def test_inputs_of_zeros_are_undefined() -> None:
    silent = Split(torch.zeros(3, 2), TRAIN.labels, 2)
    for compute in (
        lambda: size_independent.log_golowich_frobenius(FROBENIUS, GAMMA, silent),
        lambda: size_independent.log_golowich_l1_inf(LAYERS, GAMMA, silent),
        lambda: size_independent.log_golowich_depth_independent(FROBENIUS, SPECTRAL, GAMMA, silent),
    ):
        with pytest.raises(Undefined, match="inputs are all zero"):
            compute()
