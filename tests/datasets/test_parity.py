from __future__ import annotations

import itertools

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.parity import parity, parity_labels
from gapbench.datasets.spec import DataSpec


def test_labels_are_the_parity_of_the_relevant_bits() -> None:
    train, test = parity(DataSpec("parity", 500, dimension=8, degree=4, test_size=200))
    for split in (train, test):
        assert set(split.inputs.unique().tolist()) == {-1.0, 1.0}
        counted = (split.inputs[:, :4] == -1).sum(dim=1) % 2
        assert torch.equal(split.labels, counted)
    assert train.classes == 2
    assert parity(DataSpec("parity", 5))[0].inputs.shape == (5, 30)


def test_no_proper_part_of_the_relevant_coordinates_predicts_the_label() -> None:
    """Over all inputs, the Fourier coefficient is one on the relevant set and zero on every other."""
    inputs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=5)))
    signs = 1.0 - 2.0 * parity_labels(inputs, 3)
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(5), k) for k in range(6)):
        coefficient = float((signs * inputs[:, list(chosen)].prod(dim=1)).mean())
        assert coefficient == (1.0 if chosen == (0, 1, 2) else 0.0), chosen


def test_a_smaller_sample_begins_a_larger_one() -> None:
    small, large = (parity(DataSpec("parity", size))[0] for size in (7, 40))
    assert torch.equal(small.inputs, large.inputs[:7])


def test_a_degree_above_the_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="degree of 5"):
        parity(DataSpec("parity", 5, dimension=4, degree=5))
