"""Products of group and Schatten norms over the margin, and the norm-based capacities of Neyshabur et al. (2017).

These are of plain norms, as published, where Jiang et al. square them. Convolutions are reshaped to out x in·kh·kw, so
that a row is a unit; biases are left out of the norms of a layer.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer
from gapbench.measures.norms import log_product, nonzero
from gapbench.measures.path import path_norm_l1
from gapbench.measures.registry import Undefined, measure, variants


def group_norms(layers: tuple[Layer, ...], p: float, q: float) -> Float[Tensor, " layers"]:
    """‖W_i‖_{p,q} of each layer: the ℓq norm, over units, of the ℓp norms of their incoming weights."""
    return torch.stack(
        [torch.linalg.vector_norm(torch.linalg.vector_norm(layer.matrix, ord=p, dim=1), ord=q) for layer in layers]
    )


def _log_over_margin(norms: Tensor, margin: float) -> float:
    return float(nonzero(norms).log().sum()) - math.log(margin)


@measure(
    source="neyshabur2015; neyshabur2017, published code (L_1inf norm)",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_prod_l1_inf_over_margin(layers: tuple[Layer, ...], margin: float) -> float:
    """The log of the product of the layers' L_{1,∞} norms over the margin.

    Formula: Σ_i ln max_j ‖w_ij‖₁ − ln γ, in nats, w_ij the incoming weights of unit j of layer i. A convolution has the
    same L_{1,∞} norm reshaped and as the linear map it is, where the kernel fits into its input; else it is larger
    reshaped. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the Rademacher complexity at margin γ grows with the ratio (bartlett1998; golowich2018, theorem 2).
    """
    return _log_over_margin(group_norms(layers, 1, math.inf), margin)


@measure(
    source="neyshabur2015; neyshabur2017, published code (L_3-1.5 norm)",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_prod_l3_l15_over_margin(layers: tuple[Layer, ...], margin: float) -> float:
    """The log of the product of the layers' L_{3,1.5} norms over the margin.

    Formula: Σ_i ln (Σ_j ‖w_ij‖₃^{1.5})^{2/3} − ln γ, in nats, w_ij the incoming weights of unit j of layer i: p = 3 and
    its dual q = 1.5, for which the bound does not grow with width. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the Rademacher complexity at margin γ grows with the ratio, as m^{−1/3}.
    """
    return _log_over_margin(group_norms(layers, 3, 1.5), margin)


@measure(
    source="neyshabur2017, published code (Trace norm and L_1.5 operator norm)",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_prod_schatten_over_margin(singular_values: list[Tensor], margin: float, *, p: float = 1.0) -> float:
    """The log of the product of the layers' Schatten norms over the margin; p = 1 is the trace norm.

    Formula: Σ_i ln (Σ_k s_ik^p)^{1/p} − ln γ, in nats, s_ik the singular values of layer i (reshaped).
    Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the product bounds that of the spectral norms, and so the Lipschitz constant at unit margin.
    """
    return _log_over_margin(torch.stack([torch.linalg.vector_norm(s, ord=p) for s in singular_values]), margin)


variants(log_prod_schatten_over_margin, p=(1.5,))


@measure(source="neyshabur2017, ℓ2 norm", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_l2_capacity(frobenius_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the capacity of the ball of the layers' Frobenius norms.

    Formula: ln[(1/γ²) Π_i 4‖W_i‖_F²], in nats, with the factor of 4 a layer of neyshabur2015; as recalled.
    Raises: Undefined where γ <= 0 or a layer is zero. Sign: the uniform bound on the gap is the root of it over m.
    """
    return log_product(2 * frobenius_norms) - 2 * math.log(margin)


@measure(
    source="neyshabur2017, ℓ1-path norm; bartlett2002",
    sign=+1,
    invariances=("rescaling", "unit_permutation", "example_permutation"),
)
def log_l1_path_capacity(folded: nn.Module, layers: tuple[Layer, ...], margin: float, train: Split) -> float:
    """The log of the capacity of the ball of the ℓ1 path norm.

    Formula: ln[(1/γ²)(2^d Σ_paths Π|w|)²], in nats, d weight layers, the sum as in `path_norm_l1` (with paths from
    biases, which the paper has not); as recalled. Raises: Undefined where γ <= 0 or no path, or as `path_norm_l1`.
    Sign: the uniform bound on the gap is the root of it over m.
    """
    return 2 * (_log_paths(path_norm_l1(folded, train)) + len(layers) * math.log(2) - math.log(margin))


@measure(
    source="neyshabur2017, ℓ2-path norm",
    sign=+1,
    invariances=("rescaling", "unit_permutation", "example_permutation"),
)
def log_l2_path_capacity(path_sum_of_squares: float, layers: tuple[Layer, ...], margin: float) -> float:
    """The log of the capacity of the ball of the ℓ2 path norm.

    Formula: ln[(1/γ²) Π_i 4h_i · Σ_paths Π w²], in nats, h_i the units (channels) of layer i, the sum as in
    `path_norm`; as recalled. Raises: Undefined where γ <= 0 or no path, or as `path_norm`.
    Sign: the uniform bound on the gap is the root of it over m.
    """
    widths = sum(math.log(4 * layer.matrix.shape[0]) for layer in layers)
    return _log_paths(path_sum_of_squares) + widths - 2 * math.log(margin)


@measure(
    source="neyshabur2017, spectral norm",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_spectral_capacity(spectral_norms: Float[Tensor, " layers"], layers: tuple[Layer, ...], margin: float) -> float:
    """The log of the capacity by the layers' spectral norms and widths (reshaped).

    Formula: ln[(1/γ²) Π_i h_i ‖W_i‖₂²], in nats, h_i the units (channels) of layer i; as recalled.
    Raises: Undefined where γ <= 0 or a layer is zero. Sign: the uniform bound on the gap is the root of it over m.
    """
    widths = sum(math.log(layer.matrix.shape[0]) for layer in layers)
    return log_product(spectral_norms) + widths - 2 * math.log(margin)


def _log_paths(total: float) -> float:
    if total <= 0:
        raise Undefined("no path of nonzero weights leads to an output")
    return math.log(total)
