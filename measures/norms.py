"""Norms of the weights and their distances from initialisation, up to margin-normalised products.

Products and sums over layers are of squared norms, as in Jiang et al. (2020); biases belong to the norms over all
parameters and not to those of a layer.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.measures.registry import LayerSum, Undefined, measure, per_sample


def nonzero(norms: Float[Tensor, " layers"]) -> Float[Tensor, " layers"]:
    """These norms of layers, none of them zero.

    Raises: Undefined where one is: neither its logarithm nor a ratio to it exists.
    """
    if not bool(norms.all()):
        place = int((norms == 0).nonzero()[0])
        raise Undefined(f"the weights of layer {place + 1} of {len(norms)} are all zero")
    return norms


def log_product(norms: Float[Tensor, " layers"]) -> LayerSum:
    """Σ_i ln‖W_i‖², in nats. Raises: Undefined where a norm is zero."""
    logarithms = nonzero(norms).log()
    return LayerSum(2 * float(logarithms.sum()), (2 * logarithms).tolist())


def sum_of_squares(norms: Float[Tensor, " layers"]) -> LayerSum:
    """Σ_i ‖W_i‖²."""
    squares = norms.square()
    return LayerSum(float(squares.sum()), squares.tolist())


def log_sum(log_product: float, depth: int) -> float:
    """ln[d·P^{1/d}] of a product P of squared norms over d layers: the sum of squares once the layers are balanced."""
    return math.log(depth) + log_product / depth


@measure(source="dziugaite2020, published code (L2)", sign=+1, invariances=("unit_permutation", "example_permutation"))
def l2(parameters: Float[Tensor, " parameters"]) -> float:
    """The Euclidean norm of all parameters, biases included (the published code leaves them out).

    Formula: ‖w‖₂. Raises: nothing. Sign: a larger ball of parameters holds more functions.
    """
    return float(torch.linalg.vector_norm(parameters))


@measure(
    source="nagarajan2019, distance from initialisation; dziugaite2020, published code (L2_DIST)",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def l2_distance(parameters: Float[Tensor, " parameters"], initial_parameters: Float[Tensor, " parameters"]) -> float:
    """The Euclidean distance of all parameters from initialisation, biases included.

    Formula: ‖w − w0‖₂; the published code leaves the biases out. Raises: nothing.
    Sign: training that moved farther could have reached more functions.
    """
    return float(torch.linalg.vector_norm(parameters - initial_parameters))


@measure(source="jiang2020, eq. 42", sign=+1, invariances=("unit_permutation", "example_permutation"))
def param_norm(frobenius_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The sum of the layers' squared Frobenius norms.

    Formula: Σ_i ‖W_i‖_F². Raises: nothing. Sign: a larger ball of weights holds more functions.
    """
    return sum_of_squares(frobenius_norms)


per_sample(param_norm)


@measure(source="jiang2020, eq. 40", sign=+1, invariances=("unit_permutation", "example_permutation"))
def frobenius_distance(distance_frobenius_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The sum of the layers' squared Frobenius distances from initialisation.

    Formula: Σ_i ‖W_i − W_i0‖_F². Raises: nothing. Sign: training that moved farther could have reached more functions.
    """
    return sum_of_squares(distance_frobenius_norms)


per_sample(frobenius_distance)


@measure(source="jiang2020, eq. 41", sign=+1, invariances=("unit_permutation", "example_permutation"))
def spectral_distance(distance_spectral_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The sum of the layers' squared spectral distances from initialisation (convolutions reshaped).

    Formula: Σ_i ‖W_i − W_i0‖₂². Raises: nothing. Sign: training that moved farther could have reached more functions.
    """
    return sum_of_squares(distance_spectral_norms)


@measure(
    source="jiang2020, eq. 37; neyshabur2015",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_prod_frobenius(frobenius_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The log of the product of the layers' squared Frobenius norms.

    Formula: Σ_i ln‖W_i‖_F², in nats. Raises: Undefined where a layer is zero.
    Sign: the Rademacher complexity grows with the product.
    """
    return log_product(frobenius_norms)


@measure(
    source="jiang2020, eq. 36; neyshabur2015",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_prod_frobenius_over_margin(frobenius_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the product of the layers' squared Frobenius norms over the squared margin.

    Formula: Σ_i ln‖W_i‖_F² − 2 ln γ, in nats. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the Rademacher complexity at margin γ grows with the ratio.
    """
    return log_product(frobenius_norms) - 2 * math.log(margin)


@measure(source="jiang2020, eq. 39", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_frobenius(frobenius_norms: Float[Tensor, " layers"]) -> float:
    """The log of the sum of squared Frobenius norms after balancing the layers.

    Formula: ln[d (Π_i ‖W_i‖_F²)^{1/d}], in nats, d layers. Raises: Undefined where a layer is zero.
    Sign: a larger ball of balanced weights holds more functions.
    """
    return log_sum(log_product(frobenius_norms), len(frobenius_norms))


@measure(source="jiang2020, eq. 38", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_frobenius_over_margin(frobenius_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the sum of squared Frobenius norms after balancing the layers and scaling the margin to one.

    Formula: ln[d (Π_i ‖W_i‖_F² / γ²)^{1/d}], in nats, d layers. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: a larger ball of weights of unit margin holds more functions.
    """
    return log_sum(log_product(frobenius_norms) - 2 * math.log(margin), len(frobenius_norms))
