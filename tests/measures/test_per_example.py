from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.measures.per_example import (
    JACOBIAN_ENTRIES,
    _not_adding_up,
    jacobian,
    jacobians,
    layer_sweeps,
    other_jacobians,
    other_parameters,
    single_use_layers,
    squared_gradient_norms,
)
from gapbench.measures.registry import Undefined


class Twice(nn.Module):
    """Applies one layer twice, so that its weights have no single map per example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(torch.relu(self.first(x)))))


def network(*, inplace: bool = False, bias: bool = True) -> nn.Sequential:
    """A small float64 convolutional network: one layer with more positions than weights, one with fewer."""
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.Flatten(),
        nn.Linear(4, 5, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.Linear(5, 3, bias=bias),
    ).double()
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
    return layers


def images(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 2, 8, 8, dtype=torch.float64, generator=generator(1, "images"))


def units(logits: torch.Tensor) -> torch.Tensor:
    n, classes = logits.shape
    return torch.eye(classes, dtype=logits.dtype)[:, None, :].expand(classes, n, classes)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_squared_gradient_norms_are_those_of_the_jacobian(inplace: bool, bias: bool) -> None:
    net, x = network(inplace=inplace, bias=bias), images()
    assert len(single_use_layers(net, x[:1])) == 4
    names = [name for name, _ in net.named_parameters()]
    expected = torch.stack([jacobian(net, name, x).square().sum(dim=2).T for name in names]).sum(dim=0)
    found = squared_gradient_norms(net, x, lambda logits, _: units(logits))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_squared_gradient_norms_count_every_parameter_and_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapbench.measures.per_example.SWEPT_VECTORS", 3)
    net = nn.Sequential(nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, 3)).double()
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.arange(21, dtype=torch.float64).view(7, 3)
    found = squared_gradient_norms(net, x, lambda logits, part: weights[part][None])[0]
    for i in range(7):
        gradients = torch.autograd.grad((net(x[i : i + 1])[0] * weights[i]).sum(), list(net.parameters()))
        assert float(found[i]) == pytest.approx(sum(float(g.square().sum()) for g in gradients), rel=1e-12)


def test_the_jacobian_is_that_of_autograd() -> None:
    net, x = network(), images(2)
    weight = net[0].weight
    found = jacobian(net, "0.weight", x)
    for i in range(2):
        for c in range(3):
            (expected,) = torch.autograd.grad(net(x)[i, c], weight)
            torch.testing.assert_close(found[i, c], expected.flatten(), rtol=1e-12, atol=1e-12)


class Scaled(nn.Module):
    """Its only parameter has no dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def with_slope(classes: int, slopes: int = 1, *, images: bool = False) -> nn.Sequential:
    """The slope of PReLU is the parameter ``1.weight``."""
    first = [nn.Conv2d(2, 4, 3), nn.PReLU(slopes), nn.Flatten()] if images else [nn.Linear(4, 4), nn.PReLU(slopes)]
    return nn.Sequential(*first, nn.Linear(144 if images else 4, classes)).double()


OTHERS = [
    *[(lambda c=c, s=s: with_slope(c, s), "1.weight", (4,)) for c in (2, 16) for s in (1, 4)],
    *[(lambda c=c: with_slope(c, 4, images=True), "1.weight", (2, 8, 8)) for c in (3, 16)],
    (lambda: nn.Sequential(nn.Linear(4, 3).double(), Scaled(), nn.Tanh()), "1.scale", (4,)),
    (Scaled, "scale", (4,)),
    (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double(), "1.weight", (4,)),
]


@pytest.mark.parametrize(("make", "name", "shape"), OTHERS)
@pytest.mark.parametrize("examples", [1, 5, 16])
def test_the_jacobian_of_a_parameter_of_any_shape(make, name, shape, examples) -> None:  # type: ignore[no-untyped-def]
    """16 classes and 16 examples, and 4 channels and 4 slopes: sizes that agree by chance must not be mixed up."""
    torch.manual_seed(0)
    net, x = make(), torch.randn(examples, *shape, dtype=torch.float64, generator=generator(2, "x"))
    parameter, outputs = net.get_parameter(name), net(x)
    rows = [torch.autograd.grad(one, parameter, retain_graph=True)[0].flatten() for one in outputs.flatten()]
    expected = torch.stack(rows).view(*outputs.shape, -1)
    found = jacobian(net, name, x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if examples > 1:  # of one example, no unit may be where the slope counts
        assert float(expected.abs().max()) > 1e-3


def test_a_wrong_jacobian_of_all_examples_at_once_is_seen() -> None:
    torch.manual_seed(0)
    net, x = with_slope(16), torch.randn(16, 4, dtype=torch.float64, generator=generator(2, "x"))
    right = jacobians(net, ["1.weight", "0.bias"], x)
    for wrong in (lambda slope: slope.transpose(0, 1), lambda slope: slope.mean(dim=0, keepdim=True).expand(16, 16, 1)):
        found = {"1.weight": right["1.weight"], "0.bias": right["0.bias"]}
        assert _not_adding_up(found, net, x) == []
        found["1.weight"] = wrong(found["1.weight"])
        assert _not_adding_up(found, net, x) == ["1.weight"]


def test_a_network_without_such_layers_has_no_sweeps() -> None:
    assert layer_sweeps(Scaled(), {}, images(), units) == []


class TokensFirst(nn.Module):
    """Its layer sees tokens in the first dimension, examples in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.transpose(0, 1)).mean(dim=0)


def test_a_layer_used_twice_and_shared_weights_and_other_rows_than_examples_are_left_out() -> None:
    twice = Twice()
    assert list(single_use_layers(twice, torch.zeros(1, 4))) == ["last"]
    assert set(other_parameters(twice, {"last": twice.last})) == {"first.weight", "first.bias"}
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert single_use_layers(tied, torch.zeros(1, 4)) == {}
    assert len(single_use_layers(nn.Linear(4, 2), torch.zeros(1, 5, 4))) == 1
    assert single_use_layers(TokensFirst(), torch.zeros(1, 5, 4)) == {}
    rows = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2), nn.Unflatten(0, (-1, 5)))
    assert single_use_layers(rows, torch.zeros(1, 5, 4)) == {}


def test_a_jacobian_too_large_is_undefined_and_several_are_taken_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, x = TokensFirst(), torch.randn(20, 5, 4, generator=generator(3, "x"))
    whole = torch.cat([found["layer.weight"] for _, found in other_jacobians(net, {}, x)])
    assert [len(found) for _, found in other_jacobians(net, {}, x)] == [2, 2]
    monkeypatch.setattr("gapbench.measures.per_example.JACOBIAN_ENTRIES", 16 * 2 * 8)
    assert [len(found) for _, found in other_jacobians(net, {}, x)] == [1, 1, 1, 1]
    parts = torch.cat([found["layer.weight"] for _, found in other_jacobians(net, {}, x) if "layer.weight" in found])
    torch.testing.assert_close(parts, whole)
    monkeypatch.setattr("gapbench.measures.per_example.JACOBIAN_ENTRIES", 16 * 2 * 8 - 1)
    with pytest.raises(Undefined, match=r"layer\.weight has 8 entries"):
        list(other_jacobians(net, {}, x))
    assert JACOBIAN_ENTRIES * 8 == 2**29


def test_the_network_is_left_as_it_was() -> None:
    net, x = network(), images()
    layer_sweeps(net, single_use_layers(net, x[:1]), x, units)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(not module._forward_hooks for module in net.modules())
