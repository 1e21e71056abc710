"""How probable the training labels are under a random function: Gaussian processes of random networks; no registration.

The classifier of a Gaussian process with C independent outputs of one kernel predicts the largest output. The
probability of a sample's labels is that of an orthant, by sequential importance sampling with resampling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

JITTER = 1e-10
"""Relative to the mean variance: independent outputs of this size at each example keep the factorisation stable."""


def arc_cosine_kernel(inputs: Float[Tensor, "n d"], hidden_layers: int) -> Float[Tensor, "n n"]:
    """The covariance of the outputs of infinitely wide random ReLU networks, float64.

    Formula: K_0 = XXᵀ/d; K_{l+1} = √(K_ii K_jj) (sin θ + (π − θ) cos θ)/π, cos θ = K_ij/√(K_ii K_jj): weights of
    variance 2/fan-in, no biases (Cho & Saul 2009).
    Raises: ValueError where an input is zero.
    """
    points = inputs.double()
    kernel = points @ points.T / points.shape[1]
    scale = kernel.diagonal().sqrt()
    if not bool((scale > 0).all()):
        raise ValueError("an input is zero: without biases every network is zero there")
    norms = torch.outer(scale, scale)  # the diagonal stays as it is from layer to layer
    for _ in range(hidden_layers):
        cosine = (kernel / norms).clamp(-1, 1)
        angle = cosine.acos()
        kernel = norms * (angle.sin() + (math.pi - angle) * cosine) / math.pi
    return kernel


def log_label_probability(
    kernel: Float[Tensor, "n n"], labels: Int[Tensor, " n"], classes: int, rng: torch.Generator, particles: int
) -> float:
    """ln P̂, P̂ an unbiased estimate of the probability that the classifier has these labels.

    Example by example, given the outputs at those before: the outputs of the other classes are drawn freely, that of
    the label above them all, and the particle is weighted by the probability of that. Particles are drawn anew by
    their weights when half of them have lost theirs; since that is decided by what is past, P̂ stays unbiased.
    """
    examples = len(kernel)
    noise = JITTER * float(kernel.diagonal().mean())
    factor = torch.linalg.cholesky(kernel + noise * torch.eye(examples, dtype=kernel.dtype))
    normals = torch.zeros(particles, classes, examples, dtype=kernel.dtype)
    log_weights = torch.full((particles,), -math.log(particles), dtype=kernel.dtype)
    total = 0.0
    for example, label in enumerate(labels.tolist()):
        # The output is the mean given those before, plus factor[example, example] times a normal of its own.
        means = normals[:, :, :example] @ factor[example, :example] / factor[example, example]
        drawn = torch.randn(particles, classes, dtype=kernel.dtype, generator=rng)
        others = means + drawn
        others[:, label] = -torch.inf
        least = others.amax(dim=1) - means[:, label]
        uniform = torch.rand(particles, dtype=kernel.dtype, generator=rng)
        tail = (uniform * torch.special.ndtr(-least)).clamp_min(torch.finfo(kernel.dtype).tiny)
        drawn[:, label] = -torch.special.ndtri(tail)
        normals[:, :, example] = drawn
        log_weights += torch.special.log_ndtr(-least)
        step = float(log_weights.logsumexp(dim=0))
        total += step
        log_weights -= step
        if float(log_weights.exp().square().sum()) > 2 / particles:
            chosen = torch.multinomial(log_weights.exp(), particles, replacement=True, generator=rng)
            normals[:, :, : example + 1] = normals[chosen][:, :, : example + 1]
            log_weights.fill_(-math.log(particles))
    return total
