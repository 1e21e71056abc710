"""The outputs along the straight lines between training examples of one label, by frequency."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.mixtures import partners
from gapbench.measures.registry import quantity

LINES = 32
"""Lines, between as many pairs drawn at random."""

POINTS = 16
"""Points on a line, in the middle of as many equal pieces."""


@quantity(cost="forward")
def line_energies(
    evaluated_float32: nn.Module, train: Split, rng: torch.Generator
) -> Float[Tensor, "lines frequencies"]:
    """The energy of the logits along lines within classes at frequencies 1, 2, …, 15 half-periods a line.

    Formula: Σ_c a_kc², a_kc the discrete cosine transform (orthonormal, of type II) over the points of f_c less the
    mean of the logits, which no prediction depends on. It is the Fourier transform of the way there and back: the way
    there alone would jump where it is continued periodically, and a jump has all frequencies.
    Raises: Undefined where no two examples share a label.
    """
    partner = partners(train.labels, rng)
    paired = torch.nonzero(partner != torch.arange(len(partner))).squeeze(1)
    first = paired[torch.randperm(len(paired), generator=rng)[:LINES]]
    start, end = train.inputs[first].double(), train.inputs[partner[first]].double()
    places = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    energies = []
    with torch.no_grad():
        for a, b in zip(start, end, strict=True):
            logits = evaluated_float32((a + places.view(-1, *(1,) * a.ndim) * (b - a)).float()).double()
            logits = logits - logits.mean(dim=1, keepdim=True)
            logits = logits - logits[:1]  # frequency 0 is no part of this; exact zeros where nothing varies
            energies.append((cosines(places) @ logits).square().sum(dim=1))
    return torch.stack(energies)


def cosines(places: Float[Tensor, " points"]) -> Float[Tensor, "frequencies points"]:
    """√(2/P) cos(πkt) for k = 1, …, P − 1: the rows of the orthonormal cosine transform but the constant one."""
    frequencies = torch.arange(1, len(places), dtype=places.dtype).unsqueeze(1)
    return math.sqrt(2 / len(places)) * (math.pi * frequencies * places).cos()
