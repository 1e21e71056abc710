from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.langevin import Chains, sample
from gapbench.measures.learning_coefficient import learning_coefficient, local_learning_coefficient
from gapbench.measures.registry import Estimate, Undefined

EXAMPLES = 10_000
HEAT = EXAMPLES / math.log(EXAMPLES)


def coefficient(
    loss, size: int, *, steps: int, localisation: float = 1.0, examples: int = EXAMPLES, seed: int = 0
) -> Estimate:  # type: ignore[no-untyped-def]
    point = torch.zeros(size, dtype=torch.float64)
    return learning_coefficient(
        loss, point, examples, generator(seed, "chains"), localisation=localisation, chains=3, burn_in=150, steps=steps
    )


def within(found: Estimate, expected: float, slack: float = 0.0) -> bool:
    return abs(found.value - expected) < 3.5 * found.standard_error + slack


def test_half_the_dimension_for_a_regular_quadratic() -> None:
    curvature = torch.linspace(1, 8, 6, dtype=torch.float64)

    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((curvature * w * w).sum()) / 2, curvature * w

    found = coefficient(loss, 6, steps=700)
    assert within(found, 3)
    assert found.standard_error < 0.25
    assert not within(found, 1.5)


def test_the_localisation_counts_a_direction_by_its_share_of_the_precision() -> None:
    """λ̂ = ½ Σ nβ h / (nβ h + γ), exactly, whatever γ is."""
    curvature = torch.tensor([1e-3, 1e-2, 1e-1, 1.0], dtype=torch.float64)

    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((curvature * w * w).sum()) / 2, curvature * w

    found = coefficient(loss, 4, steps=700, localisation=10.0)
    expected = float((HEAT * curvature / (HEAT * curvature + 10)).sum()) / 2
    assert within(found, expected)
    assert not within(found, 2)


def test_a_quarter_for_the_fourth_power() -> None:
    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((w**4).sum()), 4 * w**3

    found = coefficient(loss, 1, steps=1500, localisation=0.01)
    assert within(found, 0.25)
    assert found.standard_error < 0.05
    assert not within(found, 0.5)


def product_of_matrices(w: torch.Tensor) -> tuple[float, torch.Tensor]:
    """½‖BA‖² of two 2 x 2 matrices: a linear network with one hidden layer whose truth is zero."""
    a, b = w[:4].view(2, 2), w[4:].view(2, 2)
    product = b @ a
    return float(product.square().sum()) / 2, torch.cat([(b.T @ product).flatten(), (product @ a.T).flatten()])


def exact_product(heat: float) -> float:
    """nβ E ½‖BA‖² under exp(−nβ ½‖BA‖² − ½‖A‖² − ½‖B‖²): B integrated out, the eigenvalues of AAᵀ by quadrature."""
    x = torch.linspace(-40, 4, 1500, dtype=torch.float64).exp()
    s, t = torch.meshgrid(x, x, indexing="ij")
    weight = (s - t).abs() * (s * t).sqrt() * torch.exp(-(s + t) / 2) / ((1 + heat * s) * (1 + heat * t))
    inside = heat * s / (1 + heat * s) + heat * t / (1 + heat * t)
    return float((weight * inside).sum() / weight.sum())


def aoyagi_watanabe(inputs: int, outputs: int, hidden: int, rank: int) -> float:
    """The learning coefficient of reduced rank regression (Aoyagi & Watanabe 2005), their first case."""
    m, n, h = inputs, outputs, hidden + rank
    odd = (m + n + h) % 2
    return (-(h**2) - m**2 - n**2 + 2 * (h * m + h * n + m * n) + odd) / 8


def test_a_linear_network_has_the_learning_coefficient_of_reduced_rank_regression() -> None:
    """The exact mean tends to the formula, and the chains find the exact mean where it has not yet got there."""
    assert aoyagi_watanabe(2, 2, 2, 0) == 1.5
    assert exact_product(1e10) == pytest.approx(1.5, abs=1e-3)
    found = coefficient(product_of_matrices, 8, steps=800, examples=2000)
    expected = exact_product(2000 / math.log(2000))
    assert expected == pytest.approx(1.40, abs=0.02)
    assert within(found, expected)
    assert found.standard_error < 0.2
    assert not within(found, 4)


def test_the_chains_have_the_spread_that_they_report() -> None:
    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((w * w).sum()) / 2, w

    found = [
        learning_coefficient(loss, torch.zeros(3).double(), 50, generator(seed, "chains"), localisation=1.0)
        for seed in range(16)
    ]
    values = torch.tensor([one.value for one in found])
    error = sum(one.standard_error for one in found) / 16
    assert 0.4 < float(values.std()) / error < 2
    assert abs(float(values.mean()) - 1.5 * 50 / (50 + math.log(50))) < 4 * float(values.std()) / 4


def test_the_standard_error_counts_the_autocorrelation() -> None:
    draws = generator(0, "series")
    noise = torch.randn(4, 2000, dtype=torch.float64, generator=draws)
    series = torch.zeros_like(noise)
    for step in range(1, 2000):
        series[:, step] = 0.8 * series[:, step - 1] + noise[:, step]
    expected = 5 / math.sqrt(8000)
    assert Chains(series, 1.0).mean()[1] == pytest.approx(expected, rel=0.25)
    assert Chains(noise, 1.0).mean()[1] == pytest.approx(1 / math.sqrt(8000), rel=0.25)
    assert float(series.std()) / math.sqrt(8000) < 0.5 * expected


def test_short_slow_chains_do_not_promise_too_much() -> None:
    """Two chains of 50 steps whose correlation time is 40 steps have a mean of about three independent draws."""
    rng = generator(0, "short chains")
    means, reported = [], []
    for _ in range(300):
        steps = torch.randn(2, 50, generator=rng, dtype=torch.float64)
        for step in range(1, 50):
            steps[:, step] = 0.95 * steps[:, step - 1] + math.sqrt(1 - 0.95**2) * steps[:, step]
        mean, error = Chains(steps, 1.0).mean()
        means.append(mean)
        reported.append(error**2)
    ratio = float(torch.tensor(means).std()) / math.sqrt(sum(reported) / len(reported))
    assert 0.6 < ratio < 1
    assert float(torch.tensor(means).std()) > 0.4


def test_the_metropolis_step_keeps_the_law_and_a_chain_without_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one dimension, against the second moment of a quartic by quadrature."""

    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((w**4).sum()), 4 * w**3

    def mean() -> tuple[float, float]:
        return sample(
            loss,
            torch.zeros(1, dtype=torch.float64),
            generator(0, "chains"),
            inverse_temperature=5.0,
            localisation=1.0,
            chains=2,
            burn_in=100,
            steps=1200,
        ).mean()

    x = torch.linspace(-4, 4, 40001, dtype=torch.float64)
    density = torch.exp(-5 * x**4 - x**2 / 2)
    expected = float((x**4 * density).sum() / density.sum())
    found, error = mean()
    assert abs(found - expected) < 3.5 * error
    monkeypatch.setattr("gapbench.measures.langevin.ACCEPTANCE", 1.0)  # where all is accepted, the step stays as it is
    monkeypatch.setattr("gapbench.measures.langevin._Step.log_ratio", lambda *_: 0.0)
    biased, error = mean()
    assert abs(biased - expected) > 10 * error


def test_of_a_network() -> None:
    draws = generator(0, "network")
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    train = Split(torch.randn(80, 4, generator=draws), torch.randint(3, (80,), generator=draws), 3)
    found = local_learning_coefficient(net, train, generator(0, "chains"))
    again = local_learning_coefficient(net, train, generator(0, "chains"))
    first = Split(train.inputs[:64], train.labels[:64], 3)
    assert found == again == local_learning_coefficient(net, first, generator(0, "chains"))
    assert found.converged
    assert found.standard_error > 0
    with pytest.raises(Undefined, match="two examples"):
        local_learning_coefficient(net, Split(train.inputs[:1], train.labels[:1], 3), generator(0, "chains"))
