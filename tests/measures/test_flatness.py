from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.curvature import mean_loss_terms, value_and_gradient
from gapbench.measures.flatness import gradient_norm, keskar, loss_gradient, relative_flatness, sam_sharpness
from gapbench.measures.registry import Undefined


def initialised(net: nn.Module) -> nn.Module:
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in net.eval().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draws))
    return net


def mlp() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)))


def cnn() -> nn.Module:
    return initialised(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    )


def sample(shape: tuple[int, ...] = (4,), n: int = 50) -> Split:
    draws = generator(1, "sample")
    return Split(torch.randn(n, *shape, generator=draws), torch.randint(3, (n,), generator=draws), 3)


def logits(net: nn.Module, train: Split) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(net).double()(train.inputs.double())


def losses(net: nn.Module, train: Split) -> torch.Tensor:
    return cross_entropy(logits(net, train), train.labels, reduction="none")


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.mark.parametrize(("make", "shape"), [(mlp, (4,)), (cnn, (2, 6, 6))])
def test_the_gradient_is_that_of_autograd_in_float64(make, shape, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    net, train = make(), sample(shape)
    monkeypatch.setattr("gapbench.measures.flatness.EXAMPLES_AT_ONCE", 17)
    exact = copy.deepcopy(net).double()
    _, expected = value_and_gradient(mean_loss_terms(exact, train), flat(exact))
    found = loss_gradient(net, logits(net, train), train)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.norm()))
    assert gradient_norm(found) == pytest.approx(float(expected.norm()), rel=1e-5)
    assert float((found - 1.01 * expected).norm()) > 1e-3 * float(expected.norm())


def test_the_gradient_keeps_its_precision_where_the_loss_is_tiny() -> None:
    net, train = mlp(), sample()
    train = Split(train.inputs, logits(net, train).argmax(dim=1), 3)
    with torch.no_grad():
        net[4].weight.mul_(50)
        net[4].bias.mul_(50)
    exact = copy.deepcopy(net).double()
    keep = losses(net, train) < 1e-12
    train = Split(train.inputs[keep], train.labels[keep], 3)
    _, expected = value_and_gradient(mean_loss_terms(exact, train), flat(exact))
    assert 0 < float(expected.norm()) < 1e-9
    assert gradient_norm(loss_gradient(net, logits(net, train), train)) == pytest.approx(
        float(expected.norm()), rel=1e-3
    )


def test_keskar_in_a_small_box_is_the_linear_part_and_in_any_box_above_its_corners() -> None:
    net, train = mlp(), sample()
    gradient, start = loss_gradient(net, logits(net, train), train), losses(net, train)
    linear = float((gradient.abs() * (flat(net).double().abs() + 1)).sum())
    expected = 100 * 1e-4 * linear / (1 + float(start.mean()))
    assert keskar(net, start, train, epsilon=1e-4).value == pytest.approx(expected, rel=0.03)
    large = keskar(net, start, train, epsilon=0.05)
    corner = flat(net) + 0.05 * (flat(net).abs() + 1) * gradient.sign().float()
    (term,) = mean_loss_terms(net, train)
    one_step = 100 * (float(term(corner)) - float(start.mean())) / (1 + float(start.mean()))
    assert large.converged
    assert large.value >= one_step * (1 - 1e-4)
    draws = generator(0, "corners")
    for _ in range(50):
        signs = torch.randint(2, gradient.shape, generator=draws) * 2.0 - 1
        there = float(term(flat(net) + 0.05 * (flat(net).abs() + 1) * signs))
        assert 100 * (there - float(start.mean())) / (1 + float(start.mean())) < large.value


def test_the_step_of_sharpness_aware_minimisation_by_hand() -> None:
    net, train = mlp(), sample()
    exact = copy.deepcopy(net).double()
    (term,) = mean_loss_terms(exact, train)
    loss, slope = value_and_gradient([term], flat(exact))
    gradient, start = loss_gradient(net, logits(net, train), train), losses(net, train)
    found = sam_sharpness(net, gradient, start, train)
    assert found == pytest.approx(float(term(flat(exact) + 0.05 * slope / slope.norm())) - loss, rel=1e-3)
    assert found > 0 > sam_sharpness(net, -gradient, start, train)
    with pytest.raises(Undefined, match="no direction"):
        sam_sharpness(net, 0 * gradient, start, train)


def network_n() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        net[2].weight.copy_(torch.tensor([[1.0, 2.0], [2.0, -1.0]]))
    return net


def test_relative_flatness_of_the_hand_worked_network() -> None:
    train = Split(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), 2)
    assert relative_flatness(network_n(), logits(network_n(), train), train) == pytest.approx(4.065899376, rel=1e-9)


def test_relative_flatness_is_that_of_the_dense_hessian() -> None:
    net, train = mlp().double(), sample()
    weight, before = net[4].weight.detach(), net[:4](train.inputs.double()).detach()

    def loss(flat_weight: torch.Tensor) -> torch.Tensor:
        return cross_entropy(before @ flat_weight.view(3, 7).T + net[4].bias.detach(), train.labels)

    hessian = torch.autograd.functional.hessian(loss, weight.flatten()).view(3, 7, 3, 7)
    traces = hessian.diagonal(dim1=1, dim2=3).sum(dim=2)
    expected = float(((weight @ weight.T) * traces).sum())
    found = relative_flatness(net, logits(net, train), train)
    assert found == pytest.approx(expected, rel=1e-10)
    assert found != pytest.approx(float(weight.square().sum() * traces.diagonal().sum()), rel=0.05)


def test_relative_flatness_is_unchanged_by_the_scale_of_a_layer_and_the_gradient_norm_is_not() -> None:
    net, train = mlp(), sample()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[2].weight.mul_(4)
        other[2].bias.mul_(4)
        other[4].weight.div_(4)
    a, b = (relative_flatness(n.double(), logits(n, train), train) for n in (copy.deepcopy(net), copy.deepcopy(other)))
    assert a == pytest.approx(b, rel=1e-9)
    a, b = (gradient_norm(loss_gradient(n, logits(n, train), train)) for n in (net, other))
    assert a != pytest.approx(b, rel=0.1)


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.map(x)


def test_relative_flatness_needs_a_linear_layer_at_the_end() -> None:
    net, train = Doubled().double(), sample()
    with pytest.raises(Undefined, match="does not end"):
        relative_flatness(net, logits(net, train), train)
