from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.curvature import (
    gauss_newton_trace,
    hessian_lanczos,
    hessian_product,
    hutchinson_trace,
    krylov_basis,
    largest_eigenvalue,
    mean_loss_terms,
    spectral_density,
    square_root_columns,
    top_eigenvalue,
    top_eigenvalues,
    trace,
    value,
    value_and_gradient,
)
from gapbench.measures.piecewise_linear import is_piecewise_linear


class FunctionalTanh(nn.Module):
    """Its activation is no module, so that only the graph tells that it is not piecewise linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


class Twice(nn.Module):
    """One weight used twice: the output is quadratic in it, though every operation is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(self.first(x)))


class Residual(nn.Module):
    """A skip connection, piecewise linear in every weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)) + x)


def initialised(net: nn.Module) -> nn.Module:
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in net.double().eval().parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
    return net


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 3)))


def cnn() -> nn.Module:
    return initialised(
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.MaxPool2d(2),
            nn.LeakyReLU(),
            nn.Conv2d(3, 2, 2, bias=False),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(2, 3),
        )
    )


def normed() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3)))


def slopes() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(3, 5), nn.PReLU(5), nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)))


class Scale(nn.Module):
    """No linear layer, and parameters of no and of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.each = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.one * x) * self.each


def sample(shape: tuple[int, ...] = (3,), n: int = 12) -> Split:
    draws = generator(1, "sample")
    return Split(torch.randn(n, *shape, generator=draws), torch.randint(3, (n,), generator=draws), 3)


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def dense_hessian(net: nn.Module, train: Split) -> torch.Tensor:
    (term,) = mean_loss_terms(net, train)
    return torch.autograd.functional.hessian(term, flat(net))


def traced(net: nn.Module, train: Split, seed: int = 0):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        logits = net(train.inputs.double())
    return trace(net, logits, flat(net), gauss_newton_trace(net, train), train, generator(seed, "trace"))


CASES = [
    (mlp, (3,)),
    (cnn, (1, 6, 6)),
    (lambda: mlp(nn.Tanh), (3,)),
    (normed, (3,)),
    (lambda: initialised(Twice()), (3,)),
    (slopes, (3,)),
    (lambda: initialised(Scale()), (3,)),
]


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_products_and_the_top_eigenvalue_are_those_of_the_dense_hessian(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    hessian = dense_hessian(net, train)
    vector = torch.randn(len(hessian), dtype=torch.float64, generator=generator(2, "vector"))
    product = hessian_product(mean_loss_terms(net, train), flat(net))
    torch.testing.assert_close(product(vector), hessian @ vector, rtol=1e-12, atol=1e-13)
    assert float((product(vector) - 1.01 * (hessian @ vector)).abs().max()) > 1e-6
    top = top_eigenvalue(krylov_basis(net, train, generator(3, "lanczos")))
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert top.converged
    assert abs(top.value - expected) <= max(top.standard_error, 1e-10 * expected)


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_the_top_eigenvalues_are_those_of_the_dense_hessian(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    expected = torch.linalg.eigvalsh(dense_hessian(net, train)).flip(0)
    basis = krylov_basis(net, train, generator(3, "lanczos"))
    found = top_eigenvalues(basis)
    assert len(found) == min(5, len(expected))
    for one, true in zip(found, expected.tolist(), strict=False):
        assert one.converged
        assert abs(one.value - true) <= max(one.standard_error, 1e-10 * float(expected[0]))
        assert one.standard_error <= 1e-3 * abs(one.value)
    assert abs(found[1].value - found[0].value) > 1e-3 * found[0].value
    assert top_eigenvalue(basis) == top_eigenvalue(krylov_basis(net, train, generator(3, "lanczos")))


def test_the_density_has_the_moments_of_the_dense_hessian() -> None:
    net, train = mlp(), sample()
    hessian, size = dense_hessian(net, train), len(flat(net))
    moments = []
    for seed in range(40):
        nodes, weights = spectral_density(krylov_basis(net, train, generator(seed, "density")))
        assert float(weights.sum()) == pytest.approx(1, rel=1e-10)
        assert bool((nodes.diff() >= 0).all())
        moments.append([float((weights * nodes**k).sum()) for k in (1, 2)])
    found, spread = torch.tensor(moments).mean(dim=0), torch.tensor(moments).std(dim=0) / 40**0.5
    expected = torch.stack([hessian.trace(), hessian.square().sum()]) / size
    assert bool(((found - expected).abs() < 4 * spread).all())
    assert bool(((found - 2 * expected).abs() > 4 * spread).all())


def test_terms_add_up_to_the_loss_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    net, train = mlp(), sample()
    whole = mean_loss_terms(net, train)
    monkeypatch.setattr("gapbench.measures.curvature.EXAMPLES_AT_ONCE", 5)
    assert len(mean_loss_terms(net, train)) == 1
    monkeypatch.setattr("gapbench.measures.curvature.ACTIVATIONS_AT_ONCE", 0)
    parts = mean_loss_terms(net, train)
    assert (len(whole), len(parts)) == (1, 3)
    assert value(parts, flat(net)) == pytest.approx(value(whole, flat(net)), rel=1e-14)
    vector = torch.ones_like(flat(net))
    torch.testing.assert_close(value_and_gradient(parts, vector), value_and_gradient(whole, vector))
    a, b = hessian_product(parts, flat(net))(vector), hessian_product(whole, flat(net))(vector)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_largest_eigenvalue_is_the_algebraic_one() -> None:
    matrix = torch.diag(torch.tensor([-9.0, 1.0, 2.0, 4.0], dtype=torch.float64))
    found = largest_eigenvalue(lambda v: matrix @ v, 4, generator(0, "lanczos"))
    assert found.value == pytest.approx(4, rel=1e-9)
    assert found.converged


def test_a_spectrum_too_crowded_for_the_steps_is_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.linspace(0, 1, 500, dtype=torch.float64)
    monkeypatch.setattr("gapbench.measures.lanczos.MOST_STEPS", 5)
    assert not largest_eigenvalue(lambda v: values * v, 500, generator(0, "lanczos")).converged
    monkeypatch.setattr("gapbench.measures.lanczos.MOST_STEPS", 200)
    found = largest_eigenvalue(lambda v: values * v, 500, generator(0, "lanczos"))
    assert found.converged
    assert abs(found.value - 1) <= 1e-3


@pytest.mark.parametrize(("make", "shape"), CASES[:2])
def test_the_trace_is_exact_for_piecewise_linear_networks(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    found = traced(net, train)
    assert found.standard_error == 0
    assert found.value == pytest.approx(float(dense_hessian(net, train).trace()), rel=1e-12)


@pytest.mark.parametrize(("make", "shape"), CASES[2:])
def test_the_trace_is_exact_for_few_parameters_elsewhere(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    found = traced(net, train)
    assert (found.standard_error, found.converged) == (0, True)
    assert found.value == pytest.approx(float(dense_hessian(net, train).trace()), rel=1e-11)
    if make is not slopes:  # the outputs are piecewise linear in a slope too
        assert abs(gauss_newton_trace(net, train) - found.value) > 1e-6


@pytest.mark.parametrize(("make", "shape"), CASES[2:])
def test_the_trace_is_estimated_for_many(make, shape, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("gapbench.measures.curvature.MOST_EXACT_PARAMETERS", 0)
    monkeypatch.setattr("gapbench.measures.curvature.MOST_PROBES", 60)
    net, train = make(), sample(shape)
    expected, found = float(dense_hessian(net, train).trace()), [traced(net, train, seed) for seed in range(4)]
    for one in found:
        assert one.standard_error > 0
        assert one.converged == (one.standard_error <= 0.05 * abs(one.value))
        assert abs(one.value - expected) < 4 * one.standard_error
    shift = 8 * max(one.standard_error for one in found)
    assert all(abs(one.value - expected - shift) > 4 * one.standard_error for one in found)


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_the_gauss_newton_trace_is_that_of_the_dense_matrix(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    names = [name for name, _ in net.named_parameters()]
    sizes = [parameter.numel() for parameter in net.parameters()]
    shapes = [parameter.shape for parameter in net.parameters()]

    def logits(w: torch.Tensor) -> torch.Tensor:
        parts = {n: p.view(s) for n, p, s in zip(names, w.split(sizes), shapes, strict=True)}
        return torch.func.functional_call(net, parts, train.inputs.double())

    rows = torch.func.jacrev(logits)(flat(net))
    p = torch.softmax(logits(flat(net)), dim=1).detach()
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("icp,icd,idp->", rows, middle, rows) / len(train)
    assert gauss_newton_trace(net, train) == pytest.approx(float(expected), rel=1e-12)


def test_piecewise_linear_networks_are_told_from_the_graph() -> None:
    x = torch.randn(1, 3, dtype=torch.float64, generator=generator(0, "x"))
    assert is_piecewise_linear(mlp(), x)
    assert is_piecewise_linear(initialised(Residual()), x)
    assert is_piecewise_linear(cnn(), torch.zeros(1, 1, 6, 6, dtype=torch.float64))
    for smooth in (mlp(nn.Tanh), mlp(nn.GELU), initialised(FunctionalTanh()), initialised(Twice()), normed()):
        assert not is_piecewise_linear(smooth, x)


def test_hutchinson_has_the_standard_error_it_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapbench.measures.curvature.MOST_PROBES", 20)
    matrix = torch.randn(30, 30, dtype=torch.float64, generator=generator(0, "matrix"))
    matrix = matrix + matrix.T
    found = [hutchinson_trace(lambda v: matrix @ v, 30, generator(seed, "probes")) for seed in range(20)]
    spread = torch.tensor([one.value for one in found]).std()
    assert 0.5 < float(spread) / (sum(one.standard_error for one in found) / 20) < 2
    mean = sum(one.value for one in found) / 20
    assert abs(mean - float(matrix.trace())) < 4 * float(spread) / math.sqrt(20)


def test_hutchinson_draws_until_the_error_is_small_or_says_that_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(30, 30, dtype=torch.float64, generator=generator(0, "matrix"))
    matrix = matrix + matrix.T + 20 * torch.eye(30, dtype=torch.float64)
    products = []

    def product(vector: torch.Tensor) -> torch.Tensor:
        products.append(vector)
        return matrix @ vector

    few = hutchinson_trace(product, 30, generator(0, "probes"), known=1e6)
    assert (few.converged, len(products)) == (True, 20)
    more = hutchinson_trace(product, 30, generator(0, "probes"), known=-450.0)
    assert more.converged
    assert more.standard_error <= 0.05 * more.value
    assert len(products) > 40
    monkeypatch.setattr("gapbench.measures.curvature.MOST_PROBES", 25)
    assert not hutchinson_trace(product, 30, generator(0, "probes"), known=-float(matrix.trace())).converged


def test_agreement_with_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops-for-pytorch is not installed")
    net, train = mlp(), sample()
    data = [(train.inputs.double(), train.labels)]
    operator = curvlinops.HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), data)
    dense = operator @ torch.eye(operator.shape[1], dtype=torch.float64)
    top = top_eigenvalue(krylov_basis(net, train, generator(0, "lanczos")))
    expected = float(torch.linalg.eigvalsh((dense + dense.T) / 2)[-1])
    assert abs(top.value - expected) <= max(top.standard_error, 1e-9 * expected)
    assert traced(net, train).value == pytest.approx(float(dense.trace()), rel=1e-10)


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_the_columns_are_roots_of_the_softmax_curvature_to_full_relative_accuracy(scale: float) -> None:
    logits = torch.randn(50, 7, dtype=torch.float64, generator=generator(0, "logits")) * scale
    p, columns = logits.softmax(dim=1), square_root_columns(logits)
    assert columns.shape == (6, 50, 7)
    products = torch.einsum("cia,cib->iab", columns, columns)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(products, expected, rtol=0, atol=1e-15)
    others = torch.stack([p[:, [k for k in range(7) if k != j]].sum(dim=1) for j in range(7)], dim=1)
    # p (1 − p) without the cancellation of 1 − p
    seen = p * others > 1e-150  # a square root below 1e-75 is exact too, its square less and less
    torch.testing.assert_close(products.diagonal(dim1=1, dim2=2)[seen], (p * others)[seen], rtol=1e-12, atol=0)
    swapped = torch.einsum("cia,cib->iab", columns.flip(2), columns.flip(2))
    assert float((swapped - expected).abs().max()) > 1e-4


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_products_in_single_precision_are_off_by_far_less_than_the_tolerance(make, shape) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    expected = torch.linalg.eigvalsh(dense_hessian(net, train)).flip(0)
    single = copy.deepcopy(net).float()
    for one, true in zip(top_eigenvalues(krylov_basis(single, train, generator(3, "lanczos"))), expected.tolist()):
        assert abs(one.value - true) <= one.standard_error + 1e-5 * float(expected[0])
    wrong = top_eigenvalue(krylov_basis(copy.deepcopy(net).bfloat16().float(), train, generator(3, "lanczos")))
    assert abs(wrong.value / float(expected[0]) - 1) > 1e-5


def test_only_large_networks_are_differentiated_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    net, train = mlp(), sample((3,))
    single = copy.deepcopy(net).float()
    double = hessian_lanczos(net, single, train, generator(3, "lanczos")).ritz(3).values
    assert torch.equal(double, krylov_basis(net, train, generator(3, "lanczos")).ritz(3).values)
    monkeypatch.setattr("gapbench.measures.curvature.MOST_EXACT_PARAMETERS", 0)
    rounded = hessian_lanczos(net, single, train, generator(3, "lanczos")).ritz(3).values
    assert not torch.equal(double, rounded)
