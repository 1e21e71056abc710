from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapbench.datasets.corrupt import PIXELS, gaussian_pixels, noisy_labels, random_pixels, shuffled_pixels
from gapbench.datasets.errors import InputError


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 50), st.integers(0, 2**62))
def test_noise_is_nested(p: float, q: float, classes: int, seed: int) -> None:
    low, high = sorted((p, q))
    # A label that no draw returns marks what was left alone.
    untouched = torch.full((300,), -1)
    less, more = (noisy_labels(untouched, noise, classes, stream(seed)) for noise in (low, high))
    redrawn = less >= 0
    assert torch.equal(less[redrawn], more[redrawn])
    assert (more[redrawn] >= 0).all()
    assert more.max() < classes


def test_nestedness_fails_for_independent_draws() -> None:
    untouched = torch.full((300,), -1)
    less, more = noisy_labels(untouched, 0.3, 10, stream(0)), noisy_labels(untouched, 0.6, 10, stream(1))
    assert not torch.equal(less[less >= 0], more[less >= 0])


def test_redrawn_labels_are_uniform_over_all_classes_whatever_the_true_one() -> None:
    n, classes, p = 200_000, 5, 0.4
    noisy = noisy_labels(torch.full((n,), 2), p, classes, stream())
    frequencies = noisy.bincount(minlength=classes).double() / n
    expected = torch.full((classes,), p / classes, dtype=torch.float64)
    expected[2] += 1 - p
    assert ((frequencies - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all()


def test_no_noise_and_all_noise() -> None:
    labels = torch.arange(1000) % 10
    assert torch.equal(noisy_labels(labels, 0.0, 10, stream()), labels)
    assert (noisy_labels(torch.full((1000,), -1), 1.0, 10, stream()) >= 0).all()


def test_noise_returns_a_copy_and_a_longer_sample_begins_as_a_shorter_one() -> None:
    labels = torch.arange(1001) % 10
    noisy = noisy_labels(labels, 0.0, 10, stream())
    noisy += 1
    assert torch.equal(labels, torch.arange(1001) % 10)
    assert torch.equal(noisy_labels(labels[:77], 0.5, 10, stream()), noisy_labels(labels, 0.5, 10, stream())[:77])


@pytest.mark.parametrize("p", [-0.01, 1.01, float("nan")])
def test_noise_that_is_not_a_probability_is_refused(p: float) -> None:
    with pytest.raises(InputError, match="not a probability"):
        noisy_labels(torch.zeros(3, dtype=torch.int64), p, 10, stream())


def images(n: int) -> torch.Tensor:
    """Images whose every value is different, and whose channels differ by 1,000 at the same position."""
    return (
        (torch.arange(n)[:, None, None] * 10_000 + torch.arange(3)[:, None] * 1000 + torch.arange(64))
        .float()
        .view(n, 3, 8, 8)
    )


def positions(randomised: torch.Tensor) -> torch.Tensor:
    """Where each pixel came from, (n, 64); all channels must have moved together."""
    origin = randomised.view(len(randomised), 3, 64).long() % 1000
    assert (origin == origin[:, :1]).all()
    assert torch.equal(
        randomised.view(-1, 3, 64).long() // 1000, images(len(randomised)).view(-1, 3, 64).long() // 1000
    )
    assert torch.equal(origin[:, 0].sort(dim=1).values, torch.arange(64).expand(len(randomised), -1))
    return origin[:, 0]


def test_shuffled_pixels_use_one_permutation() -> None:
    origin = positions(shuffled_pixels(images(5), stream()))
    assert (origin == origin[0]).all()
    assert not torch.equal(origin[0], torch.arange(64))
    assert torch.equal(origin[0], positions(shuffled_pixels(images(1), stream()))[0])


def test_random_pixels_use_a_permutation_an_image() -> None:
    origin = positions(random_pixels(images(1200), stream()))
    assert len(origin.unique(dim=0)) == 1200
    assert torch.equal(origin[:9], positions(random_pixels(images(9), stream())))
    # Every position is equally likely to come from every other: mean of 0..63 within 4 standard errors.
    assert (origin.double().mean(dim=0) - 31.5).abs().max() < 4 * (4095 / 12 / 1200) ** 0.5


def test_gaussian_pixels_match_the_moments_of_each_channel_of_the_sample() -> None:
    like = torch.randn(400, 3, 8, 8, generator=stream()) * torch.tensor([1.0, 2.0, 0.5])[:, None, None] + 3
    noise = gaussian_pixels(torch.empty(900, 3, 8, 8), like, numpy.random.default_rng(0))
    assert noise.shape == (900, 3, 8, 8)
    assert noise.dtype == torch.float32
    count = 900 * 64
    for channel in range(3):
        std, mean = torch.std_mean(like[:, channel])
        sample = noise[:, channel]
        assert abs(sample.mean() - mean) < 4 * std / count**0.5
        assert abs(sample.std() / std - 1) < 4 / (2 * count) ** 0.5
        assert abs((((sample - mean) / std) ** 4).mean() - 3) < 4 * (96 / count) ** 0.5


def test_gaussian_pixels_keep_nothing_of_the_inputs() -> None:
    like = torch.randn(50, 6, generator=stream())
    first, second = (
        gaussian_pixels(x, like, numpy.random.default_rng(0)) for x in (torch.zeros(20, 6), torch.ones(20, 6))
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(5,), (4, 6), (1, 4, 4), (3, 4, 4)])
@pytest.mark.parametrize("name", list(PIXELS))
def test_every_randomisation_keeps_shapes_and_inputs(name: str, shape: tuple[int, ...]) -> None:
    train, test = torch.randn(20, *shape, generator=stream(1)), torch.randn(7, *shape, generator=stream(2))
    before = train.clone(), test.clone()
    new_train, new_test = PIXELS[name](train, test, 0)
    assert (new_train.shape, new_test.shape) == (train.shape, test.shape)
    assert torch.equal(train, before[0])
    assert torch.equal(test, before[1])
    assert torch.equal(new_train, train) == (name == "natural")
    again = PIXELS[name](train, test, 0)
    assert torch.equal(again[0], new_train)
    assert torch.equal(again[1], new_test)


def test_shuffled_pixels_are_the_same_for_train_and_test_and_differ_by_seed() -> None:
    train, test = PIXELS["shuffled_pixels"](images(4), images(4), 0)
    assert torch.equal(train, test)
    assert not torch.equal(train, PIXELS["shuffled_pixels"](images(4), images(4), 1)[0])


@pytest.mark.parametrize("name", ["random_pixels", "gaussian_pixels"])
def test_the_other_randomisations_are_independent_for_train_and_test(name: str) -> None:
    train, test = PIXELS[name](images(4), images(4), 0)
    assert not torch.equal(train, test)
