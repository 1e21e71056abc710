"""Spectral norms and the bounds made of them.

Two conventions that are never mixed: reshaped (a convolution's kernel as a matrix out x in·kh·kw) and, in names that
end in ``_operator``, the circular convolution at the layer's own input size and stride. They agree on linear layers.
Products and sums over layers are of squared norms, as in Jiang et al. (2020).
"""

from __future__ import annotations

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer
from gapbench.measures.margins import MarginGradient
from gapbench.measures.norms import log_product, log_sum, nonzero, sum_of_squares
from gapbench.measures.piecewise_linear import operation_off_paths
from gapbench.measures.registry import Estimate, LayerSum, Undefined, measure, per_sample, variants

SLOPE_AT_MOST_ONE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh)


@measure(source="jiang2020, eq. 32", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_prod_spectral(spectral_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The log of the product of the layers' squared spectral norms (reshaped).

    Formula: Σ_i ln‖W_i‖₂², in nats. Raises: Undefined where a layer is zero.
    Sign: the product bounds the Lipschitz constant.
    """
    return log_product(spectral_norms)


@measure(source="jiang2020, eq. 31", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_prod_spectral_over_margin(spectral_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the product of the layers' squared spectral norms over the squared margin (reshaped).

    Formula: Σ_i ln‖W_i‖₂² − 2 ln γ, in nats. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the product over γ bounds the Lipschitz constant of the network of unit margin.
    """
    return log_product(spectral_norms) - 2 * math.log(margin)


@measure(source="jiang2020, eq. 32", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_prod_spectral_operator(operator_spectral_norms: Float[Tensor, " layers"]) -> LayerSum:
    """The log of the product of the layers' squared spectral norms (operator).

    Formula: Σ_i ln‖A_i‖₂², in nats, A_i the circular convolution (sedghi2019). Raises: Undefined where a layer is zero.
    Sign: the product bounds the Lipschitz constant.
    """
    return log_product(operator_spectral_norms)


@measure(source="jiang2020, eq. 31", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_prod_spectral_over_margin_operator(operator_spectral_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the product of the layers' squared spectral norms over the squared margin (operator).

    Formula: Σ_i ln‖A_i‖₂² − 2 ln γ, in nats. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the product over γ bounds the Lipschitz constant of the network of unit margin.
    """
    return log_product(operator_spectral_norms) - 2 * math.log(margin)


@measure(source="jiang2020, eq. 35", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_spectral(spectral_norms: Float[Tensor, " layers"]) -> float:
    """The log of the sum of squared spectral norms after balancing the layers (reshaped).

    Formula: ln[d (Π_i ‖W_i‖₂²)^{1/d}], in nats, d layers. Raises: Undefined where a layer is zero.
    Sign: the Lipschitz constant of the balanced network grows with it.
    """
    return log_sum(log_product(spectral_norms), len(spectral_norms))


@measure(source="jiang2020, eq. 34", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_spectral_over_margin(spectral_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the sum of squared spectral norms after balancing the layers and scaling the margin to one (reshaped).

    Formula: ln[d (Π_i ‖W_i‖₂² / γ²)^{1/d}], in nats, d layers. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the Lipschitz constant of the balanced network of unit margin grows with it.
    """
    return log_sum(log_product(spectral_norms) - 2 * math.log(margin), len(spectral_norms))


@measure(source="jiang2020, eq. 35", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_spectral_operator(operator_spectral_norms: Float[Tensor, " layers"]) -> float:
    """The log of the sum of squared spectral norms after balancing the layers (operator).

    Formula: ln[d (Π_i ‖A_i‖₂²)^{1/d}], in nats, d layers. Raises: Undefined where a layer is zero.
    Sign: the Lipschitz constant of the balanced network grows with it.
    """
    return log_sum(log_product(operator_spectral_norms), len(operator_spectral_norms))


@measure(source="jiang2020, eq. 34", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_sum_spectral_over_margin_operator(operator_spectral_norms: Float[Tensor, " layers"], margin: float) -> float:
    """The log of the sum of squared spectral norms after balancing and scaling the margin to one (operator).

    Formula: ln[d (Π_i ‖A_i‖₂² / γ²)^{1/d}], in nats, d layers. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: the Lipschitz constant of the balanced network of unit margin grows with it.
    """
    return log_sum(log_product(operator_spectral_norms) - 2 * math.log(margin), len(operator_spectral_norms))


@measure(source="jiang2020, eq. 33", sign=+1, invariances=("unit_permutation", "example_permutation"))
def frobenius_over_spectral(
    frobenius_norms: Float[Tensor, " layers"], spectral_norms: Float[Tensor, " layers"]
) -> LayerSum:
    """The sum of the layers' stable ranks (reshaped).

    Formula: Σ_i ‖W_i‖_F²/‖W_i‖₂². Raises: Undefined where a layer is zero.
    Sign: it is the second factor of the spectral PAC-Bayes bound.
    """
    return sum_of_squares(frobenius_norms / nonzero(spectral_norms))


@measure(source="jiang2020, eq. 33", sign=+1, invariances=("unit_permutation", "example_permutation"))
def frobenius_over_spectral_operator(
    operator_frobenius_norms: Float[Tensor, " layers"], operator_spectral_norms: Float[Tensor, " layers"]
) -> LayerSum:
    """The sum of the stable ranks of the layers as linear maps (operator).

    Formula: Σ_i ‖A_i‖_F²/‖A_i‖₂²; both norms are the operator's, so each term is at least 1 (a kernel's Frobenius norm
    over an operator's spectral norm, as in a published code, is not). Raises: Undefined where a layer is zero.
    Sign: as the reshaped twin.
    """
    return sum_of_squares(operator_frobenius_norms / nonzero(operator_spectral_norms))


@measure(source="jiang2020, eq. 29", sign=+1, invariances=("unit_permutation", "example_permutation"))
def spectral_init_main(
    spectral_norms: Float[Tensor, " layers"], distance_frobenius_norms: Float[Tensor, " layers"], margin: float
) -> float:
    """The main term of the spectral bound with reference at initialisation (reshaped).

    Formula: (Π_i ‖W_i‖₂² / γ²)·Σ_j ‖W_j − W_j0‖_F²/‖W_j‖₂². Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: it is the main term of a bound on the gap.
    """
    product = math.exp(log_product(spectral_norms)) / margin**2
    return product * float((distance_frobenius_norms / nonzero(spectral_norms)).square().sum())


per_sample(spectral_init_main)


@measure(source="jiang2020, eq. 30", sign=+1, invariances=("unit_permutation", "example_permutation"))
def spectral_orig_main(
    spectral_norms: Float[Tensor, " layers"], frobenius_norms: Float[Tensor, " layers"], margin: float
) -> float:
    """The main term of the spectral bound with reference zero (reshaped).

    Formula: (Π_i ‖W_i‖₂² / γ²)·Σ_j ‖W_j‖_F²/‖W_j‖₂². Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: it is the main term of a bound on the gap.
    """
    product = math.exp(log_product(spectral_norms)) / margin**2
    return product * float((frobenius_norms / nonzero(spectral_norms)).square().sum())


per_sample(spectral_orig_main)


@measure(source="bartlett2017", sign=+1, invariances=("unit_permutation", "example_permutation"))
def bartlett_foster_telgarsky(
    layers: tuple[Layer, ...], spectral_norms: Float[Tensor, " layers"], margin: float, *, reference: str = "initial"
) -> float:
    """The spectral complexity over the margin (reshaped), with reference matrices at initialisation or zero.

    Formula: (1/γ)·Π_i σ_i·(Σ_j (‖(W_j − M_j)ᵀ‖_{2,1}/σ_j)^{2/3})^{3/2}, σ_i = ‖W_i‖₂, ‖·‖_{2,1} the sum of the norms of
    the columns (here: of the rows of W_j − M_j, one a unit), M_j = W_j0 (``reference`` "initial") or 0 ("zero").
    Norm of the data and the logarithm of the width are left out. Raises: Undefined where γ <= 0 or a layer is zero.
    Sign: it is the main term of a bound on the gap.
    """
    if reference not in ("initial", "zero"):
        raise ValueError(f"reference must be 'initial' or 'zero', not {reference!r}")
    moved = [layer.matrix - layer.initial_matrix if reference == "initial" else layer.matrix for layer in layers]
    group_norms = torch.stack([torch.linalg.vector_norm(matrix, dim=1).sum() for matrix in moved])
    ratios = math.pow(float((group_norms / nonzero(spectral_norms)).pow(2 / 3).sum()), 1.5)
    return float(spectral_norms.prod()) * ratios / margin


variants(bartlett_foster_telgarsky, reference=("zero",))


@measure(source="neyshabur2018", sign=+1, invariances=("unit_permutation", "example_permutation"))
def neyshabur_pac_spectral(
    layers: tuple[Layer, ...],
    spectral_norms: Float[Tensor, " layers"],
    frobenius_norms: Float[Tensor, " layers"],
    margin: float,
    train: Split,
) -> float:
    """The spectrally normalised PAC-Bayes complexity, with its factors of depth, width and data (reshaped).

    Formula: B² d² h ln(d h)·Π_i ‖W_i‖₂²·Σ_j ‖W_j‖_F²/‖W_j‖₂² / γ², d layers of at most h rows, B the largest norm of a
    training input. The bound is the root of this over m; its ln(d m/δ) is left out. As recalled.
    Raises: Undefined where γ <= 0 or a layer is zero. Sign: it is the main term of a bound on the gap.
    """
    depth, width = len(layers), max(layer.matrix.shape[0] for layer in layers)
    radius = float(train.inputs.flatten(1).double().norm(dim=1).max())
    factor = radius**2 * depth**2 * width * math.log(depth * width)
    return factor * spectral_orig_main(spectral_norms, frobenius_norms, margin)


@measure(
    source="bubecksellke2021",
    sign=+1,
    invariances=("rescaling", "unit_permutation", "example_permutation"),
)
def isoperimetry(
    margin_gradients: tuple[MarginGradient, ...], margin: float, network: nn.Module, train: Split
) -> float:
    """The network's empirical Lipschitz constant over the least one that the universal law of robustness allows.

    Formula: (Lip/γ)·√(ω/(m·d_in)): the law says that a function of ω parameters which fits m noisy labels in d_in
    dimensions has Lip ≳ √(m·d_in/ω). Lip is the largest ‖∇_x (f_y − max_{j≠y} f_j)‖₂ at a training example (a lower
    estimate of the Lipschitz constant of the margin); division by γ scales the fit to unit labels.
    Raises: Undefined where γ <= 0. Sign: the less smooth of two interpolants generalises worse.
    """
    lipschitz = float(margin_gradients[0].norms.max())
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return lipschitz / margin * math.sqrt(parameters / train.inputs.numel())


@measure(
    source="combettes2020", sign=+1, revision=2, invariances=("rescaling", "unit_permutation", "example_permutation")
)
def lipschitz_upper(folded: nn.Module, train: Split, *, tolerance: float = 1e-6, max_iterations: int = 200) -> Estimate:
    """An upper bound of the ℓ2 Lipschitz constant that a rescaling of units leaves alone.

    Formula: ‖|W_d|⋯|W_1|‖₂, absolute values entry by entry, convolutions as the zero-padded maps they are, max-pooling
    as the sum of its window; by power iteration until √max_i (Mv)_i/v_i, M = AᵀA, which is never below the norm of the
    map A >= 0 (Collatz–Wielandt), is within a relative ``tolerance`` of √‖Mv‖/‖v‖, which is never above it; the former
    is returned. |Jacobian| <= this product entry
    by entry wherever activations have slopes in [0, 1]. (The product of the spectral norms is `log_prod_spectral`.)
    Raises: Undefined where the network computes anything else but sums, named.
    Sign: a smaller constant is a smoother map.
    """
    vector = torch.ones(1, *train.inputs.shape[1:], dtype=torch.float64)
    absolute = _absolute_linear_map(folded, vector)
    with torch.no_grad():
        offset = absolute(0 * vector)
    upper = math.inf
    for _ in range(max_iterations):
        vector = (vector / vector.norm()).requires_grad_()
        image = absolute(vector) - offset
        # A scalar: with a vector of output gradients, autograd imports sympy on its first call, a second of start-up.
        (back,) = torch.autograd.grad((image * image.detach()).sum(), vector)
        seen = vector.detach() > 0
        upper = math.sqrt(float((back[seen] / vector.detach()[seen]).max()))
        if upper <= math.sqrt(float(back.norm())) * (1 + tolerance):
            return Estimate(upper, 0.0)
        vector = back
    return Estimate(upper, 0.0, converged=False)


def _absolute_linear_map(folded: nn.Module, example: Float[Tensor, " 1 *shape"]) -> nn.Module:
    """A copy with absolute parameters, no biases, activations as identities and max-pooling as sums."""
    network = copy.deepcopy(folded).requires_grad_(False)
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.bias = None
        elif isinstance(module, SLOPE_AT_MOST_ONE):
            network.set_submodule(name, nn.Identity())
        elif isinstance(module, nn.MaxPool2d) and module.dilation in (1, (1, 1)):
            pool = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode, divisor_override=1)
            network.set_submodule(name, pool)
    for parameter in network.parameters():
        parameter.abs_()
    # A ReLU that is not a module sees nothing negative, and is an identity too; other functions are refused here.
    strange = operation_off_paths(network, example, maxima=False)
    if strange is not None:
        raise Undefined(f"no bound on the slope of what the network computes: {strange}")
    return network
