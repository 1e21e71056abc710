"""What the outputs of training examples would have been without them: the path of training replayed without folds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from gapbench.datasets.spec import Split
from gapbench.measures.kernel_path import Point, legs_between
from gapbench.measures.registry import Undefined, quantity
from gapbench.measures.replay import (
    Leg,
    OutputGradient,
    cross_entropy_gradient,
    folds,
    held_out,
    replay,
    squared_loss_gradient,
)
from gapbench.models.losses import LOSSES
from gapbench.models.trained import Trajectory

FOLDS = 24
"""The examples of the path are left out in this many folds, one replay each, unless each can be left out by itself."""

SINGLE_OUTPUTS = 320
"""Each example is left out by itself where the path's examples have at most this many outputs together."""

DOUBLE_OUTPUTS = 500
"""Above this many outputs together the products with a kernel, which are bound by its size, are taken in float32.

The outputs stay in float64, and their change over a step is off by 1e-6 of itself.
"""

RESIDUAL_LIMITS: Mapping[str, float] = MappingProxyType({"squared": 0.1, "cross_entropy": 0.3})
"""Above this residual ε, by loss, what is read from a path is undefined.

The replay of squared loss is linear along the kernels: it must leave at most 1 % of the energy ε² unexplained. That of
cross-entropy is followed through its curvature, and mini-batch noise, which no kernel explains, adds to ε: 9 %.
"""


@dataclass(frozen=True)
class HeldOut:
    """The outputs (n, p) at the end of training of the path's examples.

    ``trained``: as they are; ``held_out``: as they would be, had the fold of each been left out; ``residual``: of the
    path itself, the part ε that its kernels do not explain. ``left_out``: the folds; ``impulses``: by leg, what leaving
    a fold out changes in the time integral of the output gradients that the steps follow (`replay`).
    """

    trained: Float[Tensor, "n p"]
    held_out: Float[Tensor, "n p"]
    residual: float
    left_out: Float[Tensor, "n folds"] | None = None
    impulses: tuple[Float[Tensor, "n p folds"], ...] = ()


def output_gradient(loss: str, labels: Int[Tensor, " n"], classes: int) -> OutputGradient:
    """n times the gradient of the mean loss with respect to the outputs."""
    if loss == "squared":
        return squared_loss_gradient(one_hot(labels, classes).double())
    return cross_entropy_gradient(labels, classes)


def hold_out(legs: Iterable[Leg], start: Tensor, train: Split, trajectory: Trajectory, count: int = 0) -> HeldOut:
    """Replay a path from outputs (n, p) with each of ``count`` folds left out, and with none.

    Where ``count`` is 0, each example is left out by itself if they have few outputs (`SINGLE_OUTPUTS`), else `FOLDS`.

    At the end of each leg the replay that leaves nothing out is put where training was, and the others are moved by as
    much: what leaving out changes is followed, and added to what is. One that leaves nothing out runs free, and misses
    the end of training by the residual ε (`replay`). Mini-batch descent is replayed by its expected step.
    """
    examples = len(start)
    left_out = folds(examples, count or (examples if start.numel() <= SINGLE_OUTPUTS else FOLDS))
    columns = torch.cat([left_out, torch.zeros(examples, 2, dtype=left_out.dtype)], dim=1)
    gradient = output_gradient(trajectory.loss, train.labels[:examples], train.classes)
    if start.numel() > DOUBLE_OUTPUTS:
        legs = (replace(leg, kernel=leg.kernel.float()) for leg in legs)
    impulses: list[Tensor] = []
    outputs, residual = replay(
        legs,
        start,
        gradient,
        columns,
        sample=len(train),
        momentum=trajectory.momentum,
        corrected=trajectory.preconditioned,
        impulses=impulses,
    )
    changes = tuple(impulse[..., :-2] - impulse[..., -2:-1] for impulse in impulses)
    return HeldOut(outputs[..., -2], held_out(outputs[..., :-2], left_out), residual, left_out, changes)


@quantity(cost="iterative")
def path_held_out(kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split) -> Callable[[int], HeldOut]:
    """`hold_out` along the path of training, as a function of the number of folds; each number is replayed once."""

    @functools.cache
    def of(count: int) -> HeldOut:
        return hold_out(legs_between(kernel_path), kernel_path[0].outputs, train, trajectory, count)

    return of


@quantity
def path_validity(path_held_out: Callable[[int], HeldOut], trajectory: Trajectory) -> float:
    """The residual ε of the replayed path. Raises: Undefined where the kernels explain too little of it."""
    residual = path_held_out(0).residual
    check_residual(residual, trajectory.loss)
    return residual


@quantity(cost="iterative")
def final_held_out(kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split) -> HeldOut:
    """`hold_out` along a path on which the kernel always was what it is at the end."""
    start, end = kernel_path[0], kernel_path[-1]
    if end.time == 0:
        raise Undefined("the network was not trained")
    legs = list(legs_between(kernel_path))
    others, decay = (
        torch.stack([part for leg in legs if (part := getattr(leg, name)) is not None]) for name in ("others", "decay")
    )
    shares = torch.tensor([leg.time for leg in legs], dtype=torch.float64).div(end.time).view(-1, 1, 1)
    other, fade = ((shares * part).sum(dim=0) for part in (others, decay))
    frozen = Leg(end.kernel, end.time, end.steps, other, fade, end.outputs)
    return hold_out([frozen], start.outputs, train, trajectory)


def losses(outputs: Float[Tensor, "n p"], labels: Int[Tensor, " n"], loss: str) -> Float[Tensor, " n"]:
    """The loss of each example."""
    return LOSSES[loss].by_class(outputs).gather(1, labels.unsqueeze(1)).squeeze(1)


def check_residual(residual: float, loss: str) -> None:
    """Raises: Undefined where the kernels explain too little of the path."""
    limit = RESIDUAL_LIMITS[loss]
    if not residual <= limit:
        raise Undefined(
            f"the kernels at the checkpoints do not explain the path: the residual of its replay is {residual:.3g}, "
            f"above {limit}"
        )
