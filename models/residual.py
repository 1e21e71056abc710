"""Residual branches."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Residual(nn.Module):
    """x ↦ shortcut(x) + branch(x)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Float[Tensor, "n *into"]) -> Float[Tensor, "n *out"]:
        """The sum."""
        total: Tensor = self.shortcut(x) + self.branch(x)
        return total
