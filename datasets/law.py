"""The law that noisy training labels follow, applied to test examples without drawing any label."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gapbench.datasets.errors import InputError


def check_label_noise(p: object) -> None:
    """Raises: InputError where ``p`` is not a probability."""
    if not isinstance(p, int | float) or not 0.0 <= p <= 1.0:
        raise InputError(
            f"label_noise is {p!r}, not a probability: give a number from 0 (true labels) to 1 (random labels)"
        )


def noisy_law_errors(right: Bool[Tensor, " n"], p: float, classes: int) -> Float[Tensor, " n"]:
    """Each example's probability of error when its label is redrawn with probability p over all classes.

    Formula: p (C - 1) / C where the prediction is right, 1 - p / C where it is wrong, with C = ``classes``.
    ``right``: whether the prediction equals the true label. Returns: (n,) float64, fractions.

    Raises: InputError where p is not in [0, 1].
    """
    check_label_noise(p)
    when_right, when_wrong = torch.tensor([p * (classes - 1) / classes, 1.0 - p / classes], dtype=torch.float64)
    return torch.where(right, when_right, when_wrong)


def noisy_law_losses(losses: Float[Tensor, "n c"], labels: Int[Tensor, " n"], p: float) -> Float[Tensor, " n"]:
    """Each example's expected loss when its label is redrawn with probability p over all classes.

    Formula: (1 - p) l(y) + p mean_c l(c), with l(c) = losses[:, c], which must be finite, and y the true label.
    Returns: (n,) float64, in the unit of the losses.

    Raises: InputError where p is not in [0, 1].
    """
    check_label_noise(p)
    losses = losses.double()
    return (1.0 - p) * losses.gather(1, labels[:, None])[:, 0] + p * losses.mean(dim=1)
