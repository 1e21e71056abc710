"""Bounds of an error from an empirical error and a complexity; mathematics only, nothing is registered.

Each takes a budget: a complexity over the number of examples, such as `maurer_budget`.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)

HALVINGS = 100
"""Bisections of [0, 1]: more than a double can tell apart."""


def binary_kl(q: float, p: float) -> float:
    """kl(q‖p) = q ln(q/p) + (1−q) ln((1−q)/(1−p)), of two coins, in nats; infinite where p rules q out."""
    if p in (0.0, 1.0):
        return 0.0 if q == p else math.inf
    first = q * math.log(q / p) if q > 0 else 0.0
    second = (1 - q) * (math.log1p(-q) - math.log1p(-p)) if q < 1 else 0.0
    return first + second


def inverse_kl(q: float, budget: float) -> float:
    """The largest p with kl(q‖p) <= budget; rounded up, so that a bound stays one.

    Formula: 1 − e^(−budget) where q = 0. Raises: ValueError where q is not in [0, 1] or the budget is negative.
    """
    if not (0 <= q <= 1 and budget >= 0):
        raise ValueError(f"an inverse of kl needs q in [0, 1] and a budget of at least 0, not {q} and {budget}")
    if q == 0:
        return -math.expm1(-budget)
    low, high = q, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if binary_kl(q, middle) > budget:
            high = middle
        else:
            low = middle
    return high


def maurer_budget(divergence: float, examples: int, delta: float) -> float:
    """The budget of the PAC-Bayes-kl bound: kl(empirical ‖ expected error of Q) <= (KL(Q‖P) + ln(2√m/δ))/m.

    With probability 1 − δ over m examples, for all Q at once, P chosen before them: Seeger 2002 with the constant of
    Maurer 2004 (arXiv:cs/0411099), in place of the ln((m+1)/δ) or ln(m/δ)/(m−1) of earlier forms.
    """
    return (divergence + math.log(2 * math.sqrt(examples) / delta)) / examples


def mcallester(q: Number, budget: Number) -> Number:
    """q + √(budget/2) >= `inverse_kl`, by Pinsker's inequality; never saturates."""
    result: Number = q + (budget / 2) ** 0.5
    return result


def quadratic(q: Number, budget: Number) -> Number:
    """(√(q + budget/2) + √(budget/2))² >= `inverse_kl`, below `mcallester` where it is itself below 1/4.

    From p <= q + √(2 p budget) (Rivasplata et al. 2019, arXiv:1908.07380); differentiable in q > 0 and the budget.
    """
    half = budget / 2
    result: Number = ((q + half) ** 0.5 + half**0.5) ** 2
    return result


def mean_of_draws_bound(mean: float, draws: float, delta: float) -> float:
    """An upper bound, with probability 1 − δ, of the expected mean of independent draws in [0, 1].

    Formula: the largest p with kl(mean‖p) <= ln(1/δ)/n (Hoeffding 1963; Langford & Caruana 2001 for a stochastic
    classifier). The draws need not have the same law, nor the same weight in the mean: n is then one over the largest
    weight, since ln(1 − p + p e^λ) is convex in λ and zero at 0, and concave in p.
    """
    return inverse_kl(mean, math.log(1 / delta) / draws)
