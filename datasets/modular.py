"""Modular arithmetic: all pairs of residues; a random part is the training sample, the rest is the test."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gapbench.datasets.errors import InputError
from gapbench.datasets.sampling import partition
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split

MODULUS = 97


def modular_addition(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """All pairs (a, b) of residues modulo ``classes`` (97 by default) with label a + b mod p; inputs (n, 2, p) one-hot.

    The split of the p² pairs is the sample: `sampling.partition`, by the seed.
    """
    p = spec.classes or MODULUS
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(dim=1)
    return _split(spec, a, b, (a + b) % p, p)


def modular_division(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """All pairs (a, b), b ≠ 0, modulo a prime ``classes`` (97 by default) with label a / b mod p; (n, 2, p) one-hot.

    a / b is the c with b c = a mod p. The split of the p (p − 1) pairs is the sample: `sampling.partition`, by seed.
    Raises: InputError where the modulus is not prime, since not every b then has an inverse.
    """
    p = spec.classes or MODULUS
    if any(p % divisor == 0 for divisor in range(2, int(p**0.5) + 1)):
        raise InputError(f"modular_division needs a prime modulus, and classes = {p} is none")
    c, b = torch.cartesian_prod(torch.arange(p), torch.arange(1, p)).unbind(dim=1)
    return _split(spec, (b * c) % p, b, c, p)


def _split(spec: DataSpec, a: Tensor, b: Tensor, labels: Tensor, p: int) -> tuple[Split, Split]:
    stream = generator(spec.seed, spec.name, "split")
    rows = partition(spec.name, len(labels), spec.train_size, spec.test_size, stream)
    inputs = one_hot(torch.stack([a, b], dim=1), p).float()
    train, test = (Split(inputs[chosen], labels[chosen], p) for chosen in rows)
    return train, test
