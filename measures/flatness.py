"""Sharpness by one ascent or none: Keskar's box, the step of SAM, the gradient norm, relative flatness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import one_hot, softmax

from gapbench.measures.adversary import Adversary
from gapbench.measures.curvature import EXAMPLES_AT_ONCE
from gapbench.measures.functional import functional_logits
from gapbench.measures.registry import Estimate, Undefined, measure, quantity, variants

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from gapbench.datasets.spec import Split


@quantity(cost="gradient")
def loss_gradient(evaluated_float32: nn.Module, logits: Tensor, train: Split) -> Float[Tensor, " parameters"]:
    """The gradient of the mean training loss at all parameters, in nats.

    The residuals p − y, small where the loss is, are taken in float64 from the float64 logits, and scaled to at most 1;
    only their backward sweep is in float32, so the relative error is about 1e-6 at any loss, but where a unit is within
    rounding of a kink: float32 may take its other side for an example.
    """
    adversary = Adversary.of(evaluated_float32, train)
    residuals = (softmax(logits, dim=1) - one_hot(train.labels, train.classes)) / len(train)
    rows = torch.arange(len(logits))
    # p_y − 1 is minus the sum of the others, without the cancellation.
    residuals[rows, train.labels] = 0.0
    residuals[rows, train.labels] = -residuals.sum(dim=1)
    largest = float(residuals.abs().max())
    gradient = torch.zeros(len(adversary.weights), dtype=torch.float64)
    if largest == 0:
        return gradient
    at = adversary.weights.clone().requires_grad_()
    parts = (torch.split(part, EXAMPLES_AT_ONCE) for part in (adversary.sample.inputs, residuals / largest))
    for inputs, weights in zip(*parts):
        total = (functional_logits(evaluated_float32, at, inputs.to(at.dtype)) * weights.to(at.dtype)).sum()
        gradient += torch.autograd.grad(total, at)[0].double()
    return gradient * largest


@measure(source="keskar2017, eq. 4", sign=+1, cost="iterative")
def keskar(resolving_network: nn.Module, losses: Tensor, train: Split, *, epsilon: float = 1e-3) -> Estimate:
    """Keskar's sharpness: the largest rise of the training loss in a box around the weights, in percent of 1 + loss.

    Formula: 100 · (max L(w + z) − L(w)) / (1 + L(w)), |z_i| ≤ ε(|w_i| + 1), over all parameters (A = I in the paper).
    The maximum is sought by an ascent from the higher of two corners (`Adversary.corners`), on the first 128 examples
    if they are images, and its loss is that of the full training set: a lower estimate.
    Raises: Undefined where there is no direction to ascend.
    Sign: sharp minima are what large-batch training ends in, and generalise worse: larger predicts a larger gap.
    """
    whole = Adversary.of(resolving_network, train)
    few, half_widths = whole.scout(), epsilon * (whole.weights.abs() + 1)
    corner = max(few.corners(), key=lambda corner: few.loss(half_widths * corner))
    top, still = few.climb(corner, half_widths)
    loss = float(losses.mean())
    return Estimate(100 * max(whole.loss(half_widths * top) - loss, 0.0) / (1 + loss), 0.0, still)


variants(keskar, epsilon=(5e-4,))


@measure(source="foret2021, eq. 2", sign=+1, cost="gradient")
def sam_sharpness(
    resolving_network: nn.Module, loss_gradient: Tensor, losses: Tensor, train: Split, *, rho: float = 0.05
) -> float:
    """Rise of the training loss after one step of sharpness-aware minimisation up its gradient, in nats.

    Formula: L(w + ρ g/‖g‖_2) − L(w), g = ∇L(w), over the full training set. Raises: Undefined where g is zero.
    Sign: it is the first-order estimate of the sharpness in a PAC-Bayes bound, so larger predicts a larger gap.
    """
    norm = float(torch.linalg.vector_norm(loss_gradient))
    if norm == 0:
        raise Undefined("the gradient of the training loss is zero: the step has no direction")
    adversary = Adversary.of(resolving_network, train)
    step = (rho / norm * loss_gradient).to(adversary.weights.dtype)
    return adversary.loss(step) - float(losses.mean())


@measure(source="jiang2020, gradient norm at the end of training", sign=+1)
def gradient_norm(loss_gradient: Tensor) -> float:
    """Euclidean norm of the gradient of the mean training loss.

    Formula: ‖∇L(w)‖_2 over the full training set and all parameters.
    Sign: a steep loss changes much between samples and is far from a flat minimum, so larger predicts a larger gap.
    """
    return float(torch.linalg.vector_norm(loss_gradient))


@measure(source="petzka2021, def. 3", sign=+1, invariances=("example_permutation", "unit_permutation"), cost="forward")
def relative_flatness(evaluated_float32: nn.Module, logits: Tensor, train: Split) -> float:
    """Relative flatness of the last layer: the trace of its Hessian blocks weighted by products of its rows.

    Formula: Σ_{s,s'} ⟨w_s, w_s'⟩ tr H_{s,s'} = (1/m) Σ_i ‖φ_i‖² Σ_s p_is ‖w_s − w̄_i‖², w̄_i = Σ_s p_is w_s, with the
    inputs φ of the last layer and its rows w_s, biases left out. Unchanged when the last layer is scaled up and the one
    before it down (as a whole, not unit by unit). Raises: Undefined where the network does not end in a linear layer.
    Sign: it stands in the paper's bound on the gap, so larger (less flat) predicts a larger gap.
    """
    probabilities, sample = softmax(logits, dim=1), Adversary.of(evaluated_float32, train).sample
    total = 0.0
    for inputs, p in zip(*(torch.split(part, EXAMPLES_AT_ONCE) for part in (sample.inputs, probabilities))):
        weight, features = (found.double() for found in last_layer(evaluated_float32, inputs))
        # Σ_s p_s ‖w_s‖² − ‖w̄‖² would cancel where one p is nearly 1.
        away = torch.cdist(p @ weight, weight, compute_mode="donot_use_mm_for_euclid_dist").square()
        total += float((features.square().sum(dim=1) * (p * away).sum(dim=1)).sum())
    return total / len(train)


def last_layer(
    network: nn.Module, inputs: Float[Tensor, " n *shape"]
) -> tuple[Float[Tensor, "classes features"], Float[Tensor, "n features"]]:
    """The weight of the linear layer that a network ends in, and its inputs.

    Raises: Undefined where the network's output is not that of a linear layer on vectors.
    """
    seen: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def hook(module: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, given[0], output))

    handles = [module.register_forward_hook(hook) for module in network.modules() if isinstance(module, nn.Linear)]
    try:
        with torch.no_grad():
            logits = network(inputs.to(next(network.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
    for layer, features, output in seen:
        if output is logits and features.ndim == 2:
            return layer.weight.detach(), features
    raise Undefined("the network does not end in a linear layer")
