"""The losses that networks are trained on: cross-entropy, and the squared loss against one-hot labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from gapbench.datasets.errors import unknown


@dataclass(frozen=True)
class Loss:
    """``mean``: a scalar, of outputs and labels; ``by_class``: the loss of each example against each class."""

    mean: Callable[[Float[Tensor, "n C"], Int[Tensor, " n"]], Tensor]
    by_class: Callable[[Float[Tensor, "n C"]], Float[Tensor, "n C"]]


def _squared_mean(outputs: Tensor, labels: Tensor) -> Tensor:
    # Not one_hot, which looks at the labels' values and so cannot be mapped over a stack of runs.
    targets = torch.zeros_like(outputs).scatter(1, labels[:, None], 1.0)
    return (outputs - targets).square().sum() / (2 * len(outputs))


def _squared_by_class(outputs: Tensor) -> Tensor:
    # ½‖u − e_c‖² = ½‖u‖² − u_c + ½
    return outputs.square().sum(dim=1, keepdim=True) / 2 - outputs + 0.5


def _cross_entropy_by_class(outputs: Tensor) -> Tensor:
    return -log_softmax(outputs, dim=1)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "cross_entropy": Loss(cross_entropy, _cross_entropy_by_class),
        "squared": Loss(_squared_mean, _squared_by_class),
    }
)
"""By name: the mean cross-entropy in nats, and Φ = ‖u − y‖²/(2n), u the outputs and y the one-hot labels."""


def loss_named(name: str) -> Loss:
    """Raises: InputError where there is no such loss."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
