from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures import tangent
from gapbench.measures.registry import Undefined
from gapbench.measures.tangent import (
    TANGENT_EXAMPLES,
    tangent_eigensystem,
    tangent_eigenvalues,
    tangent_gram,
    tangent_kernel,
    tangent_labels,
)


class Twice(nn.Module):
    """One layer used twice: its kernel is not a product of inputs and output gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(torch.relu(self.first(x)))))


def initialised(net: nn.Module) -> nn.Module:
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in net.double().eval().parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
    return net


def mlp(bias: bool = True) -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(4, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)))


def cnn() -> nn.Module:
    """Its first convolution has more positions than weights, its second fewer."""
    return initialised(
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, stride=2, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4, 3),
        )
    )


def norm() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3)))


def slopes(classes: int = 16) -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(4, 5), nn.PReLU(5), nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, classes)))


class Scale(nn.Module):
    """No linear layer, and parameters of no and of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.each = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.one * x) * self.each


CASES = [
    (mlp, (4,)),
    (lambda: mlp(bias=False), (4,)),
    (cnn, (1, 8, 8)),
    (norm, (4,)),
    (lambda: initialised(Twice()), (4,)),
    (slopes, (4,)),
    (lambda: slopes(3), (4,)),
    (lambda: initialised(Scale()), (4,)),
]


def inputs(shape: tuple[int, ...], n: int = 7) -> torch.Tensor:
    return torch.randn(n, *shape, dtype=torch.float64, generator=generator(1, "inputs"))


def dense(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """J Jᵀ from the Jacobian of all logits, example by example."""
    state = {name: parameter.detach() for name, parameter in net.named_parameters()}
    jacobian = torch.func.jacrev(lambda s: torch.func.functional_call(net, s, x))(state)
    rows = torch.cat([block.reshape(*block.shape[:2], -1) for block in jacobian.values()], dim=2).flatten(0, 1)
    return rows @ rows.T


@pytest.mark.parametrize(("make", "shape"), CASES)
@pytest.mark.parametrize("block", [3, 125])
def test_the_kernel_is_that_of_the_jacobian(make, shape, block, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("gapbench.measures.tangent.BLOCK", block)
    net, x = make(), inputs(shape)
    kernel, expected = tangent_kernel(net, x), dense(net, x)
    assert float((kernel - expected).abs().max() / expected.abs().max()) < 1e-12
    assert torch.equal(kernel, kernel.T)
    assert float((tangent_kernel(mlp(), inputs((4,))) - dense(mlp(bias=False), inputs((4,)))).abs().max()) > 1e-3


def test_both_ways_of_a_convolution_are_taken_and_agree() -> None:
    net, x = cnn(), inputs((1, 8, 8))
    layers = tangent.single_use_layers(net, x[:1])
    first, second, _ = tangent.layer_sweeps(net, layers, x, tangent._unit_columns)
    for sweep in (first, second):
        columns, deltas = (of.squeeze(-3) for of in tangent.by_group(sweep))
        deltas = deltas.transpose(0, 1).contiguous()
        by_positions, by_gradients = (torch.zeros(7, 3, 7, 3, dtype=torch.float64) for _ in range(2))
        tangent._contract_positions(by_positions, columns, deltas)
        tangent._add_features(by_gradients, (deltas.flatten(1, 2) @ columns.mT).view(7, 3, -1))
        lower = [kernel.view(21, 21).tril() for kernel in (by_positions, by_gradients)]
        torch.testing.assert_close(*lower, rtol=1e-12, atol=1e-12)


def test_the_rows_are_example_by_example() -> None:
    net, x = mlp(), inputs((4,))
    (gradient,) = torch.autograd.grad(net(x)[2, 1], net[0].weight, retain_graph=True)
    one = tangent_kernel(net, x)[2 * 3 + 1, 2 * 3 + 1]
    pieces = torch.autograd.grad(net(x)[2, 1], list(net.parameters()))
    assert float(one) == pytest.approx(float(sum(piece.square().sum() for piece in pieces)), rel=1e-12)
    assert float(gradient.abs().max()) > 0


def test_the_quantity_takes_the_first_examples() -> None:
    x = inputs((4,), 100).float()
    labels = torch.arange(100) % 3
    kernel = tangent_gram(mlp(), Split(x, labels, 3))
    assert kernel.shape == (TANGENT_EXAMPLES * 3, TANGENT_EXAMPLES * 3)
    torch.testing.assert_close(kernel, tangent_kernel(mlp(), x[:TANGENT_EXAMPLES].double()))
    eigenvalues, vectors = tangent_eigensystem(kernel)
    torch.testing.assert_close((vectors * eigenvalues) @ vectors.T, kernel, rtol=1e-9, atol=1e-9)
    assert bool((eigenvalues.diff() <= 0).all())
    assert torch.equal(tangent_eigenvalues((eigenvalues, vectors)), eigenvalues)


def test_labels_are_centred_in_the_kernels_order() -> None:
    labels = torch.tensor([0, 2, 2, 1])
    found = tangent_labels(Split(torch.zeros(4, 1), labels, 3)).view(4, 3)
    assert torch.equal(found.argmax(dim=1), labels)
    torch.testing.assert_close(found.sum(dim=0), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(Undefined, match="all have the label 1"):
        tangent_labels(Split(torch.zeros(4, 1), torch.ones(4, dtype=torch.int64), 3))


class Tokens(nn.Module):
    """A linear layer at several positions, and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped, self.last = nn.Linear(4, 6), nn.Conv1d(6, 4, 2, groups=2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = torch.tanh(self.first(x.view(-1, 3, 4)))
        return self.last(torch.tanh(self.grouped(tokens.mT)).flatten(1))


@pytest.mark.parametrize("entries", [2**26, 200])
@pytest.mark.parametrize("make", [mlp, lambda: mlp(bias=False), cnn, norm, lambda: initialised(Twice()), Tokens])
def test_a_preconditioned_kernel_is_that_of_scaled_parameters(
    make: Callable[[], nn.Module], entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J M Jᵀ from the whole Jacobian; a factor of 0 takes a parameter out."""
    monkeypatch.setattr(tangent, "JACOBIAN_ENTRIES", entries)
    net, draws = make().double(), generator(3, "scales")
    shape = {"Sequential": (1, 6, 6), "Tokens": (12,)}.get(type(net).__name__, (4,))
    shape = (4,) if isinstance(net, nn.Sequential) and isinstance(net[0], nn.Linear) else shape
    inputs = torch.randn(5, *shape, dtype=torch.float64, generator=draws)
    scales = {n: torch.rand(p.shape, dtype=torch.float64, generator=draws) ** 3 for n, p in net.named_parameters()}
    next(iter(scales.values()))[0] = 0
    rows = []
    for output in net(inputs).flatten():
        gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    jacobian, metric = torch.stack(rows), torch.cat([scale.flatten() for scale in scales.values()])
    found = tangent_kernel(net, inputs, scales)
    torch.testing.assert_close(found, (jacobian * metric) @ jacobian.T, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(found, tangent_kernel(net, inputs), rtol=0.05), "the positive control: M matters"
