from __future__ import annotations

import math

import numpy
import pytest
import torch
from scipy.stats import binom

from gapbench.measures.bounds import (
    binary_kl,
    inverse_kl,
    maurer_budget,
    mcallester,
    mean_of_draws_bound,
    quadratic,
)


def test_values_worked_out_by_hand() -> None:
    assert inverse_kl(0.0, 0.05) == pytest.approx(0.0487705755, abs=1e-10)
    assert inverse_kl(0.1, 0.05) == pytest.approx(0.2200786011, abs=1e-9)
    budget = maurer_budget(50.0, 1000, 0.05)
    assert inverse_kl(0.1, budget) == pytest.approx(0.2300407, abs=1e-7)
    assert mcallester(0.1, budget) == pytest.approx(0.2690307, abs=1e-7)
    assert quadratic(0.1, budget) == pytest.approx(0.2783609, abs=1e-7)
    assert inverse_kl(0.1, maurer_budget(50.0, 1000, 0.5)) != pytest.approx(0.2300407, abs=1e-4)


def test_the_divergence_of_two_coins() -> None:
    assert binary_kl(0.5, 0.25) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert binary_kl(0.3, 0.3) == 0
    assert binary_kl(0.0, 0.0) == binary_kl(1.0, 1.0) == 0
    assert binary_kl(0.5, 1.0) == binary_kl(1.0, 0.0) == math.inf


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.01, 0.37, 0.9, 1.0])
@pytest.mark.parametrize("budget", [0.0, 1e-6, 0.1, 3.0, 80.0])
def test_the_inverse_is_the_largest_within_the_budget_and_below_its_relaxations(q: float, budget: float) -> None:
    p = inverse_kl(q, budget)
    assert q <= p <= 1
    assert binary_kl(q, min(p + 1e-7, 1.0)) >= budget or p == 1
    assert binary_kl(q, max(q, p - 1e-7)) <= budget + 1e-12
    # At a budget of zero, kl is of the order of the square of a difference, so 1e-16 in kl is 1e-8 in p.
    assert p <= mcallester(q, budget) + 1e-8
    assert p <= quadratic(q, budget) + 1e-8
    if budget > 0:
        assert (quadratic(q, budget) < mcallester(q, budget)) == (quadratic(q, budget) < 0.25)


def test_what_lies_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        inverse_kl(0.1, -1e-3)
    with pytest.raises(ValueError, match="budget"):
        inverse_kl(1.1, 0.1)


def test_the_quadratic_form_has_the_gradient_of_a_finite_difference() -> None:
    q, budget = torch.tensor([0.1, 0.3], dtype=torch.float64, requires_grad=True).unbind()
    value = quadratic(q, budget)
    slopes = torch.autograd.grad(value, (q, budget))
    assert float(slopes[0]) == pytest.approx((quadratic(0.1 + 1e-6, 0.3) - quadratic(0.1 - 1e-6, 0.3)) / 2e-6)
    assert float(slopes[1]) == pytest.approx((quadratic(0.1, 0.3 + 1e-6) - quadratic(0.1, 0.3 - 1e-6)) / 2e-6)


@pytest.mark.parametrize("examples", [1, 2, 3, 5, 8, 30, 300])
def test_maurer_s_constant_bounds_the_moment_it_stands_for(examples: int) -> None:
    """The bound follows from E exp(m kl(X/m ‖ p)) <= 2√m for X binomial: summed exactly over X."""
    worst = 0.0
    for p in numpy.linspace(0.2, 0.8, 13):
        moments = [math.exp(examples * binary_kl(k / examples, p)) for k in range(examples + 1)]
        worst = max(worst, float(binom.pmf(range(examples + 1), examples, p) @ moments))
    assert worst <= 2 * math.sqrt(examples) * (1 + 1e-9)
    if examples >= 8:
        assert worst > math.sqrt(examples)  # control: √m would not do


@pytest.mark.parametrize(("successes", "draws"), [(0, 50), (3, 50), (40, 200)])
def test_the_bound_of_a_mean_is_above_the_exact_binomial_one(successes: int, draws: int) -> None:
    bound = mean_of_draws_bound(successes / draws, draws, 0.05)
    assert binom.cdf(successes, draws, bound) <= 0.05 + 1e-12
    assert binom.cdf(successes, draws, mean_of_draws_bound(successes / draws, 4 * draws, 0.05)) > 0.05


def test_unequal_laws_and_weights_are_bounded_too() -> None:
    """Draws of different means, in blocks of 4, 4, 4 and 2 that share one draw: n is the number of largest blocks."""
    rng = numpy.random.default_rng(0)
    sizes, means = numpy.array([4, 4, 4, 2]), numpy.array([0.05, 0.5, 0.2, 0.9])
    weights = sizes / sizes.sum()
    truth = float(weights @ means)
    mixes = (rng.random((4000, 4)) < means) @ weights
    failures = numpy.mean([mean_of_draws_bound(float(mean), 1 / float(weights.max()), 0.05) < truth for mean in mixes])
    too_many = numpy.mean([mean_of_draws_bound(float(mean), 40.0, 0.05) < truth for mean in mixes])
    assert failures <= 0.05
    assert too_many > 0.05  # control: as if there were forty draws
