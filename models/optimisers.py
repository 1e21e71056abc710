"""Optimisers on flat parameter vectors: the update rules of torch.optim in a few vector operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.errors import unknown
from gapbench.models.spec import RunSpec


@runtime_checkable
class Optimiser(Protocol):
    """What the training loop calls: ``before_backward``, then the loss's ``backward``, then ``step``.

    ``step_size``: the factor by which one step, in the end, moves the parameters along a gradient that stays the same.
    """

    step_size: float

    def before_backward(self) -> None:
        """Make the gradient vector ready for ``backward`` to add into."""

    def step(self) -> float:
        """Update the parameters in place; returns the length ‖Δw‖₂ of the step, from sums in float32."""


class MomentumSGD:
    """Stochastic gradient descent with heavy-ball momentum and L2 weight decay, as ``torch.optim.SGD``.

    Formula: v ← β v + g + λ w; w ← w − η v. The gradient vector itself holds v, so that ``backward`` does the sum.
    A gradient is added to the steps that follow with weights η β^k, so the effective step size is η / (1 − β).
    """

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        self.values, self.velocity, self.spec = values, gradients, spec
        self.step_size = spec.learning_rate / (1 - spec.momentum)

    def before_backward(self) -> None:
        """v ← β v + λ w."""
        self.velocity.mul_(self.spec.momentum)
        if self.spec.weight_decay:
            self.velocity.add_(self.values, alpha=self.spec.weight_decay)

    def step(self) -> float:
        """w ← w − η v; returns η ‖v‖₂."""
        self.values.add_(self.velocity, alpha=-self.spec.learning_rate)
        return self.spec.learning_rate * float(torch.linalg.vector_norm(self.velocity))


class Adam:
    """Adam (Kingma & Ba 2015) with L2 weight decay in the gradient, as ``torch.optim.Adam``; β = (.9, .999), ε = 1e-8.

    Formula: m ← β₁m + (1−β₁)g; s ← β₂s + (1−β₂)g²; w ← w − η (m/(1−β₁ᵗ)) / (√(s/(1−β₂ᵗ)) + ε).
    Its step size is η: the weights of a gradient in the means m of all steps add up to one.
    """

    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        self.values, self.gradients, self.spec = values, gradients, spec
        self.mean = torch.zeros_like(values)
        self.square = torch.zeros_like(values)
        self.steps = 0
        self.step_size = spec.learning_rate

    def before_backward(self) -> None:
        """g ← 0."""
        self.gradients.zero_()

    def step(self) -> float:
        """One Adam step from the gradient vector; returns its length."""
        self.steps += 1
        if self.spec.weight_decay:
            self.gradients.add_(self.values, alpha=self.spec.weight_decay)
        first, second = self.betas
        self.mean.lerp_(self.gradients, 1 - first)
        self.square.mul_(second).addcmul_(self.gradients, self.gradients, value=1 - second)
        scale = (self.square / (1 - second**self.steps)).sqrt_().add_(self.epsilon)
        rate = self.spec.learning_rate / (1 - first**self.steps)
        self.values.addcdiv_(self.mean, scale, value=-rate)
        return rate * float(torch.linalg.vector_norm(torch.div(self.mean, scale, out=scale)))


OPTIMISERS: Mapping[str, Callable[[Tensor, Tensor, RunSpec], Optimiser]] = MappingProxyType(
    {"adam": Adam, "sgd": MomentumSGD}
)
"""Optimisers by name: (parameter vector, gradient vector, spec) -> optimiser."""


def optimiser(spec: RunSpec, values: Tensor, gradients: Tensor) -> Optimiser:
    """The optimiser of a spec.

    Raises: InputError where its name is unknown.
    """
    if spec.optimiser not in OPTIMISERS:
        raise unknown("optimiser", spec.optimiser, OPTIMISERS)
    return OPTIMISERS[spec.optimiser](values, gradients, spec)
