from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.bounds import inverse_kl, maurer_budget, mean_of_draws_bound
from gapbench.measures.stochastic import (
    Descent,
    StochasticNetwork,
    certified_error,
    divergence,
    fit,
    flat,
    learned_mean,
    prior_cost,
    prior_variance,
)
from gapbench.models.flat import flatten


def two_gaussians(size: int, *names: str | int) -> Split:
    """Labels are fair coins, inputs N(±1, I) in five dimensions; the best error is Φ(−√5) = .0127."""
    rng = generator(0, "two gaussians", *names)
    labels = torch.randint(2, (size,), generator=rng)
    return Split(torch.randn(size, 5, generator=rng) + (2 * labels - 1)[:, None], labels, 2)


def network(seed: int = 0, width: int = 8) -> nn.Module:
    made = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 2))
    rng = generator(seed, "network")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.4, generator=rng)
    return made.requires_grad_(False)


def test_the_divergence_is_that_of_the_two_gaussians() -> None:
    rng = generator(0, "divergence")
    mean, prior = torch.randn(2, 7, dtype=torch.float64, generator=rng)
    log_deviation = torch.randn(7, dtype=torch.float64, generator=rng)
    own = Normal(mean, log_deviation.exp())
    expected = float(kl_divergence(own, Normal(prior, torch.full_like(prior, 0.3).sqrt())).sum())
    squares = (2 * log_deviation).exp() + (mean - prior).square()
    assert divergence(squares, log_deviation, 0.3) == pytest.approx(expected, rel=1e-12)
    assert divergence(squares, log_deviation, 0.09) != pytest.approx(expected, rel=1e-2)


def test_the_prior_variances_share_the_confidence_without_a_rest() -> None:
    assert sum(math.exp(-prior_cost(index)) for index in range(1, 100_001)) == pytest.approx(1, abs=1e-5)
    assert prior_variance(100) == pytest.approx(0.1 / math.e)


def test_a_draw_has_the_law_of_drawing_all_weights() -> None:
    """The error of one example against explicit draws of every weight, each with a deviation of its own."""
    q = StochasticNetwork(network(), torch.zeros(1, 5), 0.3)
    q.log_deviation.add_(torch.randn(len(q.log_deviation), generator=generator(0, "deviations")))
    many = Split(torch.full((20_000, 5), 0.4), torch.ones(20_000, dtype=torch.int64), 2)
    found = float(q.wrong(many, generator(0, "law"), 1).double().mean())
    rng, other, wrong = generator(1, "law"), copy.deepcopy(q.network), 0
    for _ in range(4000):
        drawn = q.mean + q.log_deviation.exp() * torch.randn(len(q.mean), generator=rng)
        nn.utils.vector_to_parameters(drawn, other.parameters())
        wrong += int(other(many.inputs[:1]).argmax(dim=1) != 1)
    spread = math.sqrt(found * (1 - found) * (1 / 4000 + 1 / 20_000))
    assert abs(found - wrong / 4000) < 4 * spread
    q.log_deviation.fill_(math.log(0.3))  # control: without their own deviations the error is another one
    assert abs(float(q.wrong(many, generator(0, "law"), 1).double().mean()) - wrong / 4000) > 4 * spread


def convolution() -> nn.Module:
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    rng = generator(0, "convolution")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.4, generator=rng)
    return made


def test_eight_examples_of_a_convolution_share_a_draw_of_all_weights_and_count_as_one() -> None:
    q = StochasticNetwork(convolution(), torch.zeros(1, 1, 4, 4), 0.5)
    q.log_deviation.add_(torch.randn(len(q.log_deviation), generator=generator(0, "deviations")) / 2)
    image = torch.randn(1, 1, 4, 4, generator=generator(0, "image"))
    many = Split(image.expand(16_000, 1, 4, 4).contiguous(), torch.ones(16_000, dtype=torch.int64), 2)
    groups = q.wrong(many, generator(0, "law"), 1).view(2000, 8)
    assert q.examples_a_draw == 8
    assert torch.equal(groups, groups[:, :1].expand(-1, 8))
    found = float(groups[:, 0].double().mean())
    rng, other, wrong = generator(1, "law"), copy.deepcopy(q.network), 0
    for _ in range(2000):
        drawn = q.mean + q.log_deviation.exp() * torch.randn(len(q.mean), generator=rng)
        _set(other, drawn)
        wrong += int(other(image).argmax(dim=1) != 1)
    assert 0.1 < found < 0.9
    assert abs(found - wrong / 2000) < 4 * math.sqrt(found * (1 - found) / 1000)
    few = Split(many.inputs[:800], many.labels[:800], 2)
    bound = certified_error(q, q.mean, few, generator(0, "few"), draws=4, delta=0.04, delta_draws=0.01).value
    mean = float(q.wrong(few, generator(0, "few"), 4).double().mean())
    log_deviation = q.log_deviation.double()
    budget = min(
        maurer_budget(
            divergence((2 * log_deviation).exp(), log_deviation, prior_variance(j)) + prior_cost(j), 800, 0.04
        )
        for j in range(1, 2000)
    )
    as_groups, as_examples = (inverse_kl(mean_of_draws_bound(mean, n, 0.01), budget) for n in (4 * 800 / 8, 4 * 800))
    assert bound == pytest.approx(as_groups, rel=1e-6)
    assert as_examples < as_groups * (1 - 1e-3)


def _set(network: nn.Module, weights: torch.Tensor) -> None:
    """Give a network the parameters that a vector has in the order of `StochasticNetwork`."""
    with torch.no_grad():
        flatten(network)[0].copy_(weights)


def test_the_gradients_of_the_descent_are_those_of_the_bound() -> None:
    """One step of a rate so small that RMSprop moves each coordinate by the sign of its gradient."""
    sample, start = two_gaussians(50, "gradient"), network(width=3)
    prior = flat(network(1, width=3)).double()
    q = StochasticNetwork(copy.deepcopy(start).double(), sample.inputs[:1].double(), 0.1)
    before = torch.cat([q.mean, q.log_deviation]).clone()
    fit(q, prior, sample, generator(0, "step"), Descent(1, 100, 1e-3, 1e-3), 0.05)
    moved = torch.cat([q.mean, q.log_deviation]) - before

    def objective(at: torch.Tensor) -> float:
        mean, log_deviation = at.chunk(2)
        other = StochasticNetwork(copy.deepcopy(start).double(), sample.inputs[:1].double(), 0.1)
        other.mean.copy_(mean)
        other.log_deviation.copy_(log_deviation)
        outputs = other.logits(sample.inputs.double(), generator(0, "step")).detach()
        loss = float(nn.functional.cross_entropy(outputs, sample.labels)) / math.log(2)
        squares = (2 * log_deviation).exp() + (mean - prior).square()
        complexity = divergence(squares, log_deviation, min(float(squares.mean()), 0.1))
        half = maurer_budget(complexity, 50, 0.05) / 2
        return (math.sqrt(loss + half) + math.sqrt(half)) ** 2

    slopes = []
    for index in range(len(before)):
        step = torch.zeros_like(before)
        step[index] = 1e-6
        slopes.append((objective(before + step) - objective(before - step)) / 2e-6)
    known = torch.tensor(slopes).abs() > 1e-6
    assert known.sum() > 45  # of 52
    assert torch.equal(torch.tensor(slopes).sign()[known], -moved.sign()[known])


def test_the_certificate_is_the_formula_on_what_was_drawn() -> None:
    sample, start = two_gaussians(80, "certificate"), network()
    q, prior = StochasticNetwork(start, sample.inputs[:1], 0.2), flat(network(1))
    found = certified_error(q, prior, sample, generator(0, "draws"), draws=5, delta=0.04, delta_draws=0.01)
    mean = float(q.wrong(sample, generator(0, "draws"), 5).double().mean())
    squares = 0.04 + (q.mean - prior).double().square()
    budgets = [
        maurer_budget(divergence(squares, q.log_deviation.double(), prior_variance(j)) + prior_cost(j), 80, 0.04)
        for j in range(1, 2000)
    ]
    expected = inverse_kl(mean_of_draws_bound(mean, 400, 0.01), min(budgets))
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert found.standard_error > 0


def test_the_bound_holds_over_samples_where_the_error_is_known() -> None:
    """Twelve samples of 100; the error of Q is measured on 20,000 fresh examples."""
    fresh, failures, bounds = two_gaussians(20_000, "fresh"), 0, []
    for seed in range(12):
        sample, initial = two_gaussians(100, "train", seed), network(seed)
        trained = copy.deepcopy(initial)
        nn.utils.vector_to_parameters(
            learned_mean(initial, sample, generator(seed), steps=30, batch_size=100, rate=0.02), trained.parameters()
        )
        q, rng = StochasticNetwork(trained, sample.inputs[:1], 0.1), generator(seed, "fit")
        fit(q, flat(initial), sample, rng, Descent(30, 100, 0.02, 0.1), 0.04)
        bounds.append(certified_error(q, flat(initial), sample, rng, draws=5, delta=0.04, delta_draws=0.01).value)
        failures += bounds[-1] < float(q.wrong(fresh, rng, 1).double().mean())
    assert failures == 0
    assert max(bounds) < 0.5  # and says something: an error of .5 is that of a coin


def test_on_random_labels_the_bound_is_above_one_half_unless_the_prior_has_seen_them() -> None:
    """Control for the one above: every classifier's error is .5, and a prior centred at what was learnt certifies less.

    A network that memorises forty coins, with little noise: its training error is near 0.
    """
    coins = Split(torch.randn(40, 5, generator=generator(0, "x")), two_gaussians(40, "coins").labels, 2)
    wide = nn.Sequential(nn.Linear(5, 200), nn.ReLU(), nn.Linear(200, 2))
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.normal_(0.0, 0.3, generator=generator(0, "wide"))
    initial = flat(wide)
    learned = learned_mean(wide, coins, generator(0), steps=300, batch_size=40, rate=0.01)
    nn.utils.vector_to_parameters(learned, wide.parameters())
    q = StochasticNetwork(wide, coins.inputs[:1], 0.005)
    honest, cheating = (
        certified_error(q, prior, coins, generator(1), draws=20, delta=0.04, delta_draws=0.01).value
        for prior in (initial, learned)
    )
    assert cheating < 0.5 < honest
