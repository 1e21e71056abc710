"""Rademacher bounds that do not grow with the width, nor one of them with the depth: logs of their complexities.

Each is ln of the bound's term over the margin, for one output: the number of classes (the factor of a vector
contraction), the Lipschitz constant of the loss and the confidence term are left out. They hold the sample size, so
they may be compared across sample sizes. In names that end in ``_operator`` a convolution is the linear map it is,
which is what the theorems speak of; elsewhere it is its kernel, reshaped.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.spec import Split
from gapbench.measures.group_norms import group_norms
from gapbench.measures.layers import Layer
from gapbench.measures.norms import log_product, nonzero
from gapbench.measures.registry import Undefined, measure


def _rows(train: Split) -> Float[Tensor, "examples inputs"]:
    rows = train.inputs.flatten(1).double()
    if not bool(rows.any()):
        raise Undefined("the training inputs are all zero")
    return rows


def _root_depth(norms: Tensor, margin: float, train: Split) -> float:
    scale = (math.sqrt(2 * math.log(2) * len(norms)) + 1) * float(torch.linalg.vector_norm(_rows(train))) / len(train)
    return log_product(norms) / 2 + math.log(scale) - math.log(margin)


@measure(source="golowich2018, theorem 1", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_golowich_frobenius(frobenius_norms: Float[Tensor, " layers"], margin: float, train: Split) -> float:
    """The log of the Rademacher bound by Frobenius norms that grows as the root of the depth (reshaped).

    Formula: ln[(√(2 ln2·d) + 1)·√(Σ_i ‖x_i‖²)·Π_j ‖W_j‖_F / (m γ)], in nats, d layers, m examples; at most
    B(√(2 ln2·d) + 1)Π_j ‖W_j‖_F/(γ√m) with ‖x‖ <= B. Raises: Undefined where γ <= 0, or a layer or every input is zero.
    Sign: it is the main term of a bound on the gap.
    """
    return _root_depth(frobenius_norms, margin, train)


@measure(source="golowich2018, theorem 1", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_golowich_frobenius_operator(
    operator_frobenius_norms: Float[Tensor, " layers"], margin: float, train: Split
) -> float:
    """The log of the Rademacher bound by Frobenius norms that grows as the root of the depth (operator).

    Formula: as `log_golowich_frobenius`, ‖A_j‖_F of the circular convolution. Raises: Undefined as there.
    Sign: it is the main term of a bound on the gap.
    """
    return _root_depth(operator_frobenius_norms, margin, train)


@measure(source="golowich2018, theorem 2", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_golowich_l1_inf(layers: tuple[Layer, ...], margin: float, train: Split) -> float:
    """The log of the Rademacher bound by L_{1,∞} norms that grows as the root of the depth.

    Formula: ln[2·√(d + 1 + ln n)·√(max_k Σ_i x_ik²)·Π_j max_u ‖w_ju‖₁ / (m γ)], in nats, d layers, n inputs, m
    examples; reshaped and operator norms agree where the kernel fits into its input.
    Raises: Undefined where γ <= 0, or a layer or every input is zero.
    Sign: it is the main term of a bound on the gap.
    """
    rows = _rows(train)
    largest = float(rows.square().sum(dim=0).max())
    scale = 2 * math.sqrt((len(layers) + 1 + math.log(rows.shape[1])) * largest) / len(rows)
    return float(nonzero(group_norms(layers, 1, math.inf)).log().sum()) + math.log(scale) - math.log(margin)


def _depth_independent(frobenius: Tensor, spectral: Tensor, margin: float, train: Split) -> float:
    examples = len(train)
    radius = float(_rows(train).norm(dim=1).max())
    log_ratio = (log_product(frobenius) - log_product(spectral)) / 2
    by_ratio = max(1.0, math.log(examples)) ** 0.75 * math.sqrt(max(1.0, log_ratio)) / examples**0.25
    by_depth = math.sqrt(len(frobenius) / examples)
    return log_product(frobenius) / 2 + math.log(radius * min(by_ratio, by_depth)) - math.log(margin)


@measure(source="golowich2018, corollary 1", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_golowich_depth_independent(
    frobenius_norms: Float[Tensor, " layers"], spectral_norms: Float[Tensor, " layers"], margin: float, train: Split
) -> float:
    """The log of the Rademacher bound by Frobenius norms that need not grow with the depth (reshaped).

    Formula: ln[(B/γ)·Π_j ‖W_j‖_F·min(L(ln m)^{3/4}·√L(ln(Π_j ‖W_j‖_F/Γ))/m^{1/4}, √(d/m))], in nats, L(z) = max(1, z),
    B the largest norm of a training input, Γ = Π_j ‖W_j‖₂ (the class is that of networks with at least this product of
    spectral norms, and Γ is the network's own). Universal constants are left out; as recalled.
    Raises: Undefined where γ <= 0, or a layer or every input is zero. Sign: it is the main term of a bound on the gap.
    """
    return _depth_independent(frobenius_norms, spectral_norms, margin, train)


@measure(source="golowich2018, corollary 1", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_golowich_depth_independent_operator(
    operator_frobenius_norms: Float[Tensor, " layers"],
    operator_spectral_norms: Float[Tensor, " layers"],
    margin: float,
    train: Split,
) -> float:
    """The log of the Rademacher bound by Frobenius norms that need not grow with the depth (operator).

    Formula: as `log_golowich_depth_independent`, both norms of the circular convolutions. Raises: Undefined as there.
    Sign: it is the main term of a bound on the gap.
    """
    return _depth_independent(operator_frobenius_norms, operator_spectral_norms, margin, train)


@measure(source="bartlett1998", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_bartlett1998_l1(layers: tuple[Layer, ...], margin: float, train: Split) -> float:
    """The log of the fat-shattering dimension at the margin, by the largest ℓ1 norm of a unit's weights.

    Formula: ln[½·(2A)^{d(d+1)}·γ^{−2d}·log2(2n + 2)], in nats, A = max_{j,u} ‖w_ju‖₁ over all units of the d layers, n
    inputs. The theorem is for sigmoid units of Lipschitz constant 1; the range of a unit, M in (2M/γ)^{2d}, is left out
    since ReLU has none (2M = 1). As recalled. `log_prod_l1_inf_over_margin` has the product over layers instead of A.
    Raises: Undefined where γ <= 0 or a layer is zero. Sign: the bound on the gap grows with the dimension.
    """
    depth = len(layers)
    largest = float(nonzero(group_norms(layers, 1, math.inf)).max())
    inputs = train.inputs[0].numel()
    return (
        depth * (depth + 1) * math.log(2 * largest)
        - 2 * depth * math.log(margin)
        + math.log(math.log2(2 * inputs + 2) / 2)
    )
