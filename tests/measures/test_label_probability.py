from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gapbench.datasets.seeds import generator
from gapbench.measures.label_probability import arc_cosine_kernel, log_label_probability


def equicorrelated(size: int, correlation: float) -> Tensor:
    return torch.full((size, size), correlation).double() + (1 - correlation) * torch.eye(size).double()


def mean_probability(kernel: Tensor, labels: Tensor, classes: int, runs: int, particles: int = 200) -> float:
    logarithms = [
        log_label_probability(kernel, labels, classes, generator(seed, "orthant"), particles) for seed in range(runs)
    ]
    return float(torch.tensor(logarithms).double().exp().mean())


def test_independent_outputs_have_every_labelling_alike() -> None:
    labels = torch.tensor([0, 2, 1, 1])
    found = mean_probability(torch.eye(4).double(), labels, 3, 40)
    assert found == pytest.approx(3**-4, rel=0.05)


@pytest.mark.parametrize("correlation", [-0.7, 0.3, 0.95])
def test_two_examples_have_the_arcsine_law(correlation: float) -> None:
    kernel = equicorrelated(2, correlation)
    same = 0.25 + math.asin(correlation) / (2 * math.pi)
    assert mean_probability(kernel, torch.tensor([1, 1]), 2, 40) == pytest.approx(same, rel=0.05)
    assert mean_probability(kernel, torch.tensor([0, 1]), 2, 40) == pytest.approx(0.5 - same, rel=0.05)


def test_thirty_examples_of_correlation_one_half_share_a_label_with_probability_one_in_31() -> None:
    """The sign of a common normal plus one's own of equal size: all above one of n + 1 exchangeable ones."""
    kernel = equicorrelated(30, 0.5)
    assert mean_probability(kernel, torch.zeros(30, dtype=torch.int64), 2, 40) == pytest.approx(1 / 31, rel=0.1)


def test_three_classes_agree_with_counting_draws() -> None:
    kernel = arc_cosine_kernel(torch.randn(4, 3, generator=generator(0, "points")), 2)
    labels = torch.tensor([0, 0, 2, 1])
    factor = torch.linalg.cholesky(kernel)
    outputs = factor @ torch.randn(200_000, 4, 3, dtype=torch.float64, generator=generator(0, "count"))
    counted = (outputs.argmax(dim=2) == labels).all(dim=1).double()
    error = float(counted.std()) / math.sqrt(len(counted))
    found = mean_probability(kernel, labels, 3, 100)
    assert abs(found - float(counted.mean())) < 4 * error + 0.03 * found
    assert abs(mean_probability(kernel, labels.flip(0), 3, 100) - float(counted.mean())) > 4 * error + 0.03 * found


def test_the_kernel_is_the_covariance_of_wide_random_networks() -> None:
    points = torch.randn(3, 6, dtype=torch.float64, generator=generator(0, "inputs"))
    rng, width = generator(0, "networks"), 2000
    hidden = points @ torch.randn(6, width, dtype=torch.float64, generator=rng) / math.sqrt(6)
    hidden = hidden.relu() @ torch.randn(width, width, dtype=torch.float64, generator=rng) * math.sqrt(2 / width)
    empirical = hidden.relu() @ hidden.relu().T * 2 / width
    torch.testing.assert_close(arc_cosine_kernel(points, 2), empirical, rtol=0.15, atol=0.03)
    assert not torch.allclose(arc_cosine_kernel(points, 0), empirical, rtol=0.15, atol=0.03)


def test_the_kernel_of_orthogonal_inputs_by_hand() -> None:
    kernel = arc_cosine_kernel(torch.eye(2), 1)
    torch.testing.assert_close(kernel, torch.tensor([[0.5, 0.5 / math.pi], [0.5 / math.pi, 0.5]]).double())
    with pytest.raises(ValueError, match="zero"):
        arc_cosine_kernel(torch.zeros(1, 2), 1)
