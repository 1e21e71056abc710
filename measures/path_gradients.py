"""How much of the descent along the path was shared by the examples: squared gradient norms from the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.spec import Split
from gapbench.measures.held_out import output_gradient
from gapbench.measures.kernel_path import Point
from gapbench.measures.registry import Undefined, quantity
from gapbench.models.trained import Trajectory


@dataclass(frozen=True)
class Rates:
    """At each checkpoint: the ``times`` Σ η, the mean ``own`` of ‖∇l_i‖² and the ``joint`` ‖mean ∇l_i‖²."""

    times: Float[Tensor, " checkpoints"]
    own: Float[Tensor, " checkpoints"]
    joint: Float[Tensor, " checkpoints"]
    examples: int

    def integral(self, values: Float[Tensor, " checkpoints"]) -> float:
        """∫ dτ along the path, by trapezia."""
        return float(torch.trapezoid(values, self.times))

    @property
    def population_descent(self) -> Float[Tensor, " checkpoints"]:
        """The mean of ∇l_a·∇l_c over all pairs a ≠ c: the one-step U-statistic, tr of ḡḡᵀ − Σ/(n−1)."""
        return (self.examples * self.joint - self.own) / (self.examples - 1)

    @property
    def variance(self) -> Float[Tensor, " checkpoints"]:
        """tr of the covariance of ∇l_i, unbiased."""
        return (self.own - self.joint) * self.examples / (self.examples - 1)


@quantity(cost="forward")
def path_rates(kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split) -> Rates:
    """The squared gradient norms along the path, of each example and of their mean, from outputs and kernels alone.

    Formula: ‖∇l_i‖² = g_iᵀ K_ii g_i and ‖mean ∇l_i‖² = gᵀ K g/n², g_i the gradient of l_i by the outputs of i.
    Where the steps have a preconditioner M, K = J M Jᵀ and these are norms with it, ∇lᵀ M ∇l: by how much the loss
    falls in a unit of time along such steps.
    """
    examples, outputs = kernel_path[0].outputs.shape
    if examples < 2:
        raise Undefined("a covariance needs two examples")
    gradient = output_gradient(trajectory.loss, train.labels[:examples], train.classes)
    own, joint = [], []
    for point in kernel_path:
        slopes = gradient(point.outputs.unsqueeze(2)).squeeze(2)
        blocks = point.kernel.view(examples, outputs, examples, outputs).diagonal(dim1=0, dim2=2)
        own.append(torch.einsum("ic,cdi,id->", slopes, blocks, slopes) / examples)
        joint.append(slopes.flatten() @ point.kernel @ slopes.flatten() / examples**2)
    times = torch.tensor([point.time for point in kernel_path], dtype=torch.float64)
    return Rates(times, torch.stack(own), torch.stack(joint), examples)
