from __future__ import annotations

import pytest
import torch

from gapbench.datasets.seeds import generator
from gapbench.measures.lanczos import Lanczos


def symmetric(size: int) -> torch.Tensor:
    matrix = torch.randn(size, size, dtype=torch.float64, generator=generator(0, "matrix"))
    return matrix + matrix.T


def basis(matrix: torch.Tensor, seed: int = 0) -> Lanczos:
    return Lanczos(lambda vector: matrix @ vector, len(matrix), generator(seed, "start"))


def test_a_full_basis_has_all_eigenvalues() -> None:
    matrix = symmetric(30)
    ritz = basis(matrix).ritz(100)
    assert ritz.complete
    torch.testing.assert_close(ritz.values, torch.linalg.eigvalsh(matrix), rtol=1e-10, atol=1e-10)
    assert float(ritz.errors().max()) == 0
    assert float((ritz.values - torch.linalg.eigvalsh(1.001 * matrix)).abs().max()) > 1e-4


def test_residuals_bound_the_distance_to_an_eigenvalue() -> None:
    matrix = symmetric(60)
    expected = torch.linalg.eigvalsh(matrix)
    for steps in (5, 10, 20):
        ritz = basis(matrix).ritz(steps)
        apart = (ritz.values[:, None] - expected).abs().min(dim=1).values
        assert bool((apart <= ritz.residuals * (1 + 1e-9) + 1e-12).all())
        assert bool((apart > 0.01 * ritz.residuals).any())
        assert bool((ritz.errors() <= ritz.residuals).all())


def test_values_and_weights_are_the_quadrature_of_the_start() -> None:
    matrix = symmetric(40)
    start = torch.randn(40, dtype=torch.float64, generator=generator(0, "start"))
    start /= start.norm()
    ritz = basis(matrix).ritz(4)
    power = start
    for degree in range(1, 8):
        power = matrix @ power
        assert float((ritz.weights * ritz.values**degree).sum()) == pytest.approx(float(start @ power), rel=1e-9)
    power = matrix @ power
    assert float((ritz.weights * ritz.values**8).sum()) != pytest.approx(float(start @ power), rel=1e-6)


def test_a_basis_tells_the_same_however_far_it_has_grown() -> None:
    alone, grown = basis(symmetric(50)), basis(symmetric(50))
    grown.ritz(30)
    for steps in (3, 7, 20):
        assert torch.equal(alone.ritz(steps).values, grown.ritz(steps).values)
        assert torch.equal(alone.ritz(steps).residuals, grown.ritz(steps).residuals)


def test_an_invariant_subspace_ends_it() -> None:
    projection = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    ritz = basis(projection).ritz(5)
    assert ritz.complete
    torch.testing.assert_close(ritz.values, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-12)
    zero = basis(torch.zeros(3, 3, dtype=torch.float64)).ritz(3)
    assert zero.complete
    assert zero.values.tolist() == [0.0]


def test_the_steps_are_capped_by_number_and_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapbench.measures.lanczos.MOST_STEPS", 6)
    assert len(basis(symmetric(20)).ritz(50).values) == 6
    monkeypatch.setattr("gapbench.measures.lanczos.MOST_BYTES", 8 * 20 * 4)
    ritz, enough = basis(symmetric(20)).until(lambda _: False)
    assert (len(ritz.values), enough) == (4, False)
