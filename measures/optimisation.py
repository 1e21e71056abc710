"""The course of optimisation: steps, speed, and the noise of the gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot, softmax

from gapbench.datasets.spec import Split
from gapbench.measures.curvature import mean_loss_terms, value_and_gradient
from gapbench.measures.per_example import layer_sweeps, other_jacobians, single_use_layers, squared_gradient_norms
from gapbench.measures.quantities import batches, in_state
from gapbench.measures.registry import Undefined, measure
from gapbench.models.trained import History, Trajectory

EXAMPLES_AT_ONCE = 256
"""Per-example gradients of a layer are formed for this many examples at a time, and not kept."""


def _steps_at(history: History, loss_nats: float) -> float:
    """The step at which the training loss first is at most this, linearly interpolated between the ends of epochs."""
    below = (history.loss_nats <= loss_nats).nonzero()
    if len(below) == 0:
        lowest = float(history.loss_nats.min())
        raise Undefined(f"the training loss never reached {loss_nats:g} nats (least: {lowest:.4g})")
    epoch = int(below[0])
    if epoch == 0:
        return 0.0
    before, after = float(history.loss_nats[epoch - 1]), float(history.loss_nats[epoch])
    fraction = (before - loss_nats) / (before - after)
    return float(torch.lerp(history.steps[epoch - 1].double(), history.steps[epoch].double(), fraction))


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"))
def steps_to_loss(history: History, *, loss_nats: float = 0.1) -> float:
    """The number of optimiser steps to a training cross-entropy of ``loss_nats``.

    Interpolated linearly between the ends of epochs, where the loss of the whole training set is recorded. The losses
    of this and the next measure are the paper's as recalled.
    Raises: Undefined where the loss was not reached. Sign: stability bounds grow with the number of steps (hardt2016).
    """
    return _steps_at(history, loss_nats)


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"))
def steps_between_losses(history: History, *, start_nats: float = 0.1, end_nats: float = 0.01) -> float:
    """The number of optimiser steps from a training cross-entropy of ``start_nats`` to one of ``end_nats``.

    Interpolated as `steps_to_loss`. Raises: Undefined where the lower loss was not reached.
    Sign: stability bounds grow with the number of steps.
    """
    return _steps_at(history, end_nats) - _steps_at(history, start_nats)


@measure(source="lyle2020", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed(history: History) -> float:
    """The sum of the training losses, one an epoch and the initial one: the area under the training curve.

    Formula: Σ_{e=0}^{T} Φ_e, in nats. Raises: nothing.
    Sign: the sum bounds the negative log marginal likelihood (of linear models trained in a Bayesian way).
    """
    return float(history.loss_nats.sum())


@measure(source="ru2021, TSE-E", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed_last(history: History, *, epochs: int = 2) -> float:
    """The sum of the training losses of the last epochs.

    Formula: Σ_{e=T−E+1}^{T} Φ_e, E ``epochs``, in nats. Raises: Undefined where the run is shorter.
    Sign: as `training_speed`, without the burn-in.
    """
    if len(history.loss_nats) < epochs:
        raise Undefined(f"{len(history.loss_nats)} losses were recorded, and the last {epochs} are asked for")
    return float(history.loss_nats[-epochs:].sum())


@measure(source="ru2021, TSE-EMA", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed_ema(history: History, *, decay: float = 0.9) -> float:
    """The sum of the training losses with exponentially decaying weights.

    Formula: Σ_e γ^{T−e} Φ_e, γ ``decay``, in nats. Raises: nothing. Sign: as `training_speed`.
    """
    age = torch.arange(len(history.loss_nats) - 1, -1, -1, dtype=torch.float64)
    return float((decay**age * history.loss_nats).sum())


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"), cost="gradient")
def gradient_noise_epoch_1(network: nn.Module, trajectory: Trajectory, train: Split) -> float:
    """The variance of the per-example gradient at the end of the first epoch.

    Formula: tr Σ = (1/m) Σ_i ‖g_i‖² − ‖(1/m) Σ_i g_i‖², g_i the gradient of the cross-entropy of example i with respect
    to all parameters of the network in evaluation mode, batch norm folded where it can be; a mini-batch of b has
    tr Σ/b. As recalled.
    Raises: Undefined where the state after epoch 1 was not kept.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    if 1 not in trajectory.states:
        raise Undefined(f"the state after epoch 1 was not kept (kept: {sorted(trajectory.states)})")
    return gradient_variance(in_state(network, trajectory.states[1], train), train)


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"), cost="gradient")
def gradient_noise_final(evaluated: nn.Module, train: Split) -> float:
    """The variance of the per-example gradient at the end of training.

    Formula: as `gradient_noise_epoch_1`. Raises: nothing.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    return gradient_variance(evaluated, train)


def gradient_variance(network: nn.Module, train: Split) -> float:
    """tr Σ of the per-example gradients of the cross-entropy at all parameters, layer by layer.

    Formula: the squares are those of `squared_gradient_norms`, and of the Jacobians of parameters outside these layers.
    """
    layers = single_use_layers(network, train.inputs[:1])
    squares = 0.0
    for inputs, labels in batches(train, EXAMPLES_AT_ONCE):

        def residuals(logits: Tensor, labels: Tensor = labels) -> Float[Tensor, "1 n classes"]:
            return (softmax(logits, dim=1) - one_hot(labels, logits.shape[1])).unsqueeze(0)

        for sweep in layer_sweeps(network, layers, inputs, residuals):
            squares += float(squared_gradient_norms(sweep).sum())
        for part, found in other_jacobians(network, layers, inputs):
            with torch.no_grad():
                slopes = residuals(network(inputs[part]), labels[part])[0]
            for columns in found.values():
                squares += float(torch.einsum("ic,icp->ip", slopes, columns).square().sum())
    point = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    mean = value_and_gradient(mean_loss_terms(network, train), point)[1]
    return squares / len(train) - float(mean.square().sum())
