"""The kernel, the wavelets and the extrapolation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas
import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.seeds import generator
from gapbench.evaluate.phenomena import minimum_norm_kernel as module
from gapbench.evaluate.phenomena.minimum_norm_kernel import extrapolated, gaussian, interpolant, values, wavelets


def test_the_kernel_is_that_of_the_formula() -> None:
    rng = generator(0, "kernel")
    x, y = (torch.randn(size, 3, generator=rng, dtype=torch.float64) for size in (5, 4))
    naive = [[math.exp(-float((a - b).square().sum()) / (2 * 1.5**2)) for b in y] for a in x]
    assert torch.allclose(gaussian(x, y, 1.5), torch.tensor(naive, dtype=torch.float64))


def allocated(work: Callable[[], object]) -> int:
    """The bytes that some work takes for tensors, added up."""
    with torch.profiler.profile(profile_memory=True) as seen:
        work()
    return sum(max(event.self_cpu_memory_usage, 0) for event in seen.events())


def test_the_gram_matrix_is_factored_in_its_own_memory() -> None:
    x = torch.randn(400, 3, generator=generator(0, "own memory"), dtype=torch.float64)
    matrix, targets = 8 * 400**2, torch.ones(400, 1, dtype=torch.float64)
    assert allocated(lambda: torch.linalg.cholesky(gaussian(x, x, 0.01))) > 1.9 * matrix, "the positive control"
    assert allocated(lambda: interpolant(x, targets, 0.01)) < 1.5 * matrix


def test_the_interpolant_solves_the_system_in_either_precision() -> None:
    rng = generator(0, "interpolant")
    x = torch.randn(300, 8, generator=rng, dtype=torch.float64)
    targets = torch.randn(300, 2, generator=rng, dtype=torch.float64)
    expected = torch.linalg.solve(gaussian(x.float().double(), x.float().double(), 1.5), targets)
    refined = interpolant(x.float(), targets, 1.5)
    for found, digits in ((interpolant(x.float().double(), targets, 1.5), 1e-9), (refined, 1e-6)):
        assert found.dtype == torch.float64
        assert float((found - expected).abs().max()) < digits * float(expected.abs().max())
    fitted = values(x.float(), refined, x.float(), 1.5)
    assert float((fitted - targets).abs().max()) < 1e-5


def test_a_gram_matrix_that_is_not_positive_definite_is_refused() -> None:
    with pytest.raises(InputError, match=r"of 6 examples is not positive definite in torch.float64 \(row 2\): are"):
        interpolant(torch.zeros(6, 2), torch.zeros(6, 1, dtype=torch.float64), 1.0)


def test_what_float32_cannot_factor_is_made_in_float64_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([[0.0], [1e-4], [1.0]])  # The kernel of the first two is 1 in float32.
    targets = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64)
    monkeypatch.setattr(module, "available_bytes", lambda: 8)
    with pytest.raises(InputError, match=r"float32 \(row \d\), and in float64 it takes 0 GB, of which 0 are free"):
        interpolant(x, targets, 1.0)
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    found = values(x, interpolant(x, targets, 1.0), x, 1.0)
    assert float((found - targets).abs().max()) < 1e-4


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
