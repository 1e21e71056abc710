"""The spectral bounds of Jiang et al. (2020) with their constants: logs of the complexities (reshaped convention)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer
from gapbench.measures.norms import log_product, nonzero
from gapbench.measures.registry import measure


@measure(
    source="jiang2020, spectral bound with reference at initialisation; pitas2017",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_spectral_init(
    layers: tuple[Layer, ...],
    spectral_norms: Float[Tensor, " layers"],
    distance_frobenius_norms: Float[Tensor, " layers"],
    margin: float,
    train: Split,
    *,
    delta: float = 0.05,
) -> float:
    """The log of the complexity of the spectral bound with reference at initialisation, all constants in.

    Formula: ln{[(84 B Σ_i k_i√c_i + √ln(4 n² d))²·Π_i ‖W_i‖₂²·Σ_j ‖W_j − W_j0‖_F²/‖W_j‖₂² + ln(m/δ)]/γ²}, in nats: d
    layers of k_i x k_i kernels and c_i output channels on images of side n, B the largest norm of a training input; the
    bound is the root of this (unlogged) over m. A linear layer has k = 1 and c its outputs, vector inputs have n = 1.
    Form and constants as recalled (the published code has the main terms only: `spectral_init_main`).
    Raises: Undefined where γ <= 0 or a layer is zero. Sign: it is a bound on the gap.
    """
    return _log_bound(layers, spectral_norms, distance_frobenius_norms, margin, train, delta)


@measure(
    source="jiang2020, spectral bound with reference zero; pitas2017",
    sign=+1,
    invariances=("unit_permutation", "example_permutation"),
)
def log_spectral_orig(
    layers: tuple[Layer, ...],
    spectral_norms: Float[Tensor, " layers"],
    frobenius_norms: Float[Tensor, " layers"],
    margin: float,
    train: Split,
    *,
    delta: float = 0.05,
) -> float:
    """The log of the complexity of the spectral bound with reference zero, all constants in.

    Formula: as `log_spectral_init`, with ‖W_j‖_F² for ‖W_j − W_j0‖_F². Raises: Undefined as there.
    Sign: it is a bound on the gap.
    """
    return _log_bound(layers, spectral_norms, frobenius_norms, margin, train, delta)


def _log_bound(
    layers: tuple[Layer, ...], spectral: Tensor, frobenius: Tensor, margin: float, train: Split, delta: float
) -> float:
    radius = float(train.inputs.flatten(1).double().norm(dim=1).max())
    side = max(train.inputs.shape[2:]) if train.inputs.ndim == 4 else 1
    kernels = sum(math.sqrt(layer.weight[0, 0].numel() * layer.weight.shape[0]) for layer in layers)
    factor = 84 * radius * kernels + math.sqrt(math.log(4 * side**2 * len(layers)))
    ratios = (frobenius / nonzero(spectral)).square().sum()
    # A logarithm of zero is in place: a network that has not moved has the term of the confidence only.
    main = 2 * math.log(factor) + log_product(spectral) + ratios.log()
    confidence = main.new_tensor(math.log(math.log(len(train) / delta)))
    return float(torch.logaddexp(main, confidence)) - 2 * math.log(margin)
