"""Margins of outputs: how far the label's leads."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHARE_AT_MARGIN = 0.99
"""The share of the training examples that must have the margin at which training stops."""


def label_margins(
    logits: Float[Tensor, "examples classes"], labels: Int[Tensor, " examples"]
) -> Float[Tensor, " examples"]:
    """f_y − max_{j≠y} f_j of each row of outputs."""
    correct = logits.gather(1, labels.unsqueeze(1))
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return correct.squeeze(1) - others.max(dim=1).values


def share_at_margin(
    logits: Float[Tensor, "examples classes"], labels: Int[Tensor, " examples"], margin: float
) -> float:
    """The share of the examples whose margin is at least so large."""
    return float((label_margins(logits, labels) >= margin).double().mean())
