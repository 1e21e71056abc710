"""Training replayed in output space along a path of kernels, with examples left out; mathematics only.

After Litman & Guo 2026 (arXiv:2605.01172): the outputs of a network under gradient descent move by −η K ∇Φ, K its
tangent kernel at the time. Along the kernels of the realised path, descent without some of the examples can be followed
too, which gives the outputs that those examples would have had, had the network not been trained on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softmax

TOLERANCE = 0.01
"""Steps of descent are taken together where their velocity changes so little that no output is off by more than this.

In the units of the outputs; the difference between a step of Euler's and one of Heun's, whose own error is far less.
"""

_LOOK_AHEAD = 4

OutputGradient = Callable[[Float[Tensor, "n p columns"]], Float[Tensor, "n p columns"]]
"""n times the gradient of the mean loss with respect to the outputs, example by example, for several columns."""


@dataclass(frozen=True)
class Leg:
    """A leg of the path: ``kernel`` (N, N), in the precision of its products, ``time`` Σ η, the number of ``steps``.

    What else moves the outputs, in a unit of time: ``others`` (n, p), descent on the other examples of the sample, and
    ``decay`` (n, p), weight decay. ``end`` (n, p): the outputs that training had where the leg ends, where the
    replay is put back.
    """

    kernel: Float[Tensor, "N N"]
    time: float
    steps: int
    others: Float[Tensor, "n p"] | None = None
    decay: Float[Tensor, "n p"] | None = None
    end: Float[Tensor, "n p"] | None = None


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
    momentum: float = 0.0,
    corrected: bool = False,
    impulses: list[Float[Tensor, "n p columns"]] | None = None,
) -> tuple[Float[Tensor, "n p columns"], float]:
    """The outputs at the end of the path, in each column descending on all examples but those left out of it; and ε.

    Formula: V ← β V + K (w ∘ ∂l(U)) − others·m/(m−k) − decay, U ← U − η V, w_i = 0 for an example left out of the
    column, else 1/(m − k), k their number, m = ``sample`` the size of the whole sample (by default these n), β the
    momentum and η/(1−β) the effective step size; with ``corrected``, as in Adam, the mean V ← β V + (1−β)·… is divided
    by 1 − βᵗ at step t, and the step size is η. These are the steps of gradient descent, exact where the kernel does
    not move; where many steps together are smooth (`TOLERANCE`), they are taken together by Heun's method, as flow.
    Where legs say where they end, the last two columns must leave nothing out: all but the last are put back by the
    last but one, and the last, R, runs free. ε = ‖R(T) − U(T)‖/‖U(T) − U(0)‖ is the part of the displacement of the
    outputs U in training that it misses.
    ``impulses``: to it, where given, the time integral of w ∘ ∂l(U) over each leg, that of the steps, is appended.
    Shapes: start (n, p), left_out (n, columns) of 0 and 1, the result (n, p, columns). Raises: nothing.
    """
    size = len(start) if sample is None else sample
    remaining = size - left_out.sum(dim=0)
    weights = ((1 - left_out) / remaining).unsqueeze(1)
    outputs = start.unsqueeze(2).expand(-1, -1, left_out.shape[1]).contiguous()
    speed, lagging = torch.zeros_like(outputs), torch.zeros_like(outputs)
    together, taken, missed = 1, 0, 0.0
    for leg in legs:
        drift = torch.zeros_like(outputs)
        if leg.others is not None:
            drift += leg.others.unsqueeze(2) * (size / remaining)
        if leg.decay is not None:
            drift += leg.decay.unsqueeze(2)

        def velocity(slopes: Tensor, leg: Leg = leg, drift: Tensor = drift) -> Tensor:
            product = leg.kernel @ slopes.flatten(0, 1).to(leg.kernel.dtype)
            return drift - product.to(slopes.dtype).view(slopes.shape)

        left, step, impulse = leg.steps, leg.time / max(1, leg.steps), torch.zeros_like(outputs)
        while left > 0:
            push = weights * gradient(outputs)
            slope = velocity(push)
            count = min(together, left)
            if count > 1:
                time = count * step
                later = weights * gradient(outputs + time * slope)
                bend = time / 2 * (velocity(later) - slope)
                error = float(bend.abs().max())
                if error > TOLERANCE:
                    together = count // 2
                    continue
                outputs, speed, left, taken = outputs + time * slope + bend, slope, left - count, taken + count
                impulse += time / 2 * (push + later)
                lagging = push
                together = 2 * count if error < TOLERANCE / 4 and count == together else together
            else:
                taken += 1
                # The bias-corrected mean is a mean too, with another weight on what is new.
                new = (1 - momentum) / (1 - momentum**taken) if corrected else 1 - momentum
                changed = (1 - new) * speed + new * slope
                # In the time of a step, the velocity changes by as much again over the memory of the momentum.
                if step * float((changed - speed).abs().max()) * _LOOK_AHEAD < TOLERANCE * (1 - momentum):
                    together = 2
                lagging = (1 - new) * lagging + new * push
                impulse += step * lagging
                outputs, speed, left = outputs + step * changed, changed, left - 1
        if impulses is not None:
            impulses.append(impulse)
        if leg.end is not None:
            moved = float((leg.end - start).norm())
            missed = float((leg.end - outputs[..., -1]).norm()) / moved if moved else 0.0
            back = leg.end - outputs[..., -2]
            outputs = torch.cat([outputs[..., :-1] + back.unsqueeze(2), outputs[..., -1:]], dim=2)
    return outputs, missed


def held_out(columns: Float[Tensor, "n p columns"], left_out: Float[Tensor, "n columns"]) -> Float[Tensor, "n p"]:
    """Of each example, its outputs in the column that left it out; every example is left out of one column."""
    return torch.einsum("npk,nk->np", columns, left_out)
