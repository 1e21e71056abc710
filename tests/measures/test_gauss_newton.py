from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.curvature import gauss_newton_trace
from gapbench.measures.gauss_newton import (
    empirical_fisher_trace,
    fisher_trace,
    gauss_newton_eigenvalues,
    gauss_newton_spectral_entropy,
    laplace_evidence,
    spectral_entropy,
)
from gapbench.measures.registry import Undefined
from gapbench.measures.tangent import tangent_kernel


def initialised(net: nn.Module) -> nn.Module:
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in net.double().eval().parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
    return net


def mlp() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)))


def normed() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3)))


def sample(n: int = 20) -> Split:
    draws = generator(1, "sample")
    return Split(torch.randn(n, 3, generator=draws), torch.randint(3, (n,), generator=draws), 3)


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def logits(net: nn.Module, train: Split) -> torch.Tensor:
    with torch.no_grad():
        return net(train.inputs.double())


def dense(net: nn.Module, train: Split) -> torch.Tensor:
    """The Gauss–Newton matrix of the summed loss, from whole Jacobians."""
    total = torch.zeros(len(flat(net)), len(flat(net)), dtype=torch.float64)
    for x in train.inputs.double():
        out = net(x[None])[0]
        rows = [torch.autograd.grad(o, list(net.parameters()), retain_graph=True) for o in out]
        jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
        p = out.detach().softmax(dim=0)
        total += jacobian.T @ (p.diag() - p[:, None] * p) @ jacobian
    return total


def eigenvalues(net: nn.Module, train: Split) -> torch.Tensor:
    return gauss_newton_eigenvalues(tangent_kernel(net, train.inputs.double()), logits(net, train))


def gradients(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    rows = [
        torch.autograd.grad(cross_entropy(net(x[None]), y[None]), list(net.parameters()))
        for x, y in zip(inputs.double(), labels, strict=True)
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


@pytest.mark.parametrize("make", [mlp, normed])
def test_the_fisher_trace_is_the_mean_over_the_models_own_labels(make) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample()
    p = logits(net, train).softmax(dim=1)
    by_label = [gradients(net, train.inputs, torch.full_like(train.labels, c)).square().sum(dim=1) for c in range(3)]
    expected = float((p * torch.stack(by_label, dim=1)).sum(dim=1).mean())
    assert fisher_trace(gauss_newton_trace(net, train)) == pytest.approx(expected, rel=1e-10)
    own = float(gradients(net, train.inputs, train.labels).square().sum(dim=1).mean())
    assert empirical_fisher_trace(net, train) == pytest.approx(own, rel=1e-10)
    assert own != pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("make", [mlp, normed])
def test_the_spectrum_is_that_of_the_dense_matrix(make) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample()
    expected = torch.linalg.eigvalsh(dense(net, train))
    found = eigenvalues(net, train)
    size = min(len(expected), len(found))
    torch.testing.assert_close(found[-size:], expected[-size:].clamp_min(0), rtol=1e-8, atol=1e-10)
    assert float(found.sum()) == pytest.approx(len(train) * gauss_newton_trace(net, train), rel=1e-9)
    assert gauss_newton_spectral_entropy(found) == pytest.approx(spectral_entropy(expected.clamp_min(0)), rel=1e-6)


def test_the_entropy_of_known_spectra() -> None:
    assert spectral_entropy(torch.tensor([2.0, 2.0, 2.0, 0.0])) == pytest.approx(math.log(3))
    assert spectral_entropy(torch.tensor([5.0, 0.0])) == 0
    with pytest.raises(Undefined, match="zero"):
        spectral_entropy(torch.zeros(3))


def test_the_evidence_is_that_of_the_dense_determinant_at_the_best_prior() -> None:
    net, train = mlp(), sample()
    matrix, w = dense(net, train), flat(net)
    losses = cross_entropy(logits(net, train), train.labels, reduction="none")

    def negative_log_evidence(delta: float) -> float:
        """−ln ∫ exp(−ℓ − ½ uᵀGu) N(w + u; 0, I/δ) du by Laplace, all constants kept."""
        log_prior = len(w) / 2 * math.log(delta / (2 * math.pi)) - delta / 2 * float(w @ w)
        precision = matrix + delta * torch.eye(len(w), dtype=torch.float64)
        return float(losses.sum()) - log_prior - len(w) / 2 * math.log(2 * math.pi) + float(precision.logdet()) / 2

    grid = [negative_log_evidence(math.exp(x / 100)) for x in range(-800, 800)]
    found = laplace_evidence(eigenvalues(net, train), losses, w)
    assert found == pytest.approx(min(grid) / len(train), rel=1e-4)
    assert found <= min(grid) / len(train) + 1e-9
    assert found < negative_log_evidence(5.0) / len(train) * 0.99


def test_the_evidence_is_of_the_examples_of_the_kernel() -> None:
    net, train = mlp(), sample(100)
    first = Split(train.inputs[:64], train.labels[:64], 3)
    kernel = tangent_kernel(net, first.inputs.double())
    values = [
        laplace_evidence(
            gauss_newton_eigenvalues(kernel, logits(net, s)),
            cross_entropy(logits(net, s), s.labels, reduction="none"),
            flat(net),
        )
        for s in (train, first)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    with pytest.raises(Undefined, match="no best prior"):
        laplace_evidence(torch.zeros(4), torch.zeros(2), flat(net))
