"""The local learning coefficient: how fast the volume of weights of nearly the same loss shrinks with the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gapbench.measures.adversary import Adversary
from gapbench.measures.curvature import value_and_gradient
from gapbench.measures.langevin import sample
from gapbench.measures.registry import Estimate, Undefined, measure

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split
    from gapbench.measures.langevin import Loss

EXAMPLES, IMAGES = 64, 32
"""The posterior is that of the first of the training examples, whose order is random; images cost more."""

CHAINS, BURN_IN, STEPS = 2, 100, 50


@measure(source="lau2025, eq. 15", sign=+1, cost="iterative", revision=4)
def local_learning_coefficient(
    evaluated_float32: nn.Module, train: Split, rng: torch.Generator, *, localisation: float = 100.0
) -> Estimate:
    """Local learning coefficient λ̂ of the trained weights.

    Formula: nβ (E L_n(w) − L_n(w*)), β = 1/ln n, w drawn from the density proportional to
    exp(−nβ L_n(w) − γ/2 ‖w − w*‖²), γ = ``localisation``, on the first n = 64 training examples (32 if they are
    images; all, if there are fewer), over all parameters; see `learning_coefficient`. In float32, whose rounding is far
    below the sampling error. With γ = 100, as in public code, only directions of curvature above γ/(nβ) count in full.
    Sign: it stands for half the number of parameters in the free energy, and the gap of Bayesian learning is of the
    order λ/n, so larger predicts a larger gap. Raises: Undefined for fewer than two examples.
    """
    few = Adversary.of(evaluated_float32, train).on_first(IMAGES if train.inputs.ndim == 4 else EXAMPLES)

    def loss(point: Tensor) -> tuple[float, Tensor]:
        return value_and_gradient(few.terms, point.to(few.weights.dtype))

    return learning_coefficient(loss, few.weights.double(), len(few.sample), rng, localisation=localisation)


def learning_coefficient(
    loss: Loss,
    point: Tensor,
    examples: int,
    rng: torch.Generator,
    *,
    localisation: float,
    chains: int = CHAINS,
    burn_in: int = BURN_IN,
    steps: int = STEPS,
) -> Estimate:
    """λ̂ = nβ (E L(w) − L(w*)), β = 1/ln n, of any loss with its gradient, at a point w*.

    The authors draw by stochastic-gradient Langevin dynamics, whose step size biases the mean; here the chains are
    Metropolis-adjusted on the full sample (`langevin.sample`), so only their length limits them: after too short a
    burn-in λ̂ is too low, since it starts at the least loss. The standard error counts their autocorrelation alone.
    ``converged`` is False where the chains accepted less than 5 % of their proposals.
    Raises: Undefined for fewer than two examples, where ln n is zero.
    """
    if examples < 2:
        raise Undefined(f"the inverse temperature 1/ln n needs two examples, not {examples}")
    heat = examples / math.log(examples)
    found = sample(
        loss,
        point,
        rng,
        inverse_temperature=heat,
        localisation=localisation,
        chains=chains,
        burn_in=burn_in,
        steps=steps,
    )
    mean, error = found.mean()
    return Estimate(heat * (mean - loss(point)[0]), heat * error, found.acceptance >= 0.05)
