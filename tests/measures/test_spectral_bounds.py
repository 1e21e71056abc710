"""The full spectral bounds by hand, on linear and convolutional layers."""

from __future__ import annotations

import math

import pytest
import torch

from gapbench.datasets.spec import Split
from gapbench.measures import quantities, spectral, spectral_bounds
from gapbench.measures.layers import Layer

GAMMA = 6.0
TRAIN = Split(torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 0]), 2)


def layer(weight: torch.Tensor, initial: torch.Tensor) -> Layer:
    return Layer("w", weight.double(), initial.double(), None, None, (1,), (1,))


LAYERS = (
    layer(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2)),
    layer(torch.tensor([[1.0, 2.0], [2.0, -1.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])),
)
SPECTRAL = quantities.spectral_norms(quantities.singular_values(LAYERS))


def test_hand_values() -> None:
    """B = 5, k = 1, c = 2, n = 1, d = 2, m = 3; the main terms are 80·(13/16 + 8/5) and 80·(25/16 + 10/5)."""
    factor = 84 * 5 * 2 * math.sqrt(2) + math.sqrt(math.log(8))
    confidence = math.log(3 / 0.05)
    moved = quantities.distance_frobenius_norms(LAYERS)
    init = spectral_bounds.log_spectral_init(LAYERS, SPECTRAL, moved, GAMMA, TRAIN)
    assert math.exp(init) == pytest.approx((factor**2 * 80 * (13 / 16 + 8 / 5) + confidence) / 36, rel=1e-12)
    orig = spectral_bounds.log_spectral_orig(LAYERS, SPECTRAL, quantities.frobenius_norms(LAYERS), GAMMA, TRAIN)
    assert math.exp(orig) == pytest.approx((factor**2 * 80 * (25 / 16 + 2) + confidence) / 36, rel=1e-12)
    main = spectral.spectral_init_main(SPECTRAL, moved, GAMMA)
    assert init == pytest.approx(math.log(main * factor**2 + confidence / 36), rel=1e-12)


def test_kernels_and_sides_of_a_convolution() -> None:
    """A 3x3 kernel of 4 channels has k√c = 6, a linear layer of 9 outputs 3; the larger side of 5x7 images is 7."""
    torch.manual_seed(0)
    images = Split(torch.rand(4, 2, 5, 7), torch.zeros(4, dtype=torch.long), 9)
    layers = (
        layer(torch.randn(4, 2, 3, 3), torch.zeros(4, 2, 3, 3)),
        layer(torch.randn(9, 4), torch.zeros(9, 4)),
    )
    norms = quantities.spectral_norms(quantities.singular_values(layers))
    moved = quantities.distance_frobenius_norms(layers)
    radius = float(images.inputs.double().flatten(1).norm(dim=1).max())
    factor = 84 * radius * (6 + 3) + math.sqrt(math.log(4 * 49 * 2))
    main = spectral.spectral_init_main(norms, moved, 1.0)
    expected = math.log(factor**2 * main + math.log(4 / 0.1))
    found = spectral_bounds.log_spectral_init(layers, norms, moved, 1.0, images, delta=0.1)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found != pytest.approx(math.log((84 * radius * (3 * 4 + 3)) ** 2 * main), rel=1e-3), "control: k·c"


def test_a_network_that_has_not_moved_pays_for_the_confidence_only() -> None:
    still = spectral_bounds.log_spectral_init(LAYERS, SPECTRAL, torch.zeros(2).double(), GAMMA, TRAIN)
    assert math.exp(still) == pytest.approx(math.log(60) / 36, rel=1e-12)


def test_products_that_overflow_have_a_logarithm() -> None:
    huge = torch.full((2,), 1e160, dtype=torch.float64)
    assert 1000 < spectral_bounds.log_spectral_orig(LAYERS, huge, huge, GAMMA, TRAIN) < 2000
