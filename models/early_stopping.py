"""Early stopping on examples held out of the training sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import Split
from gapbench.models.spec import RunSpec

HELD_OUT = 10
"""One example in so many is held out, the last ones of the sample, whose order is random."""


def fitted_part(spec: RunSpec, sample: Split) -> Split:
    """The examples that the weights are fitted to: all of the sample, or what early stopping leaves of it."""
    return sample if spec.patience == 0 else _part(sample, 0, len(sample) - _held_out(sample))


def held_out_part(spec: RunSpec, sample: Split) -> Split | None:
    """The examples whose error stops the training, `None` without early stopping.

    Raises: InputError where the sample has fewer than two examples.
    """
    if spec.patience == 0:
        return None
    if len(sample) < 2:
        raise InputError("early stopping holds examples out of the sample, which has fewer than 2: leave out patience")
    return _part(sample, len(sample) - _held_out(sample), len(sample))


def _held_out(sample: Split) -> int:
    return math.ceil(len(sample) / HELD_OUT)


def _part(sample: Split, start: int, end: int) -> Split:
    return Split(sample.inputs[start:end], sample.labels[start:end], sample.classes)


@dataclass
class Best:
    """The epoch with the lowest held-out error so far, the first of equals, and the state dict after it."""

    patience: int
    error: float = math.inf
    epoch: int = 0
    state: Mapping[str, Tensor] | None = None

    def improves(self, error: float) -> bool:
        """Whether this error is below every earlier one."""
        return error < self.error

    def is_over(self, epoch: int) -> bool:
        """Whether ``patience`` epochs have passed without an improvement."""
        return epoch - self.epoch >= self.patience
