"""Several random draws for each training example, and the standard error that they give."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from gapbench.measures.registry import Estimate

DRAWN_EXAMPLES = 250
"""Draws are made for this many training examples, the first ones: the order of a sample is a random permutation."""

DRAWS = 500
"""Small samples get more draws an example, so that about this many are made in all."""


def draws_each(examples: int) -> int:
    """How many draws an example gets; at least two, without which there is no standard error."""
    return max(2, DRAWS // examples)


def over_draws(values: Float[Tensor, "draws examples"]) -> Estimate:
    """The mean, with its standard error over new draws for the same examples.

    Formula: √(Σ_i s_i² / r) / n, s_i² the variance (r − 1) of the r draws of example i. It takes the draws of two
    examples to be independent.
    """
    draws, examples = values.shape
    variance = float(values.double().var(dim=0).sum()) / draws
    return Estimate(float(values.double().mean()), math.sqrt(variance) / examples)
