"""Optimisers on flat parameter vectors: the update rules of torch.optim in a few vector operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.errors import InputError, unknown
from gapbench.models.sharpness_aware import SharpnessAware
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
        """One Adam step from the gradient vector; returns its length, that of a decoupled decay left out."""
        self.steps += 1
        self._decay()
        first, second = self.betas
        self.mean.lerp_(self.gradients, 1 - first)
        self.square.mul_(second).addcmul_(self.gradients, self.gradients, value=1 - second)
        scale = self._scale()
        rate = self.spec.learning_rate / (1 - first**self.steps)
        self.values.addcdiv_(self.mean, scale, value=-rate)
        return rate * float(torch.linalg.vector_norm(torch.div(self.mean, scale, out=scale)))

    def preconditioner(self) -> Float[Tensor, " p"]:
        """What the mean gradient of the last step was multiplied by, before the step size; not before a first step."""
        return self._scale().reciprocal_()

    def _decay(self) -> None:
        if self.spec.weight_decay:
            self.gradients.add_(self.values, alpha=self.spec.weight_decay)

    def _scale(self) -> Tensor:
        """What the mean gradient is divided by; a new vector."""
        return (self.square / (1 - self.betas[1] ** self.steps)).sqrt_().add_(self.epsilon)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), as ``torch.optim.AdamW``.

    Formula: w ← w − η λ w, and then the step of `Adam` along the gradient alone.
    """

    def _decay(self) -> None:
        if self.spec.weight_decay:
            self.values.mul_(1 - self.spec.learning_rate * self.spec.weight_decay)


class RMSProp(Adam):
    """RMSProp (Tieleman & Hinton 2012) with L2 weight decay in the gradient, as ``torch.optim.RMSprop``, no momentum.

    Formula: s ← α s + (1−α) g²; w ← w − η g / (√s + ε), s starting at 0; α = .99, ε = 1e-8.
    """

    betas = (0.0, 0.99)

    def _scale(self) -> Tensor:
        return self.square.sqrt().add_(self.epsilon)


class GatedAdamW(AdamW):
    """AdamW whose step is multiplied, parameter by parameter, by a gate on the gradient's signal-to-noise ratio.

    After Litman & Guo 2026 (arXiv:2605.01172), as public accounts of it state it: a parameter moves only as far as its
    mean gradient stands above the noise that the mean gradient of a batch has about that of the population.
    Formula: r ← ρ r + (1−ρ)(g_t − m_{t−1})², m_0 = 0, r̂ = r/(1−ρᵗ), m̂ = m/(1−β₁ᵗ); the step of `AdamW`, but not its
    decay, is multiplied by q, which is for the gate "hard" 1[m̂² > α r̂], for "soft" e/(e + λ r̂ + ε) with the excess
    e = (m̂² − α r̂)₊, and for "snr" m̂²/(m̂² + λ r̂ + ε). α = 1 where every batch is fresh (``gate_noise`` "fresh"), and
    b/(n − b) for batches of b from a sample of n ("finite"); λ is ``gate_ridge`` (accounts differ between 0 and 1);
    ρ = .99, ε = 1e-12. ``gate_open`` is the mean of q over the parameters at the last step.

    Raises: InputError where the gate or the kind of noise is unknown, or the batch is the whole sample, which has no
    batch noise, and the noise is "finite".
    """

    memory = 0.99
    gate_epsilon = 1e-12

    def __init__(self, values: Float[Tensor, " p"], gradients: Float[Tensor, " p"], spec: RunSpec) -> None:
        super().__init__(values, gradients, spec)
        if spec.gate not in _GATES:
            raise unknown("gate", spec.gate, _GATES)
        if spec.gate_noise not in _GATE_NOISES:
            raise unknown("gate_noise", spec.gate_noise, _GATE_NOISES)
        batch, sample = spec.batch_size, spec.data.train_size
        if spec.gate_noise == "finite" and spec.gate != "snr" and batch >= sample:
            raise InputError(
                f"batches of {batch} from a sample of {sample} have no noise for the gate to measure: "
                'take a smaller batch_size, gate = "snr" or gate_noise = "fresh"'
            )
        self.threshold = batch / (sample - batch) if spec.gate_noise == "finite" and batch < sample else 1.0
        self.residual = torch.zeros_like(values)
        self.gate_open = 0.0

    def step(self) -> float:
        """One gated step from the gradient vector; returns its length, that of the decay left out."""
        self.residual.mul_(self.memory).add_((self.gradients - self.mean).square_(), alpha=1 - self.memory)
        return super().step()

    def _scale(self) -> Tensor:
        signal = (self.mean / (1 - self.betas[0] ** self.steps)).square_()
        gate = self._gate(signal, self.residual / (1 - self.memory**self.steps))
        self.gate_open = float(gate.mean())
        # Where the gate is shut, 0, the scale is infinite and the step 0.
        return super()._scale().div_(gate)

    def _gate(self, signal: Tensor, noise: Tensor) -> Tensor:
        excess = signal if self.spec.gate == "snr" else signal - self.threshold * noise
        # At the first step m̂² = r̂: with α = 1 the excess is 0, whatever rounding makes of it.
        excess = torch.where(excess > _ROUNDING * signal, excess, 0.0)
        if self.spec.gate == "hard":
            return (excess > 0).to(signal.dtype)
        return excess / (excess + self.spec.gate_ridge * noise + self.gate_epsilon)


_ROUNDING = 1e-5
_GATES = ("hard", "soft", "snr")
_GATE_NOISES = ("finite", "fresh")

OPTIMISERS: Mapping[str, Callable[[Tensor, Tensor, RunSpec], Optimiser]] = MappingProxyType(
    {
        "adam": Adam,
        "adamw": AdamW,
        "gated_adamw": GatedAdamW,
        "rmsprop": RMSProp,
        "sam": SharpnessAware,
        "sgd": MomentumSGD,
    }
)
"""Optimisers by name: (parameter vector, gradient vector, spec) -> optimiser."""


def optimiser(spec: RunSpec, values: Tensor, gradients: Tensor) -> Optimiser:
    """The optimiser of a spec.

    Raises: InputError where its name is unknown, or it refuses the spec.
    """
    if spec.optimiser not in OPTIMISERS:
        raise unknown("optimiser", spec.optimiser, OPTIMISERS)
    return OPTIMISERS[spec.optimiser](values, gradients, spec)
