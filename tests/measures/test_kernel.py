from __future__ import annotations

import pytest
import torch

from gapbench.measures.kernel import (
    alignment,
    benign_rank_R,
    benign_rank_r,
    centred,
    effective_dimension,
    inverse_energy,
    label_slow_mass_final,
    slow_mass,
    tangent_effective_dimension,
)
from gapbench.measures.registry import Undefined

KERNEL = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
LABELS = torch.tensor([1.0, 2.0], dtype=torch.float64)
SPECTRUM = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0], dtype=torch.float64)


def eigensystem(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(kernel)
    return values.flip(0), vectors.flip(1)


def test_label_energy_and_alignment_of_the_hand_worked_kernel() -> None:
    assert inverse_energy(*eigensystem(KERNEL), LABELS) == pytest.approx(2, abs=1e-9)
    assert alignment(KERNEL, LABELS) == pytest.approx(0.8246211251, abs=1e-9)
    assert alignment(KERNEL, LABELS.flip(0)) != pytest.approx(0.8246211251, abs=1e-2)
    assert inverse_energy(*eigensystem(KERNEL), LABELS.flip(0)) == pytest.approx(4.25, abs=1e-9)


def test_effective_ranks_of_the_hand_worked_spectrum() -> None:
    assert benign_rank_r(SPECTRUM) == pytest.approx(2, abs=1e-9)
    assert benign_rank_R(SPECTRUM) == pytest.approx(2.976744186, abs=1e-9)
    assert benign_rank_r(SPECTRUM, k=1) == pytest.approx(2, abs=1e-9)
    assert benign_rank_R(SPECTRUM, k=1) == pytest.approx(2.909090909, abs=1e-9)
    assert benign_rank_r(SPECTRUM, k=3) == pytest.approx(2, abs=1e-9)
    with pytest.raises(Undefined, match="after the first 5"):
        benign_rank_r(SPECTRUM, k=5)


def test_centring_is_the_product_with_the_centring_matrix() -> None:
    features = torch.randn(12, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = features @ features.T
    h = torch.eye(4, dtype=torch.float64) - 0.25
    whole = torch.kron(h, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(centred(kernel, 3), whole @ kernel @ whole)
    assert not torch.allclose(centred(kernel, 3), kernel)


def test_alignment_is_one_for_the_labels_own_kernel_and_scale_free() -> None:
    assert alignment(torch.outer(LABELS, LABELS), LABELS) == pytest.approx(1)
    assert alignment(7 * KERNEL, LABELS) == pytest.approx(alignment(KERNEL, LABELS))
    with pytest.raises(Undefined):
        alignment(0 * KERNEL, LABELS)


def test_slow_mass_is_the_label_energy_below_the_cutoff() -> None:
    kernel = torch.diag(torch.tensor([1000.0, 9.0, 11.0], dtype=torch.float64))
    labels = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert slow_mass(*eigensystem(kernel), labels, 0.01) == pytest.approx(4 / 14)
    assert label_slow_mass_final(eigensystem(kernel), labels) == pytest.approx(4 / 14)
    assert label_slow_mass_final(eigensystem(kernel), labels, cutoff=0.1) == pytest.approx(13 / 14)


def test_effective_dimension_counts_directions_above_the_ridge() -> None:
    assert effective_dimension(SPECTRUM, 0.0) == pytest.approx(5)
    assert effective_dimension(SPECTRUM, 4.0) == pytest.approx(8 / 12 + 1 / 2 + 2 / 6 + 2 / 5)
    assert tangent_effective_dimension(SPECTRUM, ridge=0.5) == pytest.approx(effective_dimension(SPECTRUM, 4.0))
    assert tangent_effective_dimension(SPECTRUM) > tangent_effective_dimension(SPECTRUM, ridge=0.1)


def test_the_energy_of_a_singular_kernel_is_undefined() -> None:
    with pytest.raises(Undefined, match="singular"):
        inverse_energy(*eigensystem(torch.diag(torch.tensor([1.0, 1e-17], dtype=torch.float64))), LABELS)
