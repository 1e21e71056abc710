"""The course of optimisation: steps, speed, path, and how the gradients of single examples differ and agree."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gapbench.datasets.spec import Split
from gapbench.measures.curvature import mean_loss_terms, value_and_gradient
from gapbench.measures.gauss_newton import squared_loss_gradient_norms
from gapbench.measures.quantities import in_state
from gapbench.measures.registry import Undefined, measure, quantity, variants
from gapbench.measures.tangent import TANGENT_EXAMPLES
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
    """The number of optimiser steps to a training loss of ``loss_nats``, the loss that was trained on.

    Interpolated linearly between the ends of epochs, where the loss of the whole training set is recorded. The losses
    of this and the next measure are the paper's as recalled.
    Raises: Undefined where the loss was not reached. Sign: stability bounds grow with the number of steps (hardt2016).
    """
    return _steps_at(history, loss_nats)


@measure(source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"))
def steps_between_losses(history: History, *, start_nats: float = 0.1, end_nats: float = 0.01) -> float:
    """The number of optimiser steps from a training loss of ``start_nats`` to one of ``end_nats``.

    Interpolated as `steps_to_loss`. Raises: Undefined where the lower loss was not reached.
    Sign: stability bounds grow with the number of steps.
    """
    return _steps_at(history, end_nats) - _steps_at(history, start_nats)


@measure(source="lyle2020", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed(history: History) -> float:
    """The sum of the training losses, one an epoch and the initial one: the area under the training curve.

    Formula: Σ_{e=0}^{T} Φ_e, of the loss trained on (cross-entropy: in nats). Raises: nothing.
    Sign: the sum bounds the negative log marginal likelihood (of linear models trained in a Bayesian way).
    """
    return float(history.loss_nats.sum())


@measure(source="ru2021, TSE-E", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed_last(history: History, *, epochs: int = 2) -> float:
    """The sum of the training losses of the last epochs.

    Formula: Σ_{e=T−E+1}^{T} Φ_e, E ``epochs``, in the unit of the loss trained on. Raises: Undefined where the run is
    shorter.
    Sign: as `training_speed`, without the burn-in.
    """
    if len(history.loss_nats) < epochs:
        raise Undefined(f"{len(history.loss_nats)} losses were recorded, and the last {epochs} are asked for")
    return float(history.loss_nats[-epochs:].sum())


@measure(source="ru2021, TSE-EMA", sign=+1, invariances=("unit_permutation", "example_permutation"))
def training_speed_ema(history: History, *, decay: float = 0.9) -> float:
    """The sum of the training losses with exponentially decaying weights.

    Formula: Σ_e γ^{T−e} Φ_e, γ ``decay``, in the unit of the loss trained on. Raises: nothing. Sign: as
    `training_speed`.
    """
    age = torch.arange(len(history.loss_nats) - 1, -1, -1, dtype=torch.float64)
    return float((decay**age * history.loss_nats).sum())


@measure(
    source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"), cost="gradient", revision=2
)
def gradient_noise_epoch_1(network: nn.Module, trajectory: Trajectory, curvature_sample: Split) -> float:
    """The variance of the per-example gradient at the end of the first epoch.

    Formula: tr Σ = (1/m) Σ_i ‖g_i‖² − ‖(1/m) Σ_i g_i‖², g_i the gradient of the cross-entropy of example i with respect
    to all parameters of the network in evaluation mode, batch norm folded where it can be; a mini-batch of b has
    tr Σ/b. As recalled.
    Raises: Undefined where the state after epoch 1 was not kept.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    if 1 not in trajectory.states:
        raise Undefined(f"the state after epoch 1 was not kept (kept: {sorted(trajectory.states)})")
    return gradient_variance(in_state(network, trajectory.states[1], curvature_sample), curvature_sample)


@measure(
    source="jiang2020", sign=+1, invariances=("unit_permutation", "example_permutation"), cost="gradient", revision=2
)
def gradient_noise_final(evaluated: nn.Module, curvature_sample: Split) -> float:
    """The variance of the per-example gradient at the end of training.

    Formula: as `gradient_noise_epoch_1`, both over `curvature_sample`. Raises: nothing.
    Sign: one step's leave-one-out gap is the learning rate times tr Σ/(m−1).
    """
    return gradient_variance(evaluated, curvature_sample)


@measure(source="unpublished", sign=+1, invariances=("unit_permutation", "example_permutation"))
def path_length(history: History) -> float:
    """The length of the path that the parameters took.

    Formula: Σ_t ‖w_{t+1} − w_t‖₂ over the optimiser steps, w all trainable parameters as trained (batch norm not
    folded), biases included.
    Raises: Undefined where the run was stored without it, or training diverged.
    Sign: the reachable parameters lie in a ball about the initial ones of this radius, and capacity grows with it.
    """
    return _last(history.path_length, "the length of the path")


@measure(
    source="unpublished; hardt2016", sign=-1, invariances=("unit_permutation", "example_permutation"), cost="weights"
)
def distance_per_step(history: History, parameters: Tensor, initial_parameters: Tensor) -> float:
    """The distance from the initial parameters, per optimiser step.

    Formula: ‖w − w0‖₂ / T, T optimiser steps, w all parameters of the folded network, biases included.
    Raises: Undefined where no step was taken.
    Sign: of two networks that went equally far the one with fewer steps is the more stable (hardt2016), and long steps
    skip sharp minima: larger predicts a smaller gap.
    """
    steps = float(history.steps[-1])
    if steps == 0:
        raise Undefined("the network was not trained: no optimiser step was taken")
    return float(torch.linalg.vector_norm(parameters - initial_parameters)) / steps


@measure(source="toneva2019", sign=+1, invariances=("unit_permutation", "example_permutation"))
def forgetting_events(history: History, train: Split) -> float:
    """How often a training example was forgotten, on average.

    Formula: (1/m) Σ_e #{i: right after epoch e−1, wrong after epoch e}, in evaluation mode. The paper counts whenever
    an example comes up in a mini-batch; here the count is at the ends of epochs, which sees every example once an
    epoch too, but all at the same weights.
    Raises: Undefined where the run was stored without it.
    Sign: noisy and atypical examples are forgotten most and have to be memorised, so more predicts a larger gap.
    """
    if history.forgotten is None:
        raise Undefined("the number of forgotten examples was not kept with this run")
    return float(history.forgotten.sum()) / len(train)


@quantity(cost="gradient")
def loss_gradient_gram(tangent_gram: Tensor, logits: Tensor, train: Split) -> Float[Tensor, "examples examples"]:
    """⟨∇l_i, ∇l_j⟩ of the cross-entropies of the first 64 training examples, over all parameters, biases included.

    Formula: r_iᵀ K_ij r_j, r = softmax − onehot, K_ij the classes x classes block of the tangent kernel.
    """
    labels = train.labels[:TANGENT_EXAMPLES]
    residuals = torch.softmax(logits[: len(labels)], dim=1) - one_hot(labels, train.classes)
    kernel = tangent_gram.view(len(labels), train.classes, len(labels), train.classes)
    return torch.einsum("ic,icjd,jd->ij", residuals, kernel, residuals)


@measure(source="sankararaman2020, definition 2.1", sign=+1, invariances=("unit_permutation",), cost="gradient")
def gradient_confusion(loss_gradient_gram: Tensor, *, cosine: bool = False) -> float:
    """How far the gradients of two training examples point against each other, at worst.

    Formula: −min_{i≠j} ⟨∇l_i, ∇l_j⟩ over the pairs of 64 examples: the least η of the paper's bound
    ⟨∇l_i, ∇l_j⟩ ≥ −η, left negative where all pairs agree. With ``cosine``, of the cosines, as the paper's experiments
    show it; examples with a gradient of zero are left out. Definition as recalled.
    Raises: Undefined where fewer than two examples are left.
    Sign: where gradients conflict, fitting one example undoes another, and training must go on for longer.
    """
    gram = _cosines(loss_gradient_gram)[0] if cosine else loss_gradient_gram
    if len(gram) < 2:
        raise Undefined(f"a pair needs two examples with a gradient, not {len(gram)}")
    return -float(gram[~torch.eye(len(gram), dtype=torch.bool)].min())


variants(gradient_confusion, cosine=(True,))


@measure(source="fort2019, S_cos and S_sign", sign=-1, invariances=("unit_permutation",), cost="gradient")
def stiffness(loss_gradient_gram: Tensor, train: Split, *, statistic: str = "cosine", classes: str = "same") -> float:
    """How much a gradient step on one training example lowers the loss of another.

    Formula: the mean over classes (with ``classes`` "different": over ordered pairs of classes) of the mean of
    cos(∇l_i, ∇l_j), or with ``statistic`` "sign" of its sign, over the pairs i ≠ j of 64 training examples with these
    labels. Examples with a gradient of zero are left out. The paper takes pairs of the training sample, and pairs with
    held-out examples; only the first can be had here. As recalled.
    Raises: Undefined where there is no such pair.
    Sign: features that help all examples of a class at once are those that generalise: larger predicts a smaller gap.
    """
    cosines, kept = _cosines(loss_gradient_gram)
    values = cosines if statistic == "cosine" else cosines.sign()
    members = one_hot(train.labels[:TANGENT_EXAMPLES][kept], train.classes).double()
    off_diagonal = (~torch.eye(len(values), dtype=torch.bool)).double()
    sums, pairs = (members.T @ (matrix * off_diagonal) @ members for matrix in (values, torch.ones_like(values)))
    chosen = (torch.eye(train.classes, dtype=torch.bool) == (classes == "same")) & (pairs > 0)
    if not bool(chosen.any()):
        raise Undefined(f"no two of the first {len(kept)} training examples with a gradient are of {classes} classes")
    return float((sums[chosen] / pairs[chosen]).mean())


variants(stiffness, statistic=("sign",))
variants(stiffness, classes=("different",))


def _last(record: Tensor | None, what: str) -> float:
    if record is None:
        raise Undefined(f"{what} was not kept with this run")
    if not bool(torch.isfinite(record[-1])):
        raise Undefined(f"{what} is not finite: training diverged")
    return float(record[-1])


def _cosines(gram: Float[Tensor, "n n"]) -> tuple[Float[Tensor, "k k"], Bool[Tensor, " n"]]:
    """The cosines between the vectors with this Gram matrix that are not zero, and which those are."""
    norms = gram.diagonal().clamp_min(0).sqrt()
    kept = norms > 0
    return gram[kept][:, kept] / torch.outer(norms[kept], norms[kept]), kept


def gradient_variance(network: nn.Module, train: Split) -> float:
    """tr Σ of the per-example gradients of the cross-entropy at all parameters."""
    point = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    mean = value_and_gradient(mean_loss_terms(network, train), point)[1]
    return float(squared_loss_gradient_norms(network, train).mean()) - float(mean.square().sum())
