from __future__ import annotations

import copy
import itertools
import math

import numpy
import pytest
import torch
from scipy.stats import binom
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.stochastic import learned_mean
from gapbench.measures.weight_code import (
    BITS_A_VALUE,
    code_length,
    compress,
    kmeans,
    mean_error,
    occam_bound,
    quantise,
)


def test_the_code_of_three_of_five_by_hand() -> None:
    """3 of 5 places, two values taken twice and once: 10 placings, 4 ways to share out three, 3 orders."""
    assert code_length(5, [2, 1]) == pytest.approx(2 * BITS_A_VALUE + math.log2(10 * 4 * 3))


@pytest.mark.parametrize(("parameters", "kept", "levels"), [(5, 3, 2), (4, 4, 3), (6, 1, 1)])
def test_the_probabilities_of_all_codes_add_up_to_one(parameters: int, kept: int, levels: int) -> None:
    """Kraft's inequality, with equality: over every placing and every string of values, the values themselves given."""
    total = 0.0
    for _ in itertools.combinations(range(parameters), kept):
        for string in itertools.product(range(levels), repeat=kept):
            counts = [string.count(level) for level in range(levels)]
            total += 2.0 ** -(code_length(parameters, counts) - BITS_A_VALUE * levels)
    assert total == pytest.approx(1, rel=1e-9)


def test_quantised_values_are_few_float16_numbers_near_the_largest() -> None:
    values = torch.randn(1000, generator=generator(0, "values"))
    kept = values.abs().argsort(descending=True)[:100]
    quantised, bits = quantise(values, kept, 4)
    nonzero = quantised.nonzero().flatten()
    assert set(nonzero.tolist()) == set(kept.tolist())
    centres = quantised[nonzero].unique()
    assert len(centres) == 4
    assert torch.equal(centres, centres.half().float())
    nearest = centres[(values[kept, None] - centres).abs().argmin(dim=1)]
    torch.testing.assert_close(quantised[kept], nearest)
    counts = [int((quantised == centre).sum()) for centre in centres]
    assert bits == pytest.approx(code_length(1000, counts))


def test_centres_are_means_of_what_is_nearest_to_them() -> None:
    values = torch.cat([torch.full((30,), -1.0), torch.tensor([1.9, 2.1] * 5), torch.full((5,), 7.0)])
    torch.testing.assert_close(kmeans(values, 3), torch.tensor([-1.0, 2.0, 7.0]).double())
    assert kmeans(values[:30], 2).tolist() == [-1.0, -1.0]


def test_occam_s_bound_is_above_the_exact_binomial_one_at_the_confidence_of_the_code() -> None:
    bound = occam_bound(3 / 50, 4.0, 50, 0.05)
    assert binom.cdf(3, 50, bound) <= 0.05 / 16
    assert binom.cdf(3, 50, occam_bound(3 / 50, 0.0, 50, 0.05)) > 0.05 / 16


def two_gaussians(size: int, *names: str | int) -> Split:
    """Labels are fair coins, inputs N(±1, I) in five dimensions."""
    rng = generator(0, "compression", *names)
    labels = torch.randint(2, (size,), generator=rng)
    return Split(torch.randn(size, 5, generator=rng) + (2 * labels - 1)[:, None], labels, 2)


def trained(sample: Split, seed: int, width: int = 8) -> tuple[nn.Module, nn.Module]:
    initial = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 2)).requires_grad_(False)
    for parameter in initial.parameters():
        parameter.normal_(0.0, 0.4, generator=generator(seed, "weights"))
    network = copy.deepcopy(initial)
    learned = learned_mean(initial, sample, generator(seed), steps=100, batch_size=len(sample), rate=0.02)
    nn.utils.vector_to_parameters(learned, network.parameters())
    return network, initial


def test_the_bound_holds_for_the_compressed_network_over_samples() -> None:
    """Twenty samples of 400; the error of the compressed network is measured on 20,000 fresh examples."""
    fresh, bounds = two_gaussians(20_000, "fresh"), []
    for seed in range(20):
        sample = two_gaussians(400, "train", seed)
        found = compress(*trained(sample, seed), sample, 0.05)
        assert found.train_error == mean_error(found.network, sample)
        assert found.bound == pytest.approx(occam_bound(found.train_error, found.bits, 400, 0.05))
        assert mean_error(found.network, fresh) <= found.bound
        bounds.append(found.bound)
    assert numpy.median(bounds) < 0.5  # and says something: an error of .5 is that of a coin


def test_on_random_labels_it_is_the_code_that_keeps_the_bound_above_one_half() -> None:
    sample = two_gaussians(40, "coins")
    coins = Split(torch.randn(40, 5, generator=generator(0, "x")), sample.labels, 2)
    network, initial = trained(coins, 0, width=200)
    assert compress(network, initial, coins, 0.05).bound > 0.5
    assert occam_bound(mean_error(network, coins), 0.0, 40, 0.05) < 0.5  # control: as if the network cost nothing


def test_networks_are_left_alone() -> None:
    sample = two_gaussians(50, "alone")
    network, initial = trained(sample, 0)
    before = [copy.deepcopy(one.state_dict()) for one in (network, initial)]
    compress(network, initial, sample, 0.05)
    for one, state in zip((network, initial), before, strict=True):
        assert all(torch.equal(one.state_dict()[name], state[name]) for name in state)
