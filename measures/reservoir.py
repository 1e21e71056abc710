"""Training in output space, after Litman & Guo 2026: the gap from the path of training, and what its kernels dissipate.

The networks are seen on the first training examples, at the checkpoints of their path (`kernel_path`). Formulas are
stated in full: they follow the theory, and are not claimed to be the paper's own measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.held_out import HeldOut, losses, output_gradient
from gapbench.measures.kernel import slow_mass
from gapbench.measures.kernel_path import Point
from gapbench.measures.path_gradients import Rates
from gapbench.measures.path_operators import Channel, operator_examples, operators
from gapbench.measures.registry import Estimate, Undefined, measure, quantity
from gapbench.measures.tangent import TANGENT_EXAMPLES, tangent_kernel
from gapbench.models.trained import Trajectory

SOURCE = "arXiv:2605.01172, after Litman & Guo"


@measure(source=SOURCE, sign=+1, cost="iterative", invariances=("unit_permutation",), revision=2)
def path_loo_gap(
    path_held_out: Callable[[int], HeldOut],
    path_validity: float,
    trajectory: Trajectory,
    train: Split,
    *,
    folds: int = 0,
) -> Estimate:
    """The loss gap by leaving examples out of the path of training, along its own kernels; no data is held out.

    Formula: mean_i [l(U_i^{−f(i)}, y_i) − l(U_i(T), y_i)], U^{−f} the outputs of training without fold f, replayed in
    output space along the kernels K(t) of the real path (`hold_out`): G_Q with Q = fold f and S the other examples.
    ``folds`` 0: each example by itself if they have at most 320 outputs together, else 24 folds. Where the kernel does
    not move, this is true retraining, exactly. In the unit of the loss.
    The standard error is that of the mean over the examples.
    Raises: Undefined where the path cannot be followed or is not explained by its kernels.
    Sign: it estimates the gap. The kernels have seen the examples left out, so its value is expected to be too low. On
    a path of Adam's full-batch steps it is too high: their preconditioner is held, and would have adapted.
    """
    found, labels = path_held_out(folds), train.labels[: len(path_held_out(folds).trained)]
    after, before = (losses(outputs, labels, trajectory.loss) for outputs in (found.held_out, found.trained))
    return mean_estimate(after - before)


@measure(source=SOURCE, sign=+1, cost="iterative", invariances=("unit_permutation",), revision=2)
def path_loo_error_gap(
    path_held_out: Callable[[int], HeldOut], path_validity: float, train: Split, *, folds: int = 0
) -> Estimate:
    """The error gap by leaving examples out of the path of training, along its own kernels; no data is held out.

    Formula: as `path_loo_gap`, with the error 1[argmax U_i ≠ y_i] for the loss. A fraction.
    Raises, sign: as there.
    """
    found, labels = path_held_out(folds), train.labels[: len(path_held_out(folds).trained)]
    after, before = ((outputs.argmax(dim=1) != labels).double() for outputs in (found.held_out, found.trained))
    return mean_estimate(after - before)


@measure(source=SOURCE, sign=+1, cost="iterative", invariances=("unit_permutation",), revision=2)
def path_loo_soft_error_gap(
    path_held_out: Callable[[int], HeldOut],
    path_validity: float,
    trajectory: Trajectory,
    train: Split,
    *,
    folds: int = 0,
) -> Estimate:
    """The error gap of labels drawn from the softmax, by leaving examples out of the path of training.

    Formula: as `path_loo_gap`, with the error 1 − π_y of a label drawn from π = softmax(U_i) for the loss. A fraction;
    less coarse on few examples than the error of the argmax, and bounded where the loss is not.
    Raises: Undefined also where the loss is squared: its outputs are no logits. Sign: as there.
    """
    if trajectory.loss == "squared":
        raise Undefined("the outputs of a network trained on the squared loss are no logits")
    found, labels = path_held_out(folds), train.labels[: len(path_held_out(folds).trained)]
    after, before = (
        1 - outputs.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
        for outputs in (found.held_out, found.trained)
    )
    return mean_estimate(after - before)


def mean_estimate(values: Float[Tensor, " n"]) -> Estimate:
    """The mean, with its standard error."""
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


@measure(source=SOURCE, sign=+1, cost="iterative", invariances=("unit_permutation",), revision=2)
def path_end_loo_gap(final_held_out: HeldOut, trajectory: Trajectory, train: Split) -> Estimate:
    """`path_loo_gap` on a path whose kernel always was the final one: the leave-folds-out gap of the tangent model.

    Formula: as there, with K(T) for K(t) all along, whose time is that of the real path.
    Its difference from `path_loo_gap` shows how far the kernel turned on the way.
    Raises: Undefined where the path cannot be followed. Sign: it estimates the gap.
    """
    labels = train.labels[: len(final_held_out.trained)]
    outputs = (final_held_out.held_out, final_held_out.trained)
    after, before = (losses(output, labels, trajectory.loss) for output in outputs)
    return mean_estimate(after - before)


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",), revision=2)
def integrated_self_influence(path_rates: Rates, path_validity: float, train: Split) -> float:
    """What each example's own gradient did to its own loss, more than to that of the others, over the path.

    Formula: Γ = ∫ tr Σ(w(τ))/m dτ, Σ the unbiased covariance of the per-example gradients, m training examples; of
    all m it is Σ_k η_k [m/(m−1) Σ_i g_iᵀK_ii g_i − gᵀKg/(m−1)] with g = ∇Φ. In the unit of the loss.
    Sign: the training loss falls at the rate ‖ḡ‖², that of the population at that less tr Σ/m, so Γ is the gap that
    opens if each step saw fresh data. Under reuse it overshoots. Raises: Undefined where the path cannot be followed.
    """
    return path_rates.integral(path_rates.variance) / len(train)


@measure(source=SOURCE, sign=-1, invariances=("unit_permutation",), revision=2)
def population_risk_decrease(path_rates: Rates, path_validity: float) -> float:
    """By how much the loss of the population fell over the path, by the one-step U-statistic.

    Formula: ∫ mean_{a≠c} ∇l_a·∇l_c dτ = ∫ tr(ḡḡᵀ − Σ/(n−1)) dτ, n the path's examples. Unbiased at each step for
    fresh data; in the unit of the loss. Sign: more of the descent was shared by all examples, so the gap is smaller.
    Raises: Undefined where the path cannot be followed.
    """
    return path_rates.integral(path_rates.population_descent)


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",), revision=2)
def channel_dimension(path_channel: Channel) -> float:
    """The dimension of the signal channel: the degrees of freedom that training used.

    Formula: d = tr(I − P), P the propagator of output gradients along the path.
    Sign: frozen kernel and fixed design, label noise σ² gives a gap of σ² d/n. Raises: Undefined where the path cannot
    be followed.
    """
    return path_channel.dimension


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",), revision=2)
def channel_energy(path_channel: Channel) -> float:
    """The share of energy that training dissipates, summed over the directions of output space.

    Formula: Σ_j ω_j = N − ‖P‖_F²; for the squared loss ω_j = 2λ_j/n, λ_j the eigenvalues of the Gramian W.
    Sign: as `channel_dimension`. Raises: Undefined where the path cannot be followed.
    """
    return float(len(path_channel.propagator) - path_channel.propagator.square().sum())


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",), revision=2)
def channel_rank(path_channel: Channel, *, share: float = 0.5) -> float:
    """How many directions of output space lose more than half of their energy in training.

    Formula: #{j: ω_j > ``share``}, ω_j = 1 − s_j(P)², s_j the singular values of the propagator.
    Sign: as `channel_dimension`. Raises: Undefined where the path cannot be followed.
    """
    return float((1 - torch.linalg.svdvals(path_channel.propagator).square() > share).sum())


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",), revision=2)
def channel_dimension_final(final_channel: Channel) -> float:
    """`channel_dimension`, had the kernel always been the final one.

    Formula: tr(I − exp(−B K(T) Σ η)), B the curvature at the end. Sign, raises: as there.
    """
    return final_channel.dimension


def gcv_gap(loss: float, found: Channel) -> float:
    """Φ [(1 − d/N)⁻² − 1], N the directions that descent can move.

    Raises: Undefined where training used all of them.
    """
    left = 1 - found.dimension / found.directions
    if left <= 1e-9:
        raise Undefined(f"training used all {found.directions} directions (d = {found.dimension:.6g})")
    return loss * (left**-2 - 1)


@measure(source=SOURCE + ", with cravenwahba1979", sign=+1, invariances=("unit_permutation",), revision=2)
def trajectory_gcv_gap(
    path_channel: Channel, kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split
) -> float:
    """The loss gap by generalised cross-validation, with the degrees of freedom that training used.

    Formula: Φ(T) [(1 − d/N)⁻² − 1], d = `channel_dimension`, N the directions that the loss can see, Φ(T) the training
    loss on the path's examples. For cross-entropy it is an analogy. In the unit of the loss.
    Sign: it estimates the gap. Raises: Undefined where the path cannot be followed or d = N.
    """
    return gcv_gap(_final_loss(kernel_path, trajectory, train), path_channel)


@measure(source=SOURCE + ", with cravenwahba1979", sign=+1, invariances=("unit_permutation",), revision=2)
def path_end_gcv_gap(
    final_channel: Channel, kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split
) -> float:
    """`trajectory_gcv_gap`, had the kernel always been the final one. Formula, sign, raises: as there."""
    return gcv_gap(_final_loss(kernel_path, trajectory, train), final_channel)


def _loss(point: Point, trajectory: Trajectory, train: Split) -> float:
    return float(losses(point.outputs, train.labels[: len(point.outputs)], trajectory.loss).mean())


def _final_loss(points: tuple[Point, ...], trajectory: Trajectory, train: Split) -> float:
    return _loss(points[-1], trajectory, train)


@measure(source=SOURCE, sign=+1, cost="iterative", invariances=("unit_permutation",), revision=2)
def noise_transfer(kernel_path: tuple[Point, ...], path_validity: float, trajectory: Trajectory) -> float:
    """The variance of a prediction for each unit of label-noise variance, the path held fixed.

    Formula: ‖G_Q‖_F²/(|S|² |Q|), G_Q the transfer from output gradients on S to outputs on Q, S and Q the two halves of
    the examples. Sign: it is the variance that label noise adds to the test loss. Raises: Undefined where the path
    cannot be followed.
    """
    half = min(operator_examples(kernel_path), len(kernel_path[0].outputs) // 2)
    found = operators(kernel_path, trajectory.loss, half, half).probes
    assert found is not None
    return float(found.square().sum()) / half**3


@measure(source=SOURCE, sign=-1, control=True, invariances=("unit_permutation",), revision=2)
def reservoir_mass(
    path_channel: Channel, kernel_path: tuple[Point, ...], trajectory: Trajectory, train: Split
) -> float:
    """The share of the initial residual's energy that training left where it was: a control.

    Formula: ‖P g(0)‖²/‖g(0)‖², g the output gradients. For the squared loss it is Φ(T)/Φ(0) of descent on these
    examples: training loss in disguise. Sign: what stays in the reservoir cannot be seen at a test point.
    Raises: Undefined where the path cannot be followed.
    """
    outputs = kernel_path[0].outputs
    examples = len(path_channel.propagator) // outputs.shape[1]
    gradient = output_gradient(trajectory.loss, train.labels[:examples], train.classes)
    start = gradient(outputs[:examples].unsqueeze(2)).flatten()
    return float((path_channel.propagator @ start).square().sum() / start.square().sum())


@quantity(large=True, cost="gradient")
def tangent_gram_initial(evaluated_initial: nn.Module, train: Split) -> Float[Tensor, "N N"]:
    """The tangent kernel of the network at initialisation, as `tangent_gram`."""
    return tangent_kernel(evaluated_initial, train.inputs[:TANGENT_EXAMPLES].double())


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",))
def label_slow_mass(tangent_gram_initial: Tensor, tangent_labels: Tensor, *, cutoff: float = 0.01) -> float:
    """Fraction of the label energy in slow directions of the tangent kernel at initialisation.

    Formula: Σ_{j: λ_j < cutoff · λ_max} (v_jᵀ y)² / ‖y‖², y the centred label indicators, K(0) v_j = λ_j v_j.
    Sign: label energy in directions that the kernel hardly moves must be memorised. Raises: Undefined where K(0) = 0.
    """
    eigenvalues, vectors = torch.linalg.eigh(tangent_gram_initial)
    return slow_mass(eigenvalues, vectors, tangent_labels, cutoff)


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",))
def kernel_drift(tangent_gram: Tensor, tangent_gram_initial: Tensor) -> float:
    """How far the tangent kernel moved in training.

    Formula: ‖K(T) − K(0)‖_F/‖K(0)‖_F. Sign: harder labels move the kernel further. Raises: Undefined where K(0) = 0.
    """
    return float((tangent_gram - tangent_gram_initial).norm()) / _norm(tangent_gram_initial)


@measure(source=SOURCE, sign=+1, invariances=("unit_permutation",))
def kernel_rotation(tangent_gram: Tensor, tangent_gram_initial: Tensor) -> float:
    """How far the tangent kernel turned in training, its scale left out.

    Formula: 1 − ⟨K(T), K(0)⟩/(‖K(T)‖_F ‖K(0)‖_F). Sign: as `kernel_drift`. Raises: Undefined where a kernel is zero.
    """
    product = float((tangent_gram * tangent_gram_initial).sum())
    return 1 - product / (_norm(tangent_gram) * _norm(tangent_gram_initial))


def _norm(kernel: Tensor) -> float:
    norm = float(kernel.norm())
    if norm == 0:
        raise Undefined("the tangent kernel is zero")
    return norm
