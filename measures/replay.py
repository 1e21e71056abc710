"""Training replayed in output space along a path of kernels, with examples left out; mathematics only.

After Litman & Guo 2026 (arXiv:2605.01172): the outputs of a network under gradient descent move by −η K ∇Φ, K its
tangent kernel at the time. Along the kernels of the realised path, descent without some of the examples can be followed
too, which gives the outputs that those examples would have had, had the network not been trained on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softmax

SMOOTH = 0.2
"""Steps of descent are taken together where together they stay below this in units of n/λ_max …"""

OutputGradient = Callable[[Float[Tensor, "n p columns"]], Float[Tensor, "n p columns"]]
"""n times the gradient of the mean loss with respect to the outputs, example by example, for several columns."""


@dataclass(frozen=True)
class Leg:
    """A leg of the path: ``kernel`` (N, N) on it, ``time`` Σ η, and the number of ``steps``.

    What else moves the outputs, in a unit of time: ``others`` (n, p), descent on the other examples of the sample, and
    ``decay`` (n, p), weight decay.
    """

    kernel: Float[Tensor, "N N"]
    time: float
    steps: int
    others: Float[Tensor, "n p"] | None = None
    decay: Float[Tensor, "n p"] | None = None


def squared_loss_gradient(targets: Float[Tensor, "n p"]) -> OutputGradient:
    """u − y, for Φ = ‖u − y‖²/(2n)."""
    return lambda outputs: outputs - targets.unsqueeze(2)


def cross_entropy_gradient(labels: Tensor, classes: int) -> OutputGradient:
    """π(u) − e_y, for the mean cross-entropy."""
    indicators = torch.nn.functional.one_hot(labels, classes).double().unsqueeze(2)
    return lambda outputs: softmax(outputs, dim=1) - indicators


def folds(examples: int, count: int) -> Float[Tensor, "n folds"]:
    """Which example is in which fold, as 0 and 1: example i in fold i mod ``count``; ``count`` at most ``examples``.

    The order of a sample is a random permutation, so these folds are random ones.
    """
    return torch.nn.functional.one_hot(torch.arange(examples) % min(count, examples)).double()


def replay(
    legs: Iterable[Leg],
    start: Float[Tensor, "n p"],
    gradient: OutputGradient,
    left_out: Float[Tensor, "n columns"],
    *,
    sample: int | None = None,
) -> Float[Tensor, "n p columns"]:
    """The outputs at the end of the path, in each column descending on all examples but those left out of it.

    Formula: U ← U − h (K (w ∘ ∂l(U)) − others·m/(m−k) − decay), w_i = 0 for an example left out of the column, else
    1/(m − k), k their number and m = ``sample`` the size of the whole sample, by default these n. h is the
    step size itself where that is large, and these are the steps of gradient descent; where many steps together are
    smooth (`SMOOTH`), fewer steps of the second order (Heun's) are taken.
    Shapes: start (n, p), left_out (n, columns) of 0 and 1, the result (n, p, columns). Raises: nothing.
    """
    size = len(start) if sample is None else sample
    remaining = size - left_out.sum(dim=0)
    weights = ((1 - left_out) / remaining).unsqueeze(1)
    outputs = start.unsqueeze(2).expand(-1, -1, left_out.shape[1]).contiguous()
    for leg in legs:
        drift = torch.zeros_like(outputs)
        if leg.others is not None:
            drift += leg.others.unsqueeze(2) * (size / remaining)
        if leg.decay is not None:
            drift += leg.decay.unsqueeze(2)

        def velocity(at: Tensor, leg: Leg = leg, drift: Tensor = drift) -> Tensor:
            return drift - (leg.kernel @ (weights * gradient(at)).flatten(0, 1)).view(at.shape)

        # The largest row sum bounds λ_max.
        rate = float(leg.kernel.abs().sum(dim=1).max()) / size * leg.time
        smooth = max(1, math.ceil(rate / SMOOTH))
        if 2 * smooth < leg.steps:
            step = leg.time / smooth
            for _ in range(smooth):
                slope = velocity(outputs)
                outputs = outputs + step / 2 * (slope + velocity(outputs + step * slope))
        else:
            step = leg.time / max(1, leg.steps)
            for _ in range(max(1, leg.steps)):
                outputs = outputs + step * velocity(outputs)
    return outputs


def held_out(columns: Float[Tensor, "n p columns"], left_out: Float[Tensor, "n columns"]) -> Float[Tensor, "n p"]:
    """Of each example, its outputs in the column that left it out; every example is left out of one column."""
    return torch.einsum("npk,nk->np", columns, left_out)
