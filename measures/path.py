"""Path norms and the Fisher–Rao norm: capacities that a rescaling of units leaves alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot, softmax

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer
from gapbench.measures.piecewise_linear import operation_off_paths
from gapbench.measures.registry import Undefined, measure, per_sample, quantity


def _path_sum(folded: nn.Module, train: Split, of: Callable[[Tensor], Tensor]) -> float:
    """The summed outputs, at an all-ones input, of a copy whose weights and biases are all replaced by ``of(·)``."""
    ones = torch.ones(1, *train.inputs.shape[1:], dtype=torch.float64)
    strange = operation_off_paths(folded, ones, maxima=True)
    if strange is not None:
        raise Undefined(f"path norms need weights, ReLU, pooling and sums only; the network computes {strange}")
    network = copy.deepcopy(folded)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(of(parameter))
        total = network(ones).sum()
    return float(total)


@quantity
def path_sum_of_squares(folded: nn.Module, train: Split) -> float:
    """Σ over paths of the product of squared weights, each path from an input or a bias to an output.

    Raises: Undefined where the graph has an operation that is neither linear, ReLU, pooling nor a sum.
    """
    return _path_sum(folded, train, torch.square)


@measure(
    source="jiang2020, eq. 44; neyshabur2015pathsgd",
    sign=+1,
    invariances=("rescaling", "unit_permutation", "example_permutation"),
)
def path_norm(path_sum_of_squares: float) -> float:
    """The ℓ2 path norm.

    Formula: √(Σ_c f_{w²}(1)_c): square every weight and bias, forward an all-ones input in evaluation mode, sum the
    outputs, take the root (Jiang et al.'s convention; max-pooling is applied to the squared network as it stands).
    Raises: Undefined where the graph has an operation that is neither linear, ReLU, pooling nor a sum.
    Sign: the Rademacher complexity grows with the path norm.
    """
    return math.sqrt(path_sum_of_squares)


@measure(source="jiang2020, eq. 43", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def path_norm_over_margin(path_sum_of_squares: float, margin: float) -> float:
    """The squared ℓ2 path norm over the squared margin.

    Formula: Σ_c f_{w²}(1)_c / γ². Raises: Undefined where γ <= 0, or as `path_norm`.
    Sign: the Rademacher complexity at margin γ grows with the ratio.
    """
    return path_sum_of_squares / margin**2


per_sample(path_norm_over_margin)


@measure(source="neyshabur2015", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def path_norm_l1(folded: nn.Module, train: Split) -> float:
    """The ℓ1 path norm.

    Formula: Σ_c f_{|w|}(1)_c, with the absolute value of every weight and bias. Raises: Undefined as `path_norm`.
    Sign: the ℓ1 path norm bounds the per-unit ℓ1 complexity of the network.
    """
    return _path_sum(folded, train, torch.abs)


@measure(source="liang2019", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def fisher_rao(logits: Float[Tensor, "examples classes"], train: Split, layers: tuple[Layer, ...]) -> float:
    """The squared Fisher–Rao norm of a network of d weight layers, with the empirical Fisher matrix.

    Formula: d²·(1/m) Σ_i ⟨∂l_i/∂f, f(x_i)⟩², ∂l/∂f = softmax(f) − e_y. It equals E⟨w, ∂l/∂w⟩² where the network is
    homogeneous of degree d in its weights: ReLU and pooling, no biases. The paper's (d+1)² counts d hidden
    layers, as recalled.
    Raises: nothing. Sign: the Rademacher complexity of a Fisher–Rao ball grows with its radius.
    """
    residuals = softmax(logits, dim=1) - one_hot(train.labels, logits.shape[1])
    return len(layers) ** 2 * float((residuals * logits).sum(dim=1).square().mean())


per_sample(fisher_rao)
