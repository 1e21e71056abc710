"""What a data set is before it is loaded (`DataSpec`) and after (`Split`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """Everything that decides the examples and labels a network is trained and tested on.

    ``label_noise`` p: each training label is redrawn, with probability p, uniformly over all C classes, the true
    one included; p = 1 is random labels. ``seed`` decides the split, the corruption and synthetic examples.
    ``path``: the user's own file or folder; ``label_column``: where its labels are, of a table; ``degree``: how many
    coordinates a parity is of. ``test_size``, ``dimension``, ``classes``, ``degree`` and ``label_column``: ``None``
    means the data set's own default.
    """

    name: str
    train_size: int
    label_noise: float = 0.0
    pixels: str = "natural"
    seed: int = 0
    path: str | None = None
    test_size: int | None = None
    dimension: int | None = None
    classes: int | None = None
    degree: int | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class Split:
    """A sample: inputs (n, *shape) float32, labels (n,) int64 in [0, classes)."""

    inputs: Float[Tensor, "n *shape"]
    labels: Int[Tensor, " n"]
    classes: int

    def __len__(self) -> int:
        return len(self.labels)
