"""Measures of kernels at the end of training: alignment, label energy, cross-validation, effective dimension, ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gapbench.measures.features import covariance_eigenvalues
from gapbench.measures.registry import Undefined, measure, variants

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from gapbench.datasets.spec import Split


@measure(source="cortes2012, centred kernel alignment", sign=-1, invariances=("unit_permutation",))
def tangent_alignment(tangent_gram: Tensor, tangent_labels: Tensor, train: Split) -> float:
    """Centred alignment of the tangent kernel with the labels, after training.

    Formula: yᵀ K_c y / (‖K_c‖_F ‖y‖²), K_c = (H ⊗ I) K (H ⊗ I), H = I − 11ᵀ/n, y the centred label indicators.
    Sign: a kernel aligned with the labels learns them from few examples, so larger predicts a smaller gap.
    """
    return alignment(centred(tangent_gram, train.classes), tangent_labels)


@measure(source="arXiv:2605.01172, after the reservoir of Litman & Guo", sign=+1, invariances=("unit_permutation",))
def label_slow_mass_final(
    tangent_eigensystem: tuple[Tensor, Tensor], tangent_labels: Tensor, *, cutoff: float = 0.01
) -> float:
    """Fraction of the label energy in slow directions of the final tangent kernel, after Litman & Guo.

    Formula: Σ_{j: λ_j < cutoff · λ_max} (v_jᵀ y)² / ‖y‖², y the centred label indicators.
    Sign: label energy in directions that the kernel hardly moves must be memorised, so more predicts a larger gap.
    Raises: Undefined where the kernel is zero.
    """
    eigenvalues, vectors = tangent_eigensystem
    return slow_mass(eigenvalues, vectors, tangent_labels, cutoff)


@measure(source="arora2019", sign=+1, invariances=("unit_permutation",))
def label_energy(tangent_eigensystem: tuple[Tensor, Tensor], tangent_labels: Tensor) -> float:
    """yᵀ K⁻¹ y: the squared norm that the tangent kernel needs to fit the labels.

    Formula: Σ_j (v_jᵀ y)² / λ_j, y the centred label indicators, K the final tangent kernel on 64 examples.
    Sign: it stands in the Rademacher bound √(2 yᵀK⁻¹y/m) of the kernel's interpolant, so larger predicts a larger gap.
    Raises: Undefined where K is numerically singular, λ_min ≤ N · 2.2e-16 · λ_max.
    """
    eigenvalues, vectors = tangent_eigensystem
    return inverse_energy(eigenvalues, vectors, tangent_labels)


@measure(source="arora2019, theorem 5.1", sign=+1, invariances=("unit_permutation",))
def arora_bound(tangent_eigensystem: tuple[Tensor, Tensor], tangent_labels: Tensor, train: Split) -> float:
    """The leading term of Arora et al.'s bound on the loss of the kernel's interpolant.

    Formula: √(2 yᵀK⁻¹y / n), `label_energy` on the kernel's n examples. The paper's K is that of infinite width at
    initialisation and its y are ±1; here K is the final tangent kernel, which has seen the labels, and y the centred
    label indicators, so this ranks and bounds nothing.
    Sign: the bound grows with it. Raises: Undefined where K is numerically singular.
    """
    energy = inverse_energy(*tangent_eigensystem, tangent_labels)
    return math.sqrt(2 * energy * train.classes / len(tangent_labels))


@measure(source="golub1979, generalized cross-validation", sign=+1, invariances=("unit_permutation",))
def tangent_gcv_gap(
    tangent_eigensystem: tuple[Tensor, Tensor], tangent_labels: Tensor, train: Split, *, ridge: float = 0.01
) -> float:
    """The gap in squared loss that generalized cross-validation foretells for ridge regression with the tangent kernel.

    Formula: Φ [(1 − d/N)^−2 − 1], Φ = ‖ŷ − y‖²/(2n), ŷ = A y, A = K(K + ρI)⁻¹, d = tr A, on N = n · classes outputs;
    ρ = ``ridge`` times the mean eigenvalue of K. K is the final tangent kernel of n = 64 examples, not centred, y the
    centred label indicators. The ridge stands in for the training time, which a network alone does not tell.
    Sign: it estimates the gap. Raises: Undefined where the kernel is zero.
    """
    eigenvalues, vectors = tangent_eigensystem
    level = ridge * _positive_mean(eigenvalues)
    filters = level / (eigenvalues + level)
    return gcv_gap(filters, vectors.T @ tangent_labels, len(tangent_labels) // train.classes)


@measure(source="golub1979, ordinary cross-validation", sign=+1, invariances=("unit_permutation",))
def tangent_loo_gap(
    tangent_eigensystem: tuple[Tensor, Tensor], tangent_labels: Tensor, train: Split, *, ridge: float = 0.01
) -> float:
    """The gap in squared loss that leave-one-out finds for ridge regression with the tangent kernel.

    Formula: (1/2n) Σ_i (‖e_i^{−i}‖² − ‖e_i‖²), e = y − A y as in `tangent_gcv_gap`, and e_i^{−i} the residual of all
    outputs of example i under the fit without it: [(K + ρI)⁻¹]_ii⁻¹ [(K + ρI)⁻¹ y]_i, exact for given y and ρ.
    Sign: it estimates the gap. Raises: Undefined where the kernel is zero.
    """
    eigenvalues, vectors = tangent_eigensystem
    level = ridge * _positive_mean(eigenvalues)
    return loo_gap(eigenvalues, vectors, tangent_labels, level, train.classes)


@measure(source="zhang2005, effective data dimensionality", sign=+1, invariances=("unit_permutation",))
def tangent_effective_dimension(tangent_eigenvalues: Tensor, *, ridge: float = 0.01) -> float:
    """Effective dimension of the tangent kernel: how many directions stand above a ridge.

    Formula: Σ_j λ_j / (λ_j + ridge · λ_max); the paper's form as recalled.
    Sign: it is the degrees of freedom with which kernel ridge regression fits noise, so larger predicts a larger gap.
    Raises: Undefined where the kernel is zero.
    """
    return effective_dimension(tangent_eigenvalues, ridge * float(_positive_top(tangent_eigenvalues)))


@measure(source="bartlett2020, effective rank r_k", sign=-1, invariances=("unit_permutation",))
def benign_rank_r(tangent_eigenvalues: Tensor, *, k: int = 0) -> float:
    """Effective rank r_k of the tangent kernel's spectrum.

    Formula: r_k = Σ_{j>k} λ_j / λ_{k+1}, eigenvalues descending.
    Sign: overfitting is benign where the tail is of high effective rank, so larger predicts a smaller gap.
    Raises: Undefined where λ_{k+1} is zero or missing.
    """
    return tail_rank(tangent_eigenvalues, k)


@measure(source="bartlett2020, effective rank R_k", sign=-1, invariances=("unit_permutation",))
def benign_rank_R(tangent_eigenvalues: Tensor, *, k: int = 0) -> float:  # noqa: N802  the paper tells r_k from R_k
    """Effective rank R_k of the tangent kernel's spectrum.

    Formula: R_k = (Σ_{j>k} λ_j)² / Σ_{j>k} λ_j², eigenvalues descending.
    Sign: overfitting is benign where the tail is of high effective rank, so larger predicts a smaller gap.
    Raises: Undefined where λ_{k+1} is zero or missing.
    """
    return tail_participation(tangent_eigenvalues, k)


_PERMUTATIONS = ("unit_permutation", "example_permutation", "example_duplication")


@measure(source="bartlett2020, effective rank r_k", sign=-1, invariances=_PERMUTATIONS)
def feature_benign_rank_r(features: Tensor, *, k: int = 0) -> float:
    """Effective rank r_k of the covariance of the last layer's features.

    Formula: r_k = Σ_{j>k} λ_j / λ_{k+1}, λ the eigenvalues, descending, of the covariance over the training examples.
    Sign: overfitting is benign where the tail is of high effective rank, so larger predicts a smaller gap.
    Raises: Undefined where λ_{k+1} is zero or missing.
    """
    return tail_rank(covariance_eigenvalues(features), k)


@measure(source="bartlett2020, effective rank R_k", sign=-1, invariances=_PERMUTATIONS)
def feature_benign_rank_R(features: Tensor, *, k: int = 0) -> float:  # noqa: N802  the paper tells r_k from R_k
    """Effective rank R_k of the covariance of the last layer's features.

    Formula: R_k = (Σ_{j>k} λ_j)² / Σ_{j>k} λ_j², λ as in `feature_benign_rank_r`.
    Sign: overfitting is benign where the tail is of high effective rank, so larger predicts a smaller gap.
    Raises: Undefined where λ_{k+1} is zero or missing.
    """
    return tail_participation(covariance_eigenvalues(features), k)


variants(benign_rank_r, k=(10,))
variants(benign_rank_R, k=(10,))
variants(feature_benign_rank_r, k=(10,))
variants(feature_benign_rank_R, k=(10,))


def centred(kernel: Float[Tensor, "N N"], classes: int) -> Float[Tensor, "N N"]:
    """(H ⊗ I) K (H ⊗ I), H = I − 11ᵀ/n: the kernel of features centred over the examples, for each class."""
    examples = len(kernel) // classes
    blocks = kernel.view(examples, classes, examples, classes)
    blocks = blocks - blocks.mean(dim=0, keepdim=True)
    return (blocks - blocks.mean(dim=2, keepdim=True)).reshape(kernel.shape)


def alignment(kernel: Float[Tensor, "N N"], labels: Float[Tensor, " N"]) -> float:
    """yᵀ K y / (‖K‖_F ‖y‖²), not centred.

    Raises: Undefined where the kernel is zero.
    """
    norm = float(torch.linalg.vector_norm(kernel))
    if norm == 0:
        raise Undefined("the tangent kernel is zero")
    return float(labels @ kernel @ labels) / (norm * float(labels @ labels))


def slow_mass(eigenvalues: Tensor, vectors: Tensor, labels: Tensor, cutoff: float) -> float:
    """The fraction of ‖y‖² in eigenvectors with λ_j < cutoff · λ_max."""
    top = _positive_top(eigenvalues)
    energies = (vectors.T @ labels).square()
    return float(energies[eigenvalues < cutoff * top].sum() / energies.sum())


def inverse_energy(eigenvalues: Tensor, vectors: Tensor, labels: Tensor) -> float:
    """yᵀ K⁻¹ y from the eigensystem of K.

    Raises: Undefined where λ_min ≤ N · eps · λ_max.
    """
    top, bottom = float(_positive_top(eigenvalues)), float(eigenvalues.min())
    floor = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * top
    if bottom <= floor:
        raise Undefined(
            f"the tangent kernel is numerically singular (smallest eigenvalue {bottom:.2g}, floor {floor:.2g})"
        )
    return float(((vectors.T @ labels).square() / eigenvalues).sum())


def gcv_gap(filters: Float[Tensor, " N"], coefficients: Float[Tensor, " N"], examples: int) -> float:
    """Φ [(mean filter)^−2 − 1], Φ = Σ_j (filter_j c_j)²/(2n): what is left of y = Σ c_j v_j is Σ filter_j c_j v_j.

    A filter is ρ/(λ + ρ) for a ridge ρ, and exp(−λτ/n) for gradient flow on the squared loss until time τ.
    Raises: Undefined where the filters are all zero, as for an interpolant.
    """
    kept = float(filters.mean())
    if kept <= 0:
        raise Undefined("nothing is left of the labels: cross-validation of an interpolant is 0/0")
    return float((filters * coefficients).square().sum()) / (2 * examples) * (kept**-2 - 1)


def loo_gap(eigenvalues: Tensor, vectors: Tensor, labels: Float[Tensor, " N"], ridge: float, classes: int) -> float:
    """(1/2n) Σ_i (‖e_i^{−i}‖² − ‖e_i‖²) of kernel ridge regression, leaving out all outputs of an example."""
    examples = len(labels) // classes
    inverse = 1 / (eigenvalues + ridge)
    solved = (vectors @ (inverse * (vectors.T @ labels))).view(examples, classes, 1)
    rows = vectors.view(examples, classes, -1)
    blocks = (rows * inverse) @ rows.mT
    left_out = torch.linalg.solve(blocks, solved)
    return float(left_out.square().sum() - (ridge * solved).square().sum()) / (2 * examples)


def effective_dimension(eigenvalues: Tensor, ridge: float) -> float:
    """Σ_j λ_j / (λ_j + ridge)."""
    return float((eigenvalues / (eigenvalues + ridge)).sum())


def tail_rank(eigenvalues: Float[Tensor, " N"], k: int) -> float:
    """r_k of descending eigenvalues."""
    tail = _tail(eigenvalues, k)
    return float(tail.sum() / tail[0])


def tail_participation(eigenvalues: Float[Tensor, " N"], k: int) -> float:
    """R_k of descending eigenvalues."""
    tail = _tail(eigenvalues, k)
    return float(tail.sum().square() / tail.square().sum())


def _tail(eigenvalues: Tensor, k: int) -> Tensor:
    tail = eigenvalues[k:]
    if len(tail) == 0 or float(tail[0]) <= 0:
        raise Undefined(f"there is no positive eigenvalue after the first {k}")
    return tail


def _positive_top(eigenvalues: Tensor) -> Tensor:
    top = eigenvalues.max()
    if float(top) <= 0:
        raise Undefined("the tangent kernel is zero")
    return top


def _positive_mean(eigenvalues: Tensor) -> float:
    _positive_top(eigenvalues)
    return float(eigenvalues.mean())
