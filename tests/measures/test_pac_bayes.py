from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures import pac_bayes
from gapbench.measures.bounds import maurer_budget
from gapbench.measures.layers import weight_layers
from gapbench.measures.pac_bayes import (
    compression_bound,
    dziugaite_roy,
    dziugaite_roy_data_prior,
    gp_marginal_likelihood,
    pacbayes_flatness,
    pacbayes_init,
    pacbayes_mag_flatness,
    pacbayes_mag_init,
    pacbayes_mag_orig,
    pacbayes_orig,
)
from gapbench.measures.perturbation import PerturbationScale
from gapbench.measures.registry import Undefined
from gapbench.measures.stochastic import learned_mean

HALF = PerturbationScale(0.5, standard_error=0.01)
WEIGHTS = torch.tensor([3, 0, 0, 4, 1, 2, 2, -1], dtype=torch.float64)
INITIAL = torch.tensor([1, 0, 0, 1, 1, 0, 0, -1], dtype=torch.float64)
TRAIN = Split(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64), 2)


def test_values_on_the_hand_worked_network() -> None:
    assert pacbayes_init(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(34.68887945, abs=1e-8)
    assert pacbayes_orig(HALF, WEIGHTS, TRAIN).value == pytest.approx(48.68887945, abs=1e-8)
    assert pacbayes_flatness(HALF).value == pytest.approx(4, abs=1e-12)
    assert pacbayes_mag_flatness(HALF).value == pytest.approx(4, abs=1e-12)
    assert pacbayes_mag_init(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(29.6781061, abs=1e-7)
    assert pacbayes_mag_orig(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(30.6997571, abs=1e-7)


def test_values_move_with_the_weights_and_with_the_start() -> None:
    assert pacbayes_init(HALF, WEIGHTS, WEIGHTS / 2, TRAIN).value != pytest.approx(34.68887945, abs=1e-3)
    assert pacbayes_mag_orig(HALF, WEIGHTS, WEIGHTS / 2, TRAIN).value != pytest.approx(30.6997571, abs=1e-3)


@pytest.mark.parametrize(
    "value",
    [
        lambda scale: pacbayes_init(scale, WEIGHTS, INITIAL, TRAIN),
        lambda scale: pacbayes_orig(scale, WEIGHTS, TRAIN),
        pacbayes_flatness,
        lambda scale: pacbayes_mag_init(scale, WEIGHTS, INITIAL, TRAIN),
        lambda scale: pacbayes_mag_orig(scale, WEIGHTS, INITIAL, TRAIN),
        pacbayes_mag_flatness,
    ],
)
def test_the_standard_error_is_the_slope_times_that_of_sigma(value) -> None:  # type: ignore[no-untyped-def]
    there, back = value(PerturbationScale(0.5 + 1e-6)), value(PerturbationScale(0.5 - 1e-6))
    slope = abs(there.value - back.value) / 2e-6
    assert value(HALF).standard_error == pytest.approx(slope * 0.01, rel=1e-5)
    assert value(PerturbationScale(0.5, standard_error=0.02)).standard_error == pytest.approx(slope * 0.02, rel=1e-5)


def test_a_search_that_hit_its_cap_is_passed_on() -> None:
    assert not pacbayes_flatness(PerturbationScale(10.0, converged=False)).converged
    assert pacbayes_flatness(HALF).converged


def sample(size: int, seed: int, distance: float) -> Split:
    """Labels are fair coins, inputs N(±distance·1, I) in five dimensions; at distance 0 every classifier errs by .5."""
    rng = generator(seed, "sample", size)
    labels = torch.randint(2, (size,), generator=rng)
    return Split(torch.randn(size, 5, generator=rng) + distance * (2 * labels - 1)[:, None], labels, 2)


def networks(train: Split, seed: int, width: int = 30) -> tuple[nn.Module, nn.Module]:
    """A network trained on the sample, float32, and its initialisation, float64, as the quantities are."""
    initial = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 2)).requires_grad_(False)
    for parameter in initial.parameters():
        parameter.normal_(0.0, 0.3, generator=generator(seed, "weights"))
    network = copy.deepcopy(initial)
    learned = learned_mean(initial, train, generator(seed), steps=100, batch_size=len(train), rate=0.01)
    nn.utils.vector_to_parameters(learned, network.parameters())
    return network, initial.double()


def bounds(train: Split, seed: int) -> list[float]:
    network, initial = networks(train, seed)
    layers = weight_layers(copy.deepcopy(network).double(), initial, train.inputs[:1])
    return [
        dziugaite_roy(network, initial, train, generator(seed, "rng")).value,
        dziugaite_roy_data_prior(network, initial, train, generator(seed, "rng")).value,
        compression_bound(network, initial, train),
        gp_marginal_likelihood(layers, train, generator(seed, "rng"), particles=50).value,
    ]


@pytest.mark.parametrize("seed", range(4))
def test_no_bound_is_below_one_half_where_the_labels_are_coins(seed: int) -> None:
    assert all(0.5 <= bound <= 1 for bound in bounds(sample(60, seed, 0.0), seed))


def test_every_bound_is_below_one_half_where_there_is_something_to_learn() -> None:
    found = bounds(sample(600, 0, 1.5), 0)
    assert all(bound < 0.5 for bound in found), found


def test_a_longer_descent_bounds_better_and_leaves_the_network_alone() -> None:
    train = sample(200, 0, 1.0)
    network, initial = networks(train, 0)
    before = copy.deepcopy(network.state_dict())
    none, short, long = (dziugaite_roy(network, initial, train, generator(0), steps=n).value for n in (0, 30, 300))
    assert none > short > long
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
    assert dziugaite_roy(network, initial, train, generator(0), steps=30).value == short


def test_the_learnt_prior_sees_the_first_half_only_and_the_bound_is_of_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = sample(101, 0, 1.0)
    network, initial = networks(train, 0)
    seen: dict[str, torch.Tensor] = {}

    def learned(initial: nn.Module, part: Split, *given: object, **knobs: object) -> torch.Tensor:
        seen["prior"] = part.inputs
        return learned_mean(initial, part, *given, **knobs)  # type: ignore[arg-type]

    def certified(q: object, prior: object, part: Split, *given: object, **knobs: object) -> object:
        seen["bound"] = part.inputs
        return certified_error(q, prior, part, *given, **knobs)  # type: ignore[arg-type]

    certified_error = pac_bayes.certified_error
    monkeypatch.setattr(pac_bayes, "learned_mean", learned)
    monkeypatch.setattr(pac_bayes, "certified_error", certified)
    dziugaite_roy_data_prior(network, initial, train, generator(0), steps=2)
    assert torch.equal(seen["prior"], train.inputs[:50])
    assert torch.equal(seen["bound"], train.inputs[50:])
    with pytest.raises(Undefined, match="two training examples"):
        dziugaite_roy_data_prior(network, initial, sample(1, 0, 1.0), generator(0))


def test_the_marginal_likelihood_bound_of_one_example_by_hand() -> None:
    """One example of two classes has either label with probability 1/2, whatever the kernel."""
    train = sample(1, 0, 1.0)
    network, initial = networks(train, 0)
    layers = weight_layers(network.double(), initial, train.inputs[:1])
    found = gp_marginal_likelihood(layers, train, generator(0), particles=20_000, delta=0.5, delta_draws=0.5)
    expected = -math.expm1(-maurer_budget(math.log(2) + math.log(2), 1, 0.5))
    assert found.value == pytest.approx(expected, abs=2e-3)
    assert gp_marginal_likelihood(layers, train, generator(0), delta=0.5, delta_draws=0.1).value > expected + 0.01


def test_the_marginal_likelihood_bound_is_undefined_where_its_kernel_is() -> None:
    images = Split(torch.ones(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]), 2)
    convolutional = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).double()
    layers = weight_layers(convolutional, convolutional, images.inputs[:1])
    with pytest.raises(Undefined, match="convolutions"):
        gp_marginal_likelihood(layers, images, generator(0))
    blank = Split(torch.zeros(2, 5), torch.tensor([0, 1]), 2)
    network, initial = networks(sample(4, 0, 1.0), 0)
    with pytest.raises(Undefined, match="input is zero"):
        gp_marginal_likelihood(weight_layers(network.double(), initial, blank.inputs[:1]), blank, generator(0))


def test_a_convolutional_network_is_bounded_too() -> None:
    rng = generator(0, "images")
    labels = torch.randint(2, (40,), generator=rng)
    images = Split(torch.randn(40, 1, 6, 6, generator=rng) + labels[:, None, None, None], labels, 2)
    initial = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).requires_grad_(False)
    for parameter in initial.parameters():
        parameter.normal_(0.0, 0.2, generator=rng)
    network = copy.deepcopy(initial)
    learned = learned_mean(initial, images, rng, steps=40, batch_size=40, rate=0.01)
    nn.utils.vector_to_parameters(learned, network.parameters())
    for measure in (dziugaite_roy, dziugaite_roy_data_prior):
        found = measure(network, initial.double(), images, generator(0))
        assert 0 < found.value < 1
        assert found.standard_error > 0
