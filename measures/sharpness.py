"""Sharpness: how much the mean training loss rises when the weights move, on average or at worst; and its Hessian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures.ascent import worst_rise
from gapbench.measures.curvature import (
    EXAMPLES_AT_ONCE,
    Terms,
    mean_loss_terms,
    normalised,
    value,
)
from gapbench.measures.functional import functional_logits
from gapbench.measures.perturbation import mean_standard_error
from gapbench.measures.quantities import CONVOLVED_EXAMPLES, convolves
from gapbench.measures.registry import Estimate, measure, quantity, variants
from gapbench.measures.weight_noise import Noise, NoisyNetwork

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


NOISY_EVALUATIONS = 2048
"""An average sharpness is a mean over at least this many noisy losses of an example, and four for each example."""


SCOUTED_EXAMPLES = 32
"""Of a convolutional network on `CONVOLVED_EXAMPLES`, ascents are first sought on so many, and compared on all."""


@quantity(large=True, cost="gradient")
def class_gradients(
    curvature_network: nn.Module, curvature_parameters: Tensor, curvature_sample: Split
) -> Float[Tensor, "classes parameters"]:
    """The gradients of the mean centred logits, (1/m) Σ_i (f_c − mean_k f_k)(x_i), at all parameters.

    A step along one turns all examples towards one class. Where the training loss is near zero, its own gradient is
    that of few examples and says little of what lies around.
    """
    at = curvature_parameters.detach().clone().requires_grad_()
    gradients = torch.zeros(curvature_sample.classes, len(at), dtype=at.dtype)
    for inputs in torch.split(curvature_sample.inputs.to(at.dtype), EXAMPLES_AT_ONCE):
        outputs = functional_logits(curvature_network, at, inputs)
        means = (outputs - outputs.mean(dim=1, keepdim=True)).sum(dim=0) / len(curvature_sample)
        for row, mean in zip(gradients, means, strict=True):
            row += torch.autograd.grad(mean, at, retain_graph=True)[0]
    return gradients


@measure(source="andriushchenko2023, average-case sharpness", sign=+1, cost="forward", revision=2)
def average_sharpness_l2(
    curvature_network: nn.Module,
    curvature_logits: Tensor,
    curvature_sample: Split,
    rng: torch.Generator,
    *,
    rho: float = 0.05,
) -> Estimate:
    """Mean rise of the training loss under Gaussian noise on the weights, in nats.

    Formula: E L(w + u) − L(w), u ~ N(0, ρ² I), over `curvature_sample`.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    return average_rise_of_network(curvature_network, curvature_logits, curvature_sample, Noise(rho), rng)


@measure(
    source="andriushchenko2023, average-case adaptive sharpness",
    sign=+1,
    invariances=("rescaling",),
    cost="forward",
    revision=2,
)
def average_adaptive_sharpness_l2(
    curvature_network: nn.Module,
    curvature_logits: Tensor,
    curvature_sample: Split,
    rng: torch.Generator,
    *,
    rho: float = 0.2,
    normalise_logits: bool = False,
) -> Estimate:
    """Mean rise of the training loss under noise in proportion to the weights, in nats.

    Formula: E L(w + u) − L(w), u_i ~ N(0, ρ² w_i²). ``normalise_logits``: L is taken on logits centred and divided by
    their norm. Unchanged, draw by draw, when a ReLU unit's incoming weights are scaled up and its outgoing ones down.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    return average_rise_of_network(
        curvature_network,
        curvature_logits,
        curvature_sample,
        Noise(0.0, rho),
        rng,
        normalise_logits=normalise_logits,
    )


_EXACT = ("unit_permutation", "example_permutation")


@measure(source="andriushchenko2023, worst-case sharpness", sign=+1, invariances=_EXACT, cost="iterative", revision=3)
def worst_sharpness_l2(
    curvature_network: nn.Module,
    curvature_parameters: Tensor,
    curvature_sample: Split,
    class_gradients: Tensor,
    *,
    rho: float = 0.5,
) -> Estimate:
    """Largest rise of the training loss in a Euclidean ball around the weights, in nats.

    Formula: max L(w + u) − L(w), ‖u‖_2 ≤ ρ, over all of `curvature_sample` at once; sought by `worst_rise`, whose
    value is a lower estimate of the maximum; of a convolutional network on 128 examples its first ascents are on 32.
    Raises: Undefined where nothing has a direction to ascend.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    terms, scout = _terms(curvature_network, curvature_sample)
    scale = torch.ones_like(curvature_parameters)
    return worst_rise(terms, curvature_parameters, scale, rho, "l2", class_gradients, scout)


@measure(source="andriushchenko2023, worst-case sharpness", sign=+1, invariances=_EXACT, cost="iterative", revision=3)
def worst_sharpness_linf(
    curvature_network: nn.Module,
    curvature_parameters: Tensor,
    curvature_sample: Split,
    class_gradients: Tensor,
    *,
    rho: float = 0.002,
) -> Estimate:
    """Largest rise of the training loss in a box around the weights, in nats.

    Formula: max L(w + u) − L(w), |u_i| ≤ ρ, over all of `curvature_sample` at once; sought by `worst_rise`, whose
    value is a lower estimate of the maximum. Raises: Undefined where nothing has a direction to ascend.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    terms, scout = _terms(curvature_network, curvature_sample)
    scale = torch.ones_like(curvature_parameters)
    return worst_rise(terms, curvature_parameters, scale, rho, "linf", class_gradients, scout)


@measure(
    source="andriushchenko2023, worst-case adaptive sharpness",
    sign=+1,
    invariances=("rescaling", *_EXACT),
    cost="iterative",
    revision=3,
)
def worst_adaptive_sharpness_l2(
    curvature_network: nn.Module,
    curvature_parameters: Tensor,
    curvature_sample: Split,
    class_gradients: Tensor,
    *,
    rho: float = 0.5,
    normalise_logits: bool = False,
) -> Estimate:
    """Largest rise of the training loss in an ellipsoid with the weights as semi-axes, in nats.

    Formula: max L(w + u) − L(w), ‖u / |w|‖_2 ≤ ρ, sought by `worst_rise`, whose value is a lower estimate of
    the maximum; ``normalise_logits`` as in the average case. Raises: Undefined where nothing has a direction to ascend.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    terms, scout = _terms(curvature_network, curvature_sample, normalise_logits=normalise_logits)
    scale = curvature_parameters.abs()
    return worst_rise(terms, curvature_parameters, scale, rho, "l2", class_gradients, scout)


@measure(
    source="andriushchenko2023, worst-case adaptive sharpness",
    sign=+1,
    invariances=("rescaling", *_EXACT),
    cost="iterative",
    revision=3,
)
def worst_adaptive_sharpness_linf(
    curvature_network: nn.Module,
    curvature_parameters: Tensor,
    curvature_sample: Split,
    class_gradients: Tensor,
    *,
    rho: float = 0.01,
    normalise_logits: bool = False,
) -> Estimate:
    """Largest rise of the training loss in a box with sides in proportion to the weights, in nats.

    Formula: max L(w + u) − L(w), |u_i| ≤ ρ |w_i|, sought by `worst_rise`, whose value is a lower estimate of
    the maximum; ``normalise_logits`` as in the average case. Raises: Undefined where nothing has a direction to ascend.
    Sign: a flat minimum needs a less precise description, so a larger rise predicts a larger gap.
    """
    terms, scout = _terms(curvature_network, curvature_sample, normalise_logits=normalise_logits)
    scale = curvature_parameters.abs()
    return worst_rise(terms, curvature_parameters, scale, rho, "linf", class_gradients, scout)


@measure(source="keskar2017, sharpness as curvature", sign=+1, invariances=_EXACT, revision=2)
def hessian_top(top_eigenvalue: Estimate) -> Estimate:
    """Largest (algebraic) eigenvalue of the Hessian of the mean training loss.

    Formula: λ_max(∇² L(w)), L over `curvature_sample`, by Lanczos to a relative residual of 1e-3.
    Sign: a sharp minimum moves much between samples, so larger predicts a larger gap.
    """
    return top_eigenvalue


@measure(source="keskar2017, sharpness as curvature", sign=+1, revision=2)
def hessian_trace(trace: Estimate) -> Estimate:
    """Trace of the Hessian of the mean training loss.

    Formula: tr ∇² L(w), L over `curvature_sample`; exact where every activation is piecewise linear or there are at
    most 2,000 parameters, else by Hutchinson's estimator to a standard error of 5 %.
    Sign: a sharp minimum moves much between samples, so larger predicts a larger gap.
    """
    return trace


variants(average_adaptive_sharpness_l2, normalise_logits=(True,))
variants(worst_adaptive_sharpness_linf, normalise_logits=(True,))


def _terms(network: nn.Module, sample: Split, *, normalise_logits: bool = False) -> tuple[Terms, Terms | None]:
    """The mean loss on a sample, and, where the network convolves and the sample was cut, on few of its examples."""
    few = Split(sample.inputs[:SCOUTED_EXAMPLES], sample.labels[:SCOUTED_EXAMPLES], sample.classes)
    terms, scout = (mean_loss_terms(network, part, normalise_logits=normalise_logits) for part in (sample, few))
    return terms, scout if convolves(network) and len(sample) >= CONVOLVED_EXAMPLES else None


def average_rise(
    terms: Terms, point: Float[Tensor, " p"], deviation: Float[Tensor, " p"], rng: torch.Generator, *, pairs: int
) -> Estimate:
    """E L(w + s ∘ z) − L(w), z standard normal, of any loss of a flat vector; the network's naive twin."""
    start = value(terms, point)
    steps = deviation * torch.randn(pairs, len(point), dtype=point.dtype, generator=rng)
    rises = [(value(terms, point + step) + value(terms, point - step)) / 2 - start for step in steps]
    return Estimate(sum(rises) / pairs, float(torch.tensor(rises).std()) / math.sqrt(pairs))


def average_rise_of_network(
    network: nn.Module,
    logits: Float[Tensor, "n classes"],
    train: Split,
    noise: Noise,
    rng: torch.Generator,
    *,
    normalise_logits: bool = False,
) -> Estimate:
    """E L(w + u) − L(w) of the mean training loss, each example with noise of its own (see `NoisyNetwork`).

    Draws come in pairs u, −u, which cancels the linear part of the rise and its variance.
    """
    inputs, labels = train.inputs.to(logits.dtype), train.labels
    noisy = NoisyNetwork(network, inputs[:1])
    pairs = max(2, math.ceil(NOISY_EVALUATIONS / (2 * len(train))))
    turns = pairs
    if noisy.examples_a_draw == 1:  # no two rows share noise, so all draws can be made together
        inputs, labels, turns = inputs.repeat(pairs, *[1] * (inputs.ndim - 1)), labels.repeat(pairs), 1

    def losses(outputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(normalised(outputs) if normalise_logits else outputs, labels, reduction="none")

    def pair() -> Tensor:
        state = rng.get_state()
        there = losses(noisy.logits(inputs, noise, rng), labels)
        rng.set_state(state)
        return (there + losses(noisy.logits(inputs, noise, rng, sign=-1.0), labels)) / 2

    rises = torch.cat([pair() for _ in range(turns)]).view(pairs, -1) - losses(logits, train.labels)
    return Estimate(float(rises.mean()), mean_standard_error(rises, noisy.examples_a_draw))
