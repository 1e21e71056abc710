"""Stability: how much a trained network depends on its seed, and the bounds by the stability of gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.features import features as features_of
from gapbench.measures.gauss_newton import squared_loss_gradient_norms
from gapbench.measures.outputs import Outputs, outputs_of
from gapbench.measures.quantities import channels_last, in_float32
from gapbench.measures.quantities import evaluated as evaluated_of
from gapbench.measures.registry import Estimate, Undefined, measure, quantity
from gapbench.models.trained import History, Trained

_FUNCTION = ("rescaling", "unit_permutation", "example_permutation", "example_duplication")

GRADIENT_EXAMPLES = 128
"""Gradients of single examples are taken of this many training examples, the first ones …"""
GRADIENTS_AT_ONCE = 32
"""… this many at a time: for a convolution their patches are held."""

TEST_EXAMPLES = 1000
"""Test inputs that are looked at, the first ones."""


@quantity(cost="second run")
def seed_networks(curvature_network: nn.Module, seed_twins: Sequence[Trained], train: Split) -> tuple[nn.Module, ...]:
    """The seed twins, in the form and precision of `curvature_network`: how seeds differ is far above rounding."""
    single = next(curvature_network.parameters()).dtype == torch.float32
    twins = (evaluated_of(twin.network, train) for twin in seed_twins)
    return tuple(in_float32(twin) if single else twin for twin in twins)


@quantity(cost="second run")
def seed_outputs(seed_networks: tuple[nn.Module, ...], train: Split) -> tuple[Outputs, ...]:
    """The `Outputs` of the seed twins on the training examples, in the precision of `seed_networks`."""
    return tuple(outputs_of(network, train) for network in seed_networks)


@quantity(cost="second run")
def seed_logits(
    logits: Float[Tensor, "examples classes"], seed_outputs: tuple[Outputs, ...]
) -> Float[Tensor, "seeds examples classes"]:
    """The outputs on the training examples of the network, first, and of its seed twins."""
    return torch.stack([logits, *(outputs.logits.double() for outputs in seed_outputs)])


@measure(source="neal2018, section 3", sign=+1, invariances=_FUNCTION, cost="second run")
def prediction_variance(seed_logits: Tensor) -> float:
    """The variance of the class probabilities over seeds.

    Formula: (1/m) Σ_i Σ_c Var_s p_s(c | x_i), over training examples, the variance over this run and its seed twins
    without bias (divided by their number less one). The paper takes test examples, and draws the training sample anew
    too; here it is the part of the variance that is due to optimisation. As recalled.
    Raises: Undefined where there is no seed twin.
    Sign: it is the variance term of the expected test error, so larger predicts a larger gap.
    """
    return float(torch.softmax(seed_logits, dim=2).var(dim=0).sum(dim=1).mean())


@measure(source="jiang2022, on training examples", sign=+1, invariances=_FUNCTION, cost="second run")
def train_disagreement(seed_logits: Tensor) -> float:
    """The share of training examples that another seed classifies otherwise.

    Formula: the mean over the seed twins s of (1/m) #{i: argmax f(x_i) ≠ argmax f_s(x_i)}.
    Raises: Undefined where there is no seed twin.
    Sign: two seeds that disagree cannot both be right, so more predicts a larger gap.
    """
    return _disagreement(seed_logits)


@measure(source="jiang2022", sign=+1, uses_unlabelled_test_inputs=True, invariances=_FUNCTION, cost="second run")
def test_disagreement(
    curvature_network: nn.Module, seed_networks: tuple[nn.Module, ...], unlabelled_test_inputs: Tensor
) -> float:
    """The share of unlabelled test inputs that another seed classifies otherwise.

    Formula: as `train_disagreement`, over the first 1000 test inputs. Where the ensemble of seeds is
    calibrated, its expectation is the test error itself. It sees test inputs, so it is listed apart and not ranked.
    Raises: Undefined where there is no seed twin.
    Sign: it estimates the test error.
    """
    networks = (curvature_network, *seed_networks)
    dtype = next(curvature_network.parameters()).dtype
    inputs = channels_last(unlabelled_test_inputs[:TEST_EXAMPLES].to(dtype))
    with torch.no_grad():
        return _disagreement(torch.stack([network(inputs) for network in networks]))


@measure(
    source="kornblith2019, linear CKA",
    sign=+1,
    invariances=("unit_permutation", "example_permutation", "example_duplication"),
    cost="second run",
)
def twin_distance(features: Float[Tensor, "examples features"], seed_outputs: tuple[Outputs, ...]) -> float:
    """How differently another seed represents the training sample in its last hidden layer.

    Formula: the mean over the seed twins of 1 − CKA, CKA = ‖YᵀX‖_F² / (‖XᵀX‖_F ‖YᵀY‖_F), X and Y the inputs of the
    last linear layer, centred over the training examples.
    Raises: Undefined where there is no seed twin, or the features are the same for all examples.
    Sign: what the data determine, all seeds learn; what differs comes from the draw: larger predicts a larger gap.
    """
    distances = [1 - linear_cka(features, features_of(outputs).double()) for outputs in seed_outputs]
    return sum(distances) / len(distances)


@quantity(cost="gradient")
def gradient_norm_bound(evaluated: nn.Module, evaluated_initial: nn.Module, train: Split) -> float:
    """The largest ‖∇l_i‖₂ among the first 128 training examples, at the initial and at the trained parameters.

    l_i is the cross-entropy of example i. It is a lower estimate of the Lipschitz constant L of the loss.
    """
    few = Split(train.inputs[:GRADIENT_EXAMPLES], train.labels[:GRADIENT_EXAMPLES], train.classes)
    return max(float(loss_gradient_norms(network, few).max()) for network in (evaluated, evaluated_initial))


@measure(source="hardt2016, theorem 3.12", sign=+1, invariances=("unit_permutation",), cost="iterative")
def hardt_uniform_stability(
    history: History, gradient_norm_bound: float, top_eigenvalue: Estimate, train: Split
) -> Estimate:
    """Uniform stability of stochastic gradient descent on a non-convex loss, after Hardt, Recht & Singer.

    Formula: (1 + 1/(βc))/(m − 1) · (2cL²)^{1/(βc+1)} · T^{βc/(βc+1)} for T steps of sizes α_t ≤ c/t; c is the least
    such constant, max_t tα_t, over the ends of epochs, α_t the effective step size of `History`, L the largest gradient
    norm of an example at the two ends of training, β the top Hessian eigenvalue of the mean loss at the end. As
    recalled, and derived again from the recursion of its proof.
    L and β are lower estimates, the cross-entropy is not within [0, 1] as the theorem asks, and its steps see one
    example each: the value ranks, and bounds nothing.
    Raises: Undefined where the step sizes were not kept, no step was taken, L = 0, β ≤ 0, or m < 2.
    Sign: it is the bound itself.
    """
    sizes, steps = _step_sizes(history)
    beta, norm, examples = top_eigenvalue.value, gradient_norm_bound, len(train)
    if beta <= 0 or norm == 0 or examples < 2:
        raise Undefined(f"the bound needs β > 0, L > 0 and m > 1, not {beta:.4g}, {norm:.4g} and {examples}")
    schedule, total = float((sizes * steps).max()), float(steps[-1])

    def bound(smoothness: float) -> float:
        growth = smoothness * schedule
        scale: float = (2 * schedule * norm**2) ** (1 / (growth + 1)) * total ** (growth / (growth + 1))
        return (1 + 1 / growth) / (examples - 1) * scale

    spread = min(top_eigenvalue.standard_error, beta / 2)
    error = abs(bound(beta + spread) - bound(beta - spread)) / 2
    return Estimate(bound(beta), error, top_eigenvalue.converged)


@measure(source="hardt2016, theorem 3.8", sign=+1, invariances=("unit_permutation",), cost="gradient")
def hardt_convex_stability(history: History, gradient_norm_bound: float, train: Split) -> float:
    """Uniform stability of stochastic gradient descent, as if the loss were convex, after Hardt, Recht & Singer.

    Formula: (2L²/m) Σ_t α_t, α_t and L as `hardt_uniform_stability`. As recalled.
    Raises: Undefined where the step sizes were not kept or no step was taken. Sign: it is the bound itself.
    """
    _step_sizes(history)
    assert history.step_size is not None
    return 2 * gradient_norm_bound**2 / len(train) * float(history.step_size[-1])


def _step_sizes(history: History) -> tuple[Float[Tensor, " epochs"], Float[Tensor, " epochs"]]:
    """The effective size of the steps of each epoch, and the number of steps at its end."""
    if history.step_size is None:
        raise Undefined("the step sizes were not kept with this run")
    if len(history.steps) < 2:
        raise Undefined("the network was not trained: no optimiser step was taken")
    return history.step_size.diff() / history.steps.diff(), history.steps[1:]


def _disagreement(logits: Float[Tensor, "seeds examples classes"]) -> float:
    """The share of examples that the first network and another put in different classes, over the others."""
    classes = logits.argmax(dim=2)
    return float((classes[1:] != classes[0]).double().mean())


def linear_cka(left: Float[Tensor, "examples p"], right: Float[Tensor, "examples q"]) -> float:
    """Centred kernel alignment of two representations of the same examples, with linear kernels.

    Raises: Undefined where one is constant.
    """
    left, right = left - left.mean(dim=0), right - right.mean(dim=0)
    scale = float((left.T @ left).norm() * (right.T @ right).norm())
    if scale == 0:
        raise Undefined("the features are the same for all training examples")
    return float((right.T @ left).square().sum()) / scale


def loss_gradient_norms(network: nn.Module, sample: Split) -> Float[Tensor, " examples"]:
    """‖∇l_i‖₂ of the cross-entropy of each example with respect to all parameters of a float64 network."""
    return squared_loss_gradient_norms(network, sample).sqrt()
