"""Sharpness-aware minimisation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.models.spec import RunSpec


class SharpnessAware:
    """SAM (Foret et al. 2021, algorithm 1) with heavy-ball momentum and L2 weight decay.

    Formula: e = ρ g(w)/‖g(w)‖₂; v ← β v + g(w + e) + λ w; w ← w − η v, both gradients on the same batch, ρ the spec's
    ``sam_radius``. The gradient vector holds v after the ascent, as in `models.optimisers.MomentumSGD`.
    """

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        self.values, self.gradients, self.spec = values, gradients, spec
        self.velocity = torch.zeros_like(values)
        self.ascent = torch.zeros_like(values)
        self.step_size = spec.learning_rate / (1 - spec.momentum)

    def before_backward(self) -> None:
        """Keep v and make the gradient vector zero."""
        self.velocity.copy_(self.gradients)
        self.gradients.zero_()

    def ascend(self) -> None:
        """w ← w + e; the gradient vector becomes β v + λ w. A second ``backward`` has to follow."""
        length = torch.linalg.vector_norm(self.gradients)
        # Where the gradient is zero there is no direction to ascend in.
        torch.mul(self.gradients, self.spec.sam_radius / length.clamp_min(1e-12), out=self.ascent)
        torch.mul(self.velocity, self.spec.momentum, out=self.gradients)
        if self.spec.weight_decay:
            self.gradients.add_(self.values, alpha=self.spec.weight_decay)
        self.values.add_(self.ascent)

    def step(self) -> float:
        """w ← w − e − η v; returns η ‖v‖₂, the length of the step from w."""
        self.values.sub_(self.ascent)
        self.values.add_(self.gradients, alpha=-self.spec.learning_rate)
        return self.spec.learning_rate * float(torch.linalg.vector_norm(self.gradients))
