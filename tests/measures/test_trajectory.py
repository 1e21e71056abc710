"""Operators of training in output space: the identities of the theory, and plain numerical integration."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import Tensor

from gapbench.datasets.seeds import generator
from gapbench.measures.trajectory import (
    Stretch,
    Transfer,
    _decay,
    between,
    cross_entropy_curvature,
    root,
    squared_loss_curvature,
    transfer,
)

EXAMPLES, OUTPUTS, FEATURES = 6, 3, 40
SIZE = EXAMPLES * OUTPUTS
EYE = torch.eye(SIZE, dtype=torch.float64)
TIMES = (0.3, 1.0, 5.0)
TIGHT = 1e-11


def draws(*shape: int, name: str = "draws") -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "trajectory", name))


def jacobians(count: int, *, duplicated: bool = False) -> Tensor:
    """Jacobians of the training outputs (count, N, P); with the second example equal to the first where asked."""
    found = draws(count, EXAMPLES, OUTPUTS, FEATURES, name="jacobians") / math.sqrt(FEATURES)
    if duplicated:
        found[:, 1] = found[:, 0]
    return found.flatten(1, 2)


def path(curvature: Tensor, *, duplicated: bool = False, drifting: bool = True) -> list[Stretch]:
    features = jacobians(len(TIMES), duplicated=duplicated)
    probes = draws(4, FEATURES, name="probes")
    stretches = []
    for place, time in enumerate(TIMES):
        feature = features[place if drifting else 0]
        stretches.append(Stretch(feature @ feature.T, root(curvature), time, probes @ feature.T))
    return stretches


def squared() -> Tensor:
    return squared_loss_curvature(EXAMPLES, OUTPUTS)


def cross_entropy() -> Tensor:
    return cross_entropy_curvature(2 * draws(EXAMPLES, OUTPUTS, name="logits"))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TIGHT) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


def integrated(stretches: list[Stretch], steps: int = 2000) -> Transfer:
    """The same operators by Simpson's rule on matrix exponentials: the naive twin."""
    propagator, gramian, training = EYE, torch.zeros_like(EYE), torch.zeros_like(EYE)
    probes = torch.zeros(4, SIZE, dtype=torch.float64)
    for stretch in stretches:
        assert stretch.cross is not None
        step = stretch.time / steps
        half = torch.matrix_exp(-step / 2 * stretch.root @ stretch.root.T @ stretch.kernel)
        for _ in range(steps):
            middle = half @ propagator
            end = half @ middle
            weighted = step / 6 * (propagator + 4 * middle + end)
            for factor, at in ((1, propagator), (4, middle), (1, end)):
                gramian = gramian + step / 6 * factor * at.T @ stretch.kernel @ at
            training = training + stretch.kernel @ weighted
            probes = probes + stretch.cross @ weighted
            propagator = end
    return Transfer(propagator, gramian, training, probes)


@pytest.mark.parametrize("curvature", [squared(), cross_entropy()], ids=["squared loss", "cross-entropy"])
def test_the_operators_are_the_integrals(curvature: Tensor) -> None:
    found, expected = transfer(path(curvature)), integrated(path(curvature))
    assert found.probes is not None
    assert expected.probes is not None
    for name in ("propagator", "gramian", "training", "probes"):
        assert_close(getattr(found, name), getattr(expected, name), 1e-9)


def test_frozen_kernel_closed_forms() -> None:
    """Identity 1: W = (n/2)(I − e^{−2KT/n}), D = n(I − e^{−KT/n}); W ≈ KT as T → 0; rank W = rank K."""
    stretches = path(squared(), drifting=False)
    kernel, time = stretches[0].kernel, sum(TIMES)
    found = transfer(stretches)
    assert_close(found.gramian, EXAMPLES / 2 * (EYE - torch.matrix_exp(-2 * kernel * time / EXAMPLES)))
    assert_close(found.training, EXAMPLES * (EYE - torch.matrix_exp(-kernel * time / EXAMPLES)))
    short = transfer([Stretch(kernel, stretches[0].root, 1e-7)])
    assert_close(short.gramian / 1e-7, kernel, 1e-5)
    doubled = path(squared(), duplicated=True, drifting=False)
    ranks = (torch.linalg.matrix_rank(matrix, tol=1e-9) for matrix in (transfer(doubled).gramian, doubled[0].kernel))
    assert [int(rank) for rank in ranks] == [SIZE - OUTPUTS] * 2


def test_for_squared_loss_the_gramian_is_the_propagator_on_any_path() -> None:
    """Identity 2: W = (n/2)(I − PᵀP), D = n(I − P), tr W = (n/2)(N − ‖P‖_F²), the kernel drifting."""
    found = transfer(path(squared()))
    assert_close(found.gramian, EXAMPLES / 2 * (EYE - found.propagator.T @ found.propagator))
    assert_close(found.training, EXAMPLES * (EYE - found.propagator))
    trace = EXAMPLES / 2 * (SIZE - float(found.propagator.square().sum()))
    assert float(found.gramian.trace()) == pytest.approx(trace, rel=TIGHT)


def test_for_cross_entropy_it_is_not() -> None:
    """The positive control: the curvature moves the Gramian away from that form, by more than a few per cent."""
    found = transfer(path(cross_entropy()))
    form = EXAMPLES / 2 * (EYE - found.propagator.T @ found.propagator)
    assert float((found.gramian - form).norm() / found.gramian.norm()) > 0.05


def test_the_dissipation_identity() -> None:
    """Φ(s) − Φ(T) = gᵀ W g for squared loss, Φ = (n/2)‖g‖² with g = r/n."""
    found, start = transfer(path(squared())), draws(SIZE, name="gradient")
    end = found.propagator @ start
    dissipated = EXAMPLES / 2 * float(start @ start - end @ end)
    assert float(start @ found.gramian @ start) == pytest.approx(dissipated, rel=TIGHT)


@pytest.mark.parametrize("curvature", [squared(), cross_entropy()], ids=["squared loss", "cross-entropy"])
def test_the_reservoir_cannot_be_seen_at_a_probe(curvature: Tensor) -> None:
    """Identities 3 and 4: on ker W, made by a duplicated example, G and D vanish and the gradient is conserved."""
    found = transfer(path(curvature, duplicated=True))
    eigenvalues, vectors = torch.linalg.eigh(found.gramian)
    kernel = vectors[:, eigenvalues < 1e-10 * eigenvalues[-1]]
    assert kernel.shape[1] == OUTPUTS
    assert found.probes is not None
    for matrix in (found.probes @ kernel, found.training @ kernel):
        assert_close(matrix, torch.zeros_like(matrix), 1e-10)
    assert_close(found.propagator @ kernel, kernel, 1e-10)
    signal = vectors[:, -1]
    assert float((found.probes @ signal).norm()) > 1e-2, "the positive control: signal is seen"


def test_probes_are_a_function_of_the_training_outputs() -> None:
    """Identity 5: G = G D⁺ D on any path; G D⁺ = K_QS K⁺ where the kernel is frozen."""
    found = transfer(path(squared(), duplicated=True))
    assert found.probes is not None
    inverse = torch.linalg.pinv(found.training, rtol=1e-10)
    assert_close(found.probes @ inverse @ found.training, found.probes, 1e-9)
    stretches = path(squared(), duplicated=True, drifting=False)
    frozen = transfer(stretches)
    assert frozen.probes is not None
    assert stretches[0].cross is not None
    expected = stretches[0].cross @ torch.linalg.pinv(stretches[0].kernel, rtol=1e-10)
    assert_close(frozen.probes @ torch.linalg.pinv(frozen.training, rtol=1e-10), expected, 1e-8)


@pytest.mark.parametrize("curvature", [squared(), cross_entropy()], ids=["squared loss", "cross-entropy"])
def test_gramians_compose(curvature: Tensor) -> None:
    """Identity 10: W(s,T) = W(s,t) + P(t,s)ᵀ W(t,T) P(t,s)."""
    stretches = path(curvature)
    whole, first, rest = transfer(stretches), transfer(stretches[:1]), transfer(stretches[1:])
    assert_close(whole.gramian, first.gramian + first.propagator.T @ rest.gramian @ first.propagator)
    assert_close(whole.propagator, rest.propagator @ first.propagator)


def test_the_order_of_examples_and_rotations_of_parameters_do_not_matter() -> None:
    curvature, order = cross_entropy(), torch.randperm(EXAMPLES, generator=generator(0, "order"))
    rows = (order.unsqueeze(1) * OUTPUTS + torch.arange(OUTPUTS)).flatten()
    turned = torch.linalg.qr(draws(FEATURES, FEATURES, name="rotation")).Q
    features = jacobians(len(TIMES))
    moved = [
        Stretch((at[rows] @ turned) @ (at[rows] @ turned).T, root(curvature[order]), time)
        for at, time in zip(features, TIMES, strict=True)
    ]
    expected = transfer(path(curvature)).gramian
    assert_close(transfer(moved).gramian, expected[rows][:, rows])
    assert float((transfer(moved).gramian - expected).norm()) > 1e-3


def test_the_curvature_of_cross_entropy_is_its_hessian() -> None:
    logits = draws(EXAMPLES, OUTPUTS, name="logits")
    labels = torch.arange(EXAMPLES) % OUTPUTS

    def loss(flat: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(flat.view(EXAMPLES, OUTPUTS), labels)

    hessian = torch.autograd.functional.hessian(loss, logits.flatten())
    factor = root(cross_entropy_curvature(logits))
    assert_close(factor @ factor.T, hessian)


def test_stretches_between_checkpoints_are_means() -> None:
    kernels = [draws(SIZE, SIZE, name=str(i)) for i in range(3)]
    curvatures = [squared(), cross_entropy(), cross_entropy()]
    first, second = between(kernels, curvatures, [1.0, 2.0])
    assert_close(first.kernel, (kernels[0] + kernels[1]) / 2)
    assert_close(first.root @ first.root.T, torch.block_diag(*((curvatures[0] + curvatures[1]) / 2)))
    assert (first.time, second.time) == (1.0, 2.0)
    with pytest.raises(ValueError, match="3 kernels, 3 curvatures, 1 times"):
        list(between(kernels, curvatures, [1.0]))


def test_a_path_without_a_stretch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one stretch"):
        transfer([])


@pytest.mark.parametrize("x", [1e-9, 1e-3, 0.0999, 0.1001, 1.0, 30.0])
def test_functions_of_the_decay_are_exact_near_their_series(x: float) -> None:
    """Against Gauss–Legendre quadrature of ∫ e^{−xs}, ∫∫ and ∫ (1−e^{−xs})²/x over [0, 1]."""
    nodes, weights = (torch.from_numpy(part) for part in numpy.polynomial.legendre.leggauss(60))
    s, w = (nodes + 1) / 2, weights / 2
    once, twice, square = (float(part) for part in _decay(torch.tensor([x], dtype=torch.float64)))
    assert once == pytest.approx(float(w @ torch.exp(-x * s)), rel=1e-12)
    assert twice == pytest.approx(float(w @ (-torch.expm1(-x * s) / x)), rel=1e-12)
    assert square == pytest.approx(float(w @ (torch.expm1(-x * s).square() / x)), rel=1e-11)


def test_discrete_descent_has_the_gramian_of_its_own_propagator() -> None:
    """Identity 6: Σ η P_kᵀ(K_k − (η/2n)K_k²)P_k = (n/2)(I − PᵀP), the kernel drifting; the flow as η → 0."""
    gaps = []
    for split in (1, 10, 100):
        propagator, gramian, stretches = EYE, torch.zeros_like(EYE), []
        for features in jacobians(30):
            kernel, step = features @ features.T, 0.3 / split
            stretches.append(Stretch(kernel, root(squared()), 0.3))
            for _ in range(split):
                summand = kernel - step / (2 * EXAMPLES) * kernel @ kernel
                gramian = gramian + step * propagator.T @ summand @ propagator
                propagator = propagator - step / EXAMPLES * kernel @ propagator
        assert_close(gramian, EXAMPLES / 2 * (EYE - propagator.T @ propagator))
        gaps.append(float((transfer(stretches).gramian - gramian).norm() / gramian.norm()))
    assert gaps[2] < gaps[1] / 8 < gaps[0] / 64
    assert gaps[0] > 1e-4, "the positive control: a finite step is not the flow"
