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
    """What the training loop calls: ``before_backward``, then the loss's ``backward``, then ``step``."""

    def before_backward(self) -> None:
        """Make the gradient vector ready for ``backward`` to add into."""

    def step(self) -> None:
        """Update the parameters in place."""


class MomentumSGD:
    """Stochastic gradient descent with heavy-ball momentum and L2 weight decay, as ``torch.optim.SGD``.

    Formula: v ← β v + g + λ w; w ← w − η v. The gradient vector itself holds v, so that ``backward`` does the sum.
    """

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        self.values, self.velocity, self.spec = values, gradients, spec

    def before_backward(self) -> None:
        """v ← β v + λ w."""
        self.velocity.mul_(self.spec.momentum)
        if self.spec.weight_decay:
            self.velocity.add_(self.values, alpha=self.spec.weight_decay)

    def step(self) -> None:
        """w ← w − η v."""
        self.values.add_(self.velocity, alpha=-self.spec.learning_rate)


class Adam:
    """Adam (Kingma & Ba 2015) with L2 weight decay in the gradient, as ``torch.optim.Adam``; β = (.9, .999), ε = 1e-8.

    Formula: m ← β₁m + (1−β₁)g; s ← β₂s + (1−β₂)g²; w ← w − η (m/(1−β₁ᵗ)) / (√(s/(1−β₂ᵗ)) + ε).
    """

    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        self.values, self.gradients, self.spec = values, gradients, spec
        self.mean = torch.zeros_like(values)
        self.square = torch.zeros_like(values)
        self.steps = 0

    def before_backward(self) -> None:
        """g ← 0."""
        self.gradients.zero_()

    def step(self) -> None:
        """One Adam step from the gradient vector."""
        self.steps += 1
        if self.spec.weight_decay:
            self.gradients.add_(self.values, alpha=self.spec.weight_decay)
        first, second = self.betas
        self.mean.lerp_(self.gradients, 1 - first)
        self.square.mul_(second).addcmul_(self.gradients, self.gradients, value=1 - second)
        scale = (self.square / (1 - second**self.steps)).sqrt_().add_(self.epsilon)
        self.values.addcdiv_(self.mean, scale, value=-self.spec.learning_rate / (1 - first**self.steps))


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
