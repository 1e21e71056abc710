from __future__ import annotations

import pytest
import torch

from gapbench.datasets.spec import Split
from gapbench.measures.kernel import (
    alignment,
    arora_bound,
    benign_rank_R,
    benign_rank_r,
    centred,
    effective_dimension,
    feature_benign_rank_R,
    feature_benign_rank_r,
    gcv_gap,
    inverse_energy,
    label_slow_mass_final,
    loo_gap,
    slow_mass,
    tangent_effective_dimension,
    tangent_gcv_gap,
    tangent_loo_gap,
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


def sample(examples: int, classes: int) -> Split:
    return Split(torch.zeros(examples, 1), torch.zeros(examples, dtype=torch.int64), classes)


def test_arora_s_term_is_the_root_of_twice_the_label_energy_an_example() -> None:
    assert arora_bound(eigensystem(KERNEL), LABELS, sample(1, 2)) == pytest.approx(2)
    assert arora_bound(eigensystem(KERNEL), LABELS, sample(2, 1)) == pytest.approx(2**0.5)
    with pytest.raises(Undefined, match="singular"):
        arora_bound(eigensystem(torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))), LABELS, sample(1, 2))


def refitted_gap(kernel: torch.Tensor, labels: torch.Tensor, level: float, classes: int) -> float:
    """The mean rise of the squared loss of each example, /2, by refitting without it."""
    count, total = len(labels), 0.0
    everything = torch.eye(count, dtype=kernel.dtype) * level + kernel
    residual = labels - kernel @ torch.linalg.solve(everything, labels)
    for start in range(0, count, classes):
        out = torch.arange(start, start + classes)
        kept = torch.tensor([index for index in range(count) if index not in out])
        weights = torch.linalg.solve(everything[kept][:, kept], labels[kept])
        left_out = labels[out] - kernel[out][:, kept] @ weights
        total += float(left_out.square().sum() - residual[out].square().sum())
    return total / (2 * (count // classes))


def random_problem() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(24, 40, dtype=torch.float64, generator=rng)
    return features @ features.T, torch.randn(24, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("classes", [1, 3])
def test_leave_one_out_is_that_of_refitting(classes: int) -> None:
    kernel, labels = random_problem()
    level = 0.01 * float(torch.diagonal(kernel).mean())
    expected = refitted_gap(kernel, labels, level, classes)
    assert loo_gap(*eigensystem(kernel), labels, level, classes) == pytest.approx(expected, rel=1e-10)
    assert tangent_loo_gap(eigensystem(kernel), labels, sample(24 // classes, classes)) == pytest.approx(expected)
    assert loo_gap(*eigensystem(kernel), labels, level, 4 - classes) != pytest.approx(expected, rel=1e-3)


def test_cross_validation_agrees_with_leave_one_out_where_all_examples_have_one_leverage() -> None:
    circulant = torch.tensor([[2.0 ** -min((i - j) % 12, (j - i) % 12) for j in range(12)] for i in range(12)]).double()
    labels = random_problem()[1][:12]
    gcv = tangent_gcv_gap(eigensystem(circulant), labels, sample(12, 1), ridge=0.3)
    assert gcv == pytest.approx(tangent_loo_gap(eigensystem(circulant), labels, sample(12, 1), ridge=0.3), rel=1e-10)
    uneven = circulant * torch.outer(torch.arange(1.0, 13.0), torch.arange(1.0, 13.0)).double()
    gcv = tangent_gcv_gap(eigensystem(uneven), labels, sample(12, 1), ridge=0.3)
    assert gcv != pytest.approx(tangent_loo_gap(eigensystem(uneven), labels, sample(12, 1), ridge=0.3), rel=1e-2)


def test_cross_validation_by_hand_and_of_an_interpolant() -> None:
    filters, coefficients = torch.tensor([0.5, 1.0]).double(), torch.tensor([2.0, 1.0]).double()
    assert gcv_gap(filters, coefficients, 2) == pytest.approx(2 / 4 * (0.75**-2 - 1))
    with pytest.raises(Undefined, match="interpolant"):
        gcv_gap(0 * filters, coefficients, 2)


def test_effective_ranks_of_features_are_those_of_their_covariance() -> None:
    axes = torch.eye(5, dtype=torch.float64) * SPECTRUM.sqrt()
    features = torch.cat([axes, -axes]) * 5**0.5 + 3.0
    assert feature_benign_rank_r(features) == pytest.approx(2, abs=1e-9)
    assert feature_benign_rank_R(features, k=1) == pytest.approx(2.909090909, abs=1e-9)
    wide = torch.cat([features, torch.zeros(10, 40, dtype=torch.float64)], dim=1)
    assert feature_benign_rank_R(wide) == pytest.approx(2.976744186, abs=1e-9)
    with pytest.raises(Undefined, match="after the first 5"):
        feature_benign_rank_r(wide, k=5)
