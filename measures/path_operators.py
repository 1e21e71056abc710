"""The operators of training along the path of a network, on its first examples: propagator, Gramian, transfer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gapbench.measures.kernel_path import Point
from gapbench.measures.registry import Undefined, quantity
from gapbench.measures.trajectory import (
    Blocks,
    Stretch,
    Transfer,
    between,
    cross_entropy_curvature,
    root,
    squared_loss_curvature,
    transfer,
)
from gapbench.models.trained import Trajectory

OPERATOR_OUTPUTS = 320
"""The operators of the path are taken on the first examples that have at most this many outputs together."""


def curvature(point: Point, loss: str, examples: int) -> Blocks:
    """B of the mean loss over the first examples of a point."""
    if loss == "squared":
        return squared_loss_curvature(examples, point.outputs.shape[1])
    return cross_entropy_curvature(point.outputs[:examples])


def operators(points: tuple[Point, ...], loss: str, examples: int, probes: int = 0) -> Transfer:
    """The operators of descent on the first examples alone, along the kernels of a path; the next ones are probed.

    Every second checkpoint is used, the first and the last always: they suffice to the second order.
    """
    kept = [*points[:-1:2], points[-1]]
    outputs = points[0].outputs.shape[1]
    own, seen = slice(examples * outputs), slice(examples * outputs, (examples + probes) * outputs)
    kernels = [point.kernel[own, own] for point in kept]
    crosses = [point.kernel[seen, own] for point in kept] if probes else []
    times = [b.time - a.time for a, b in itertools.pairwise(kept)]
    stretches = between(kernels, [curvature(point, loss, examples) for point in kept], times)
    means = itertools.chain(((a + b) / 2 for a, b in itertools.pairwise(crosses)), itertools.repeat(None))
    return transfer(
        Stretch(stretch.kernel, stretch.root, stretch.time, cross)
        for stretch, cross in zip(stretches, means, strict=False)
    )


@dataclass(frozen=True)
class Channel:
    """The propagator P of output gradients on some examples, and how many ``directions`` descent can move at all."""

    propagator: Float[Tensor, "N N"]
    directions: int

    @property
    def dimension(self) -> float:
        """tr(I − P): the degrees of freedom that training used."""
        return float(len(self.propagator) - self.propagator.trace())


def channel(propagator: Tensor, loss: str, outputs: int) -> Channel:
    """The cross-entropy does not see a shift of all outputs of an example, one direction each."""
    examples = len(propagator) // outputs
    return Channel(propagator, examples * (outputs - (loss == "cross_entropy")))


def operator_examples(points: tuple[Point, ...]) -> int:
    """How many examples the operators are taken on.

    Raises: Undefined where there was no training, or not an example for each of two halves.
    """
    examples, outputs = points[0].outputs.shape
    found = min(examples, OPERATOR_OUTPUTS // outputs)
    if found < 2 or len(points) < 2:
        raise Undefined(f"no operators of a path of {len(points)} checkpoints, {found} examples")
    return found


@quantity(cost="iterative")
def path_channel(kernel_path: tuple[Point, ...], path_validity: float, trajectory: Trajectory) -> Channel:
    """The propagator of descent on the first 320/p examples alone along the kernels of the path."""
    examples = operator_examples(kernel_path)
    found = operators(kernel_path, trajectory.loss, examples)
    return channel(found.propagator, trajectory.loss, kernel_path[0].outputs.shape[1])


@quantity(cost="iterative")
def final_channel(kernel_path: tuple[Point, ...], trajectory: Trajectory) -> Channel:
    """The same, had the kernel always been the final one: P = exp(−B(T) K(T) Σ η)."""
    examples, outputs = operator_examples(kernel_path), kernel_path[0].outputs.shape[1]
    end, size = kernel_path[-1], operator_examples(kernel_path) * kernel_path[0].outputs.shape[1]
    factor = root(curvature(end, trajectory.loss, examples))
    found = transfer([Stretch(end.kernel[:size, :size], factor, end.time)])
    return channel(found.propagator, trajectory.loss, outputs)
