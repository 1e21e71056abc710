from __future__ import annotations

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec, Split


def residues(sample: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return sample.inputs[:, 0].argmax(dim=1), sample.inputs[:, 1].argmax(dim=1)


@pytest.mark.parametrize(("name", "pairs"), [("modular_addition", 49), ("modular_division", 42)])
def test_the_two_samples_are_all_pairs_once_and_one_hot(name: str, pairs: int) -> None:
    train, test = load(DataSpec(name, 20, classes=7))
    assert (len(train), len(train) + len(test)) == (20, pairs)
    assert train.inputs.shape == (20, 2, 7)
    assert train.inputs.dtype == torch.float32
    assert train.classes == 7
    assert bool((torch.cat([train.inputs, test.inputs]).sum(dim=2) == 1).all())
    a, b = (torch.cat(both) for both in zip(residues(train), residues(test), strict=True))
    assert len({(int(x), int(y)) for x, y in zip(a, b, strict=True)}) == pairs


def test_addition_adds_and_division_divides() -> None:
    for sample in load(DataSpec("modular_addition", 20, classes=7)):
        a, b = residues(sample)
        assert torch.equal((a + b) % 7, sample.labels)
    for sample in load(DataSpec("modular_division", 20, classes=7)):
        a, b = residues(sample)
        assert bool((b > 0).all())
        assert torch.equal((sample.labels * b) % 7, a)
        # Positive control: a product is another function.
        assert not torch.equal((a * b) % 7, sample.labels)


def test_the_default_modulus_is_that_of_the_grokking_papers_and_division_needs_a_prime() -> None:
    train, test = load(DataSpec("modular_addition", 10))
    assert len(train) + len(test) == 97**2
    with pytest.raises(InputError, match="classes = 9"):
        load(DataSpec("modular_division", 10, classes=9))


def test_the_seed_is_the_split() -> None:
    spec = DataSpec("modular_division", 20, classes=7)
    assert torch.equal(load(spec)[0].inputs, load(spec)[0].inputs)
    assert not torch.equal(load(spec)[0].inputs, load(DataSpec("modular_division", 20, classes=7, seed=1))[0].inputs)
