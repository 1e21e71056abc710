"""The kernel, the wavelets and the extrapolation."""

from __future__ import annotations

import numpy
import pandas
import pytest
import torch
from scipy.linalg import cho_factor

from gapbench.evaluate.phenomena.minimum_norm_kernel import extrapolated, gaussian, wavelets


def test_the_kernel_is_that_of_the_formula() -> None:
    rng = numpy.random.default_rng(0)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    naive = [[numpy.exp(-((a - b) ** 2).sum() / (2 * 1.5**2)) for b in y] for a in x]
    assert numpy.allclose(gaussian(x, y, 1.5), naive)


def test_the_gram_matrix_is_factored_in_its_own_memory() -> None:
    x = numpy.random.default_rng(0).standard_normal((40, 3))
    for own, shares in ((gaussian(x, x, 1.0).T, True), (gaussian(x, x, 1.0), False)):
        factor, _ = cho_factor(own, lower=True, overwrite_a=True, check_finite=False)
        assert numpy.shares_memory(own, factor) == shares


def test_wavelets_see_orientation_and_not_a_constant_background() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, :, ::4] = 1.0
    stripes = wavelets(torch.cat([image, image.transpose(2, 3), torch.zeros_like(image)]))
    assert stripes.shape == (3, 17, 7, 7)
    inner = stripes[:, :, 2:5, 2:5].mean(dim=(2, 3))
    # Turning the image by a quarter turns the orientations by four of eight.
    assert torch.allclose(inner[0, :8], inner[1, :8].roll(4), atol=1e-4)
    assert not torch.allclose(inner[0, :8], inner[1, :8], atol=1e-2)
    constant = wavelets(torch.ones(1, 1, 28, 28))[:, :16, 2:5, 2:5]
    assert float(constant.abs().max()) < 1e-4


def test_a_power_law_is_extrapolated_and_a_measured_error_is_not() -> None:
    rows = [{"seed": s, "n": n, "test_error": (1 + 0.01 * s) * n**-0.5} for s in range(3) for n in (100, 400)]
    table = pandas.DataFrame(rows)
    assert extrapolated(table, 10_000).point == pytest.approx(0.01, rel=0.02)
    assert extrapolated(table, 400).point == pytest.approx(0.05, rel=0.02)
