"""Which examples of a pool a run is trained and tested on.

Every choice is uniform without replacement and not stratified by class. A smaller sample is the beginning of a larger
one of the same seed, so a sweep over the sample size adds examples and changes none.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from gapbench.datasets.errors import InputError


def subset(what: str, pool: int, size: int | None, generator: torch.Generator) -> Int[Tensor, " size"]:
    """The first ``size`` entries of a random permutation of ``pool`` examples; all of them, in order, for None.

    ``what`` names the size in the message ("mnist: train_size").

    Raises: InputError where ``size`` is larger than the pool.
    """
    if size is None:
        return torch.arange(pool)
    if size > pool:
        raise InputError(f"{what} {size:,} is larger than the {pool:,} examples there are; give at most {pool:,}")
    return torch.randperm(pool, generator=generator)[:size]


def partition(
    name: str, pool: int, train_size: int, test_size: int | None, generator: torch.Generator
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Disjoint training and test samples of one pool: the front of a random permutation, and its back reversed.

    The test sample thus depends on ``train_size`` only where it is asked to be all the rest (``test_size`` None).

    Raises: InputError where the two do not fit into the pool, or no test example would be left.
    """
    wanted = 1 if test_size is None else test_size
    if train_size + wanted > pool:
        tested = "at least one test example" if test_size is None else f"test_size {test_size:,}"
        raise InputError(
            f"{name}: train_size {train_size:,} and {tested} do not fit into the {pool:,} examples there are; "
            f"give a train_size of at most {max(pool - wanted, 0):,}"
        )
    order = torch.randperm(pool, generator=generator)
    return order[:train_size], order.flip(0)[: pool - train_size if test_size is None else test_size]
