"""The course of optimisation: steps, speed, and the noise of the gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, unfold

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Call, Layer, fold_batch_norm, trace, with_state
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, measure
from gapbench.models.trained import History, Trajectory

EXAMPLES_AT_ONCE = 256
"""Per-example gradients of a convolution are formed for this many examples at a time, and not kept."""


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
def gradient_noise_epoch_1(
    network: nn.Module, trajectory: Trajectory, train: Split, layers: tuple[Layer, ...]
) -> float:
    """The variance of the per-example gradient at the end of the first epoch.

    Formula: tr Σ = (1/m) Σ_i ‖g_i‖² − ‖(1/m) Σ_i g_i‖², g_i the gradient of the cross-entropy of example i with respect
    to all weights and biases of the folded network, in evaluation mode; a mini-batch of b has tr Σ/b. As recalled.
    Raises: Undefined where the state after epoch 1 was not kept, or as `layers`.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    if 1 not in trajectory.states:
        raise Undefined(f"the state after epoch 1 was not kept (kept: {sorted(trajectory.states)})")
    folded = fold_batch_norm(with_state(network, trajectory.states[1]), train.inputs[:1])
    return gradient_variance(folded, train)


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"), cost="gradient")
def gradient_noise_final(folded: nn.Module, train: Split, layers: tuple[Layer, ...]) -> float:
    """The variance of the per-example gradient at the end of training.

    Formula: as `gradient_noise_epoch_1`. Raises: Undefined as `layers`.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    return gradient_variance(folded, train)


def gradient_variance(folded: nn.Module, train: Split) -> float:
    """tr Σ of the per-example gradients of the cross-entropy, layer by layer, from one backward pass.

    Formula: for a linear layer with input a and output gradient δ, ‖g‖² = (‖a‖² + 1)‖δ‖² (1 for the bias).
    """
    observed = nn.Sequential(folded, nn.Identity())  # its last call is the output of the network
    squares, means = 0.0, dict[tuple[str, str], "Tensor"]()
    for inputs, labels in batches(train, EXAMPLES_AT_ONCE):
        calls = trace(observed, inputs.detach().requires_grad_())
        weighted = [call for call in calls if isinstance(call.module, nn.Linear | nn.Conv2d)]
        loss = cross_entropy(calls[-1].output, labels, reduction="sum")
        deltas = torch.autograd.grad(loss, [call.output for call in weighted])
        for call, delta in zip(weighted, deltas, strict=True):
            square, weight, bias = _gradient_moments(call, delta)
            squares += square
            for part, total in (("weight", weight), ("bias", bias)):
                means[call.name, part] = means.get((call.name, part), torch.zeros_like(total)) + total
    return (squares - sum(float(total.square().sum()) for total in means.values()) / len(train)) / len(train)


def _gradient_moments(call: Call, delta: Tensor) -> tuple[float, Float[Tensor, "out in"], Float[Tensor, " out"]]:
    """Σ_i ‖g_i‖², Σ_i g_i of the weight and Σ_i g_i of the bias, over the examples of one call."""
    module, inputs = call.module, call.input.detach()
    if isinstance(module, nn.Conv2d):
        patches = unfold(inputs, module.kernel_size, module.dilation, _padding(module), module.stride)
        weights = delta.flatten(2) @ patches.transpose(1, 2)
        biases = delta.sum(dim=(2, 3))
        weight, square = weights.sum(dim=0), float(weights.square().sum())
    elif inputs.ndim == 2:
        weight, biases = delta.T @ inputs, delta
        square = float((inputs.square().sum(dim=1) * delta.square().sum(dim=1)).sum())
    else:
        raise Undefined(f"layer {call.name} has inputs of shape {tuple(inputs.shape)}, not (examples, features)")
    if "bias" not in dict(module.named_parameters()):
        biases = torch.zeros_like(biases)
    return square + float(biases.square().sum()), weight, biases.sum(dim=0)


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    if module.padding_mode != "zeros":
        raise Undefined(f"convolution with padding of mode {module.padding_mode!r}")
    return int(module.padding[0]), int(module.padding[1])
