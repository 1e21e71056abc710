from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapbench.datasets.errors import InputError
from gapbench.datasets.sampling import partition, subset


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@given(st.integers(1, 200), st.data())
def test_partition_is_disjoint_and_within_the_pool(pool: int, data: st.DataObject) -> None:
    train_size = data.draw(st.integers(0, pool - 1))
    test_size = data.draw(st.none() | st.integers(1, pool - train_size))
    train, test = partition("x", pool, train_size, test_size, stream())
    chosen = torch.cat([train, test])
    assert len(train) == train_size
    assert len(test) == (pool - train_size if test_size is None else test_size)
    assert len(chosen.unique()) == len(chosen)
    assert ((chosen >= 0) & (chosen < pool)).all()


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_test_sample_does_not_depend_on_train_size(first: int, second: int) -> None:
    assert torch.equal(partition("x", 100, first, 40, stream())[1], partition("x", 100, second, 40, stream())[1])


def test_a_smaller_sample_begins_a_larger_one() -> None:
    small, large = partition("x", 100, 10, 20, stream()), partition("x", 100, 60, 30, stream())
    assert torch.equal(small[0], large[0][:10])
    assert torch.equal(small[1], large[1][:20])
    rest = partition("x", 100, 60, None, stream())[1]
    assert torch.equal(rest[:30], large[1])
    assert torch.equal(subset("x", 100, 10, stream()), subset("x", 100, 90, stream())[:10])


def test_subset_of_no_stated_size_is_everything_in_order() -> None:
    assert torch.equal(subset("x", 7, None, stream()), torch.arange(7))


def test_sampling_is_uniform_and_not_stratified() -> None:
    labels = torch.arange(1000) % 10
    counts = [
        labels[subset("x", 1000, 100, torch.Generator().manual_seed(seed))].bincount(minlength=10)
        for seed in range(200)
    ]
    counts = torch.stack(counts).double()
    # Hypergeometric: mean 10, variance 10 * 0.9 * 900/999 = 8.11; stratified draws would have variance 0.
    assert (counts.mean(dim=0) - 10).abs().max() < 4 * (8.11 / 200) ** 0.5
    assert 6.5 < counts.var() < 9.8


def test_too_large_samples_are_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"mnist: train_size 60,001 is larger than the 60,000 examples"):
        subset("mnist: train_size", 60_000, 60_001, stream())
    with pytest.raises(
        InputError, match=r"train_size 1,797 and at least one test example .* the 1,797 .* at most 1,796"
    ):
        partition("digits", 1797, 1797, None, stream())
    with pytest.raises(
        InputError, match=r"train_size 1,000 and test_size 798 do not fit into the 1,797 .* at most 999"
    ):
        partition("digits", 1797, 1000, 798, stream())
