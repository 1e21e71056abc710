"""Sparse parity: a rule that no proper part of its relevant coordinates says anything about."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from numpy.random import default_rng
from torch import Tensor

from gapbench.datasets.errors import InputError
from gapbench.datasets.seeds import derive_seed
from gapbench.datasets.spec import DataSpec, Split

DIMENSION = 30
DEGREE = 3
TEST_SIZE = 10_000


def parity(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """Uniform inputs in {−1, 1}^d, (n, d), labelled by the parity of their first k coordinates; no label is noisy.

    d is ``spec.dimension``, by default 30, and k ``spec.degree``, by default 3. Which coordinates are relevant is of
    no consequence to a network whose first layer is drawn from a law that permutations of the inputs leave alone.
    Raises: InputError where k is above d.
    """
    dimension, degree = spec.dimension or DIMENSION, spec.degree or DEGREE
    if degree > dimension:
        raise InputError(f"parity: a degree of {degree} is more than the {dimension} coordinates: give at most that")

    def sample(part: str, size: int) -> Split:
        bits = default_rng(derive_seed(spec.seed, spec.name, part)).integers(2, size=(size, dimension))
        inputs = torch.from_numpy(1 - 2 * bits).float()
        return Split(inputs, parity_labels(inputs, degree), 2)

    return sample("train", spec.train_size), sample("test", spec.test_size or TEST_SIZE)


def parity_labels(inputs: Float[Tensor, "n d"], degree: int) -> Int[Tensor, " n"]:
    """1 where an odd number of the first ``degree`` coordinates is −1, else 0."""
    return (inputs[:, :degree].prod(dim=1) < 0).long()
