"""The derivatives of the outputs with respect to the inputs, at training examples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.registry import quantity

JACOBIAN_EXAMPLES = 100
"""Jacobians are taken at this many training examples, the first ones: the order of a sample is a random permutation."""


@quantity(cost="gradient")
def input_jacobian_grams(evaluated_float32: nn.Module, train: Split) -> Float[Tensor, "examples classes classes"]:
    """J Jᵀ at each of the first 100 training examples, J = ∂f/∂x of the logits; float64 of float32 passes.

    One backward pass a class gives that row of all examples' Jacobians: in evaluation mode no two are coupled.
    """
    inputs = train.inputs[:JACOBIAN_EXAMPLES].clone().requires_grad_()
    logits = evaluated_float32(inputs)
    rows = [torch.autograd.grad(column.sum(), inputs, retain_graph=True)[0].flatten(1) for column in logits.unbind(1)]
    jacobians = torch.stack(rows, dim=1).double()
    return jacobians @ jacobians.mT
