"""Sampling a tempered posterior around a point by Metropolis-adjusted Langevin chains; nothing is registered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

    Loss = Callable[[Tensor], tuple[float, Tensor]]
    """The value and the gradient of a loss at a point."""

ACCEPTANCE = 0.6
"""The step is tuned, before anything is kept, to have this share of its proposals accepted."""

LONGEST_STEP = 2.0
"""At this step a proposal forgets where it came from but for the gradient."""


@dataclass(frozen=True)
class Chains:
    """The losses along some chains after their burn-in, (chains, steps), and the share of proposals they accepted."""

    losses: Float[Tensor, "chains steps"]
    acceptance: float

    def mean(self) -> tuple[float, float]:
        """The mean loss and its standard error, which counts the autocorrelation of the chains.

        Formula: SE² = Σ_t γ_t / (N − k) over the k lags, of either sign, of the initial positive sequence of pairs
        (Geyer 1992), with the autocovariance γ_t averaged over the chains, about their common mean. That mean's own
        variance, SE², is missing from each γ_t: hence N − k in place of N, or N/4 where the sequence is longer.
        """
        mean = self.losses.mean()
        moved = self.losses - mean
        steps = moved.shape[1]

        def covariance(lag: int) -> float:
            return float((moved[:, : steps - lag] * moved[:, lag:]).sum()) / moved.numel()

        total, lags = -covariance(0), -1
        for even in range(0, steps - 1, 2):
            pair = covariance(even) + covariance(even + 1)
            if pair <= 0:
                break
            total += 2 * pair
            lags += 4
        count = moved.numel()
        return float(mean), math.sqrt(max(total, 0.0) / max(count - lags, count / 4))


def sample(
    loss: Loss,
    point: Float[Tensor, " p"],
    rng: torch.Generator,
    *,
    inverse_temperature: float,
    localisation: float,
    chains: int,
    burn_in: int,
    steps: int,
) -> Chains:
    """Losses of draws from the density proportional to exp(−nβ L(w) − γ/2 ‖w − w*‖²), w* the point.

    One burn-in leads from w*, where the loss is least, to where all chains start; its step is tuned on the way.
    The proposal is the preconditioned Crank–Nicolson Langevin step (Cotter, Roberts, Stuart & White 2013):
    y = a x − b C g(x) + c C^{1/2} ξ for x = w − w*, with the prior's covariance C = I/γ, g = nβ ∇L, a = (2−δ)/(2+δ),
    b = 2δ/(2+δ), c² = 1 − a². It leaves the prior N(0, C) as it is, whatever the number of dimensions, so that only the
    loss is ever a reason to reject; accepting or rejecting it leaves no error of discretisation, whatever δ is.
    """
    heat = inverse_temperature
    kept, accepted, length = torch.zeros(chains, steps, dtype=torch.float64), 0, 1.0
    start = _State.at(loss, point, torch.zeros_like(point), heat)
    for chain in range(chains):
        here = start
        for count in range(0 if chain == 0 else burn_in, burn_in + steps):
            if count == burn_in:
                start = here
            step = _Step(length, localisation)
            # PyTorch draws normals six times faster in float32.
            moved = step.propose(here, torch.randn(len(point), generator=rng).to(point.dtype))
            there = _State.at(loss, point, moved, heat)
            probability = math.exp(min(0.0, step.log_ratio(here, there)))
            if float(torch.rand((), dtype=torch.float64, generator=rng)) < probability:
                here = there
                accepted += count >= burn_in
            if count >= burn_in:
                kept[chain, count - burn_in] = here.energy / heat
            else:
                change = 2 * (probability - ACCEPTANCE) / math.sqrt(1 + count / 4)
                length = min(LONGEST_STEP, length * math.exp(change))
    return Chains(kept, accepted / (chains * steps))


@dataclass(frozen=True)
class _State:
    """A displacement from the centre, nβ L there, its gradient, that gradient's length, and their inner product."""

    displacement: Tensor
    energy: float
    slope: Tensor
    steepness: float
    along: float

    @staticmethod
    def at(loss: Loss, centre: Tensor, displacement: Tensor, heat: float) -> _State:
        """The state at a displacement."""
        value, gradient = loss(centre + displacement)
        slope = gradient.double().mul_(heat)
        return _State(displacement, heat * value, slope, math.sqrt(float(slope @ slope)), float(slope @ displacement))


@dataclass(frozen=True)
class _Step:
    """The coefficients of a proposal of length δ."""

    length: float
    localisation: float

    @property
    def a(self) -> float:
        """What is left of the displacement."""
        return (2 - self.length) / (2 + self.length)

    @property
    def b(self) -> float:
        """What is taken of the gradient, times the prior's covariance."""
        return 2 * self.length / (2 + self.length)

    @property
    def c_squared(self) -> float:
        """The noise's share of the prior's covariance, 1 − a²."""
        return 8 * self.length / (2 + self.length) ** 2

    def share(self, here: _State) -> float:
        """How much of the gradient is taken: as much as moves no farther than the noise does.

        A chain that takes the whole gradient where the loss grows faster than a square overshoots, is rejected, and
        hardly ever visits the tails (Roberts & Tweedie 1996, who truncate it too).
        """
        farthest = math.sqrt(self.c_squared * self.localisation * len(here.slope)) / self.b
        return min(1.0, farthest / max(here.steepness, 1e-300))

    def propose(self, here: _State, noise: Tensor) -> Tensor:
        """The displacement proposed, with standard normal noise."""
        moved = noise.mul_(math.sqrt(self.c_squared / self.localisation))
        moved.add_(here.displacement, alpha=self.a)
        return moved.add_(here.slope, alpha=-self.b / self.localisation * self.share(here))

    def log_density(self, start: _State, end: _State) -> float:
        """The logarithm of the density of a proposal from start to end, but for what the prior alone has in it."""
        share = self.share(start)
        away = share * (float(end.displacement @ start.slope) - self.a * start.along)
        quadratic = self.b**2 / self.localisation * (share * start.steepness) ** 2
        return -(2 * self.b * away + quadratic) / (2 * self.c_squared)

    def log_ratio(self, here: _State, there: _State) -> float:
        """The logarithm of the Metropolis–Hastings ratio, from which all that is the prior's has cancelled."""
        ratio = here.energy - there.energy + self.log_density(there, here) - self.log_density(here, there)
        return ratio if math.isfinite(ratio) else -math.inf
