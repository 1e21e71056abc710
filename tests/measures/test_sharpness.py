from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.ascent import worst_rise
from gapbench.measures.curvature import hessian_product, largest_eigenvalue, mean_loss_terms, value, value_and_gradient
from gapbench.measures.registry import Undefined
from gapbench.measures.sharpness import (
    average_adaptive_sharpness_l2,
    average_rise,
    average_rise_of_network,
    average_sharpness_l2,
    class_gradients,
    worst_adaptive_sharpness_l2,
    worst_adaptive_sharpness_linf,
    worst_sharpness_l2,
    worst_sharpness_linf,
)
from gapbench.measures.weight_noise import Noise

POINT = torch.tensor([1.0, 2.0], dtype=torch.float64)
ONES = torch.ones(2, dtype=torch.float64)
NONE = torch.empty(0, 2, dtype=torch.float64)


def quadratic(w: torch.Tensor) -> torch.Tensor:
    return (4 * w[0] ** 2 + w[1] ** 2) / 2


def reparametrised(w: torch.Tensor) -> torch.Tensor:
    """The same function of (w_1/3, w_2)."""
    return quadratic(w / torch.tensor([3.0, 1.0], dtype=torch.float64))


SEEDS = range(8)

MOVED = torch.tensor([3.0, 2.0], dtype=torch.float64)


def trained() -> tuple[nn.Sequential, Split]:
    """A ReLU network trained for a while on three Gaussian classes, float64."""
    draws = generator(0, "network")
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    centres = 1.5 * torch.randn(3, 5, dtype=torch.float64, generator=draws)
    labels = torch.arange(90) % 3
    x = centres[labels] + torch.randn(90, 5, dtype=torch.float64, generator=draws)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        cross_entropy(net(x), labels).backward()
        optimiser.step()
    net.zero_grad(set_to_none=True)
    return net.eval(), Split(x.float(), labels, 3)


def rescaled(net: nn.Sequential, factor: float = 8.0) -> nn.Sequential:
    """The same function: the first hidden layer scaled up, the second scaled down."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.mul_(factor)
        other[0].bias.mul_(factor)
        other[2].weight.div_(factor)
    return other


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def logits(net: nn.Module, train: Split) -> torch.Tensor:
    with torch.no_grad():
        return net(train.inputs.double())


def within(estimate, expected: float, errors: float = 3) -> bool:  # type: ignore[no-untyped-def]
    return abs(estimate.value - expected) <= errors * estimate.standard_error


def test_average_sharpness_of_the_hand_worked_quadratic() -> None:
    plain = average_rise([quadratic], POINT, 0.1 * ONES, generator(0, "a"), pairs=1000)
    adaptive = average_rise([quadratic], POINT, 0.1 * POINT.abs(), generator(1, "a"), pairs=1000)
    assert within(plain, 0.025)
    assert within(adaptive, 0.04)
    assert not within(plain, 0.04)


def test_average_sharpness_after_reparametrisation() -> None:
    plain = average_rise([reparametrised], MOVED, 0.1 * ONES, generator(2, "a"), pairs=1000)
    adaptive = average_rise([reparametrised], MOVED, 0.1 * MOVED.abs(), generator(1, "a"), pairs=1000)
    assert within(plain, 0.007222222222)
    assert not within(plain, 0.025)
    assert within(adaptive, 0.04)


def test_worst_case_sharpness_of_the_hand_worked_quadratic() -> None:
    found = worst_rise([quadratic], POINT, POINT.abs(), 0.1, "linf", NONE)
    assert found.value == pytest.approx(0.84, abs=1e-9)
    assert found.converged
    assert worst_rise([reparametrised], MOVED, MOVED.abs(), 0.1, "linf", NONE).value == pytest.approx(0.84, abs=1e-9)
    assert worst_rise([quadratic], POINT, ONES, 0.1, "linf", NONE).value == pytest.approx(2 * 1.1**2 + 2.1**2 / 2 - 4)


def test_the_worst_case_in_a_euclidean_ball_is_that_of_a_scan() -> None:
    angles = torch.linspace(0, 6.2831853, 20001, dtype=torch.float64)
    circle = POINT[:, None] + 0.1 * torch.stack([angles.cos(), angles.sin()])
    scanned = float(quadratic(circle).max()) - 4
    found = worst_rise([quadratic], POINT, ONES, 0.1, "l2", NONE).value
    assert found == pytest.approx(scanned, rel=1e-3)
    assert found <= scanned + 1e-12


def test_the_ascent_ascends() -> None:
    net, train = trained()
    terms, towards = mean_loss_terms(net, train), class_gradients(net, flat(net), train)
    _, slope = value_and_gradient(terms, flat(net))
    for rise, step in (
        (worst_sharpness_l2(net, flat(net), train, towards, rho=0.3), 0.3 * slope / slope.norm()),
        (worst_sharpness_linf(net, flat(net), train, towards, rho=0.02), 0.02 * slope.sign()),
    ):
        one_step = value(terms, flat(net) + step) - value(terms, flat(net))
        down = value(terms, flat(net) - step) - value(terms, flat(net))
        assert rise.value >= one_step * (1 - 1e-12) > down
    draws = generator(0, "random")
    highest = worst_sharpness_l2(net, flat(net), train, towards, rho=0.3).value
    for _ in range(50):
        u = torch.randn(len(slope), dtype=torch.float64, generator=draws)
        assert value(terms, flat(net) + 0.3 * u / u.norm()) - value(terms, flat(net)) < highest


def test_a_small_ball_gives_the_linear_and_quadratic_parts() -> None:
    net, train = trained()
    terms, towards = mean_loss_terms(net, train), class_gradients(net, flat(net), train)
    _, slope = value_and_gradient(terms, flat(net))
    assert worst_sharpness_l2(net, flat(net), train, towards, rho=1e-5).value == pytest.approx(
        1e-5 * float(slope.norm()), rel=1e-2
    )
    assert worst_sharpness_linf(net, flat(net), train, towards, rho=1e-6).value == pytest.approx(
        1e-6 * float(slope.abs().sum()), rel=1e-2
    )


def fitted(seed: int) -> tuple[nn.Sequential, Split]:
    """A perceptron fitted to labels of another for so long that the gradient of its loss is small, float64."""
    draws = generator(seed, "fitted")

    def network() -> nn.Sequential:
        net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).double()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(0.6 * torch.randn(parameter.shape, dtype=torch.float64, generator=draws))
        return net

    net, teacher = network(), network()
    x = torch.randn(43, 5, dtype=torch.float64, generator=draws)
    labels = teacher(x).argmax(dim=1)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    for _ in range(300):
        optimiser.zero_grad()
        cross_entropy(net(x), labels).backward()
        optimiser.step()
    net.zero_grad(set_to_none=True)
    return net.eval(), Split(x.float(), labels, 3)


def highest_of_64(net: nn.Module, train: Split, scale: torch.Tensor, rho: float) -> float:
    """The highest rise met by power iteration from 64 random places of the sphere, all at once."""
    (term,) = mean_loss_terms(net, train)
    loss = torch.vmap(term)
    at = torch.randn(64, len(scale), dtype=torch.float64, generator=generator(0, "starts"))
    best = 0.0
    for _ in range(60):
        at = (rho * at / at.norm(dim=1, keepdim=True)).requires_grad_()
        rises = loss(flat(net) + scale * at) - term(flat(net))
        best = max(best, float(rises.max().detach()))
        (slope,) = torch.autograd.grad(rises.sum(), at)
        at = slope * scale
    return best


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_worst_case_in_a_euclidean_ball_is_that_of_ascents_from_64_places(adaptive: bool) -> None:
    """From the gradient of the loss alone, some are missed by far."""
    ratios, ratios_of_gradient_alone = [], []
    for seed in SEEDS:
        net, train = fitted(seed)
        scale = flat(net).abs() if adaptive else torch.ones_like(flat(net))
        highest = highest_of_64(net, train, scale, 0.5)
        starts = class_gradients(net, flat(net), train)
        terms = mean_loss_terms(net, train)
        ratios.append(worst_rise(terms, flat(net), scale, 0.5, "l2", starts).value / highest)
        ratios_of_gradient_alone.append(worst_rise(terms, flat(net), scale, 0.5, "l2", starts[:0]).value / highest)
    assert min(ratios) > 0.98
    assert min(ratios_of_gradient_alone) < 0.9


def test_class_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    net, train = trained()
    means = (logits_of := net(train.inputs.double())) - logits_of.mean(dim=1, keepdim=True)
    rows = [torch.autograd.grad(mean, list(net.parameters()), retain_graph=True) for mean in means.mean(dim=0)]
    expected = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    monkeypatch.setattr("gapbench.measures.sharpness.EXAMPLES_AT_ONCE", 37)
    found = class_gradients(net, flat(net), train)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert float((found[0] - found[1]).abs().max()) > 1e-3


def test_an_ascent_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, train = fitted(0)
    towards = class_gradients(net, flat(net), train)
    whole = worst_sharpness_l2(net, flat(net), train, towards)
    monkeypatch.setattr("gapbench.measures.ascent.MOST_ASCENT_STEPS", 1)
    cut = worst_sharpness_l2(net, flat(net), train, towards)
    assert whole.converged
    assert not cut.converged
    assert cut.value < whole.value


def test_no_direction_to_ascend_is_undefined() -> None:
    with pytest.raises(Undefined, match="no direction"):
        worst_rise([quadratic], 0 * POINT, ONES, 0.1, "l2", NONE)


@pytest.mark.parametrize("noise", [Noise(0.1), Noise(0.0, 0.3)])
@pytest.mark.parametrize("normalise_logits", [False, True])
def test_the_networks_version_has_the_mean_of_the_naive_one(noise: Noise, normalise_logits: bool) -> None:
    net, train = trained()
    terms = mean_loss_terms(net, train, normalise_logits=normalise_logits)
    naive = average_rise(terms, flat(net), noise.variance(flat(net)).sqrt(), generator(0, "naive"), pairs=250)
    found = [
        average_rise_of_network(
            net, logits(net, train), train, noise, generator(seed, "fast"), normalise_logits=normalise_logits
        )
        for seed in range(10)
    ]
    values = torch.tensor([one.value for one in found])
    error = sum(one.standard_error for one in found) / 10
    assert abs(float(values.mean()) - naive.value) < 3.5 * (error**2 / 10 + naive.standard_error**2) ** 0.5
    assert 0.4 < float(values.std()) / error < 2
    assert abs(1.3 * float(values.mean()) - naive.value) > 3.5 * (error**2 / 10 + naive.standard_error**2) ** 0.5


def test_adaptive_sharpness_is_unchanged_by_rescaling_and_plain_sharpness_is_not() -> None:
    net, train = trained()
    other = rescaled(net)
    torch.testing.assert_close(logits(other, train), logits(net, train))
    for adaptive in (worst_adaptive_sharpness_linf, worst_adaptive_sharpness_l2):
        for normalise_logits in (False, True):
            a, b = (
                adaptive(n, flat(n), train, class_gradients(n, flat(n), train), normalise_logits=normalise_logits).value
                for n in (net, other)
            )
            assert a == pytest.approx(b, rel=1e-9)
    a, b = (average_adaptive_sharpness_l2(n, logits(n, train), train, generator(0, "a")).value for n in (net, other))
    assert a == pytest.approx(b, rel=1e-9)
    for plain in (worst_sharpness_l2, worst_sharpness_linf):
        a, b = (plain(n, flat(n), train, class_gradients(n, flat(n), train)).value for n in (net, other))
        assert a != pytest.approx(b, rel=0.1)
    a, b = (average_sharpness_l2(n, logits(n, train), train, generator(0, "a")).value for n in (net, other))
    assert a != pytest.approx(b, rel=0.1)


def test_normalised_logits_make_the_output_scale_irrelevant() -> None:
    net, train = trained()
    louder = copy.deepcopy(net)
    with torch.no_grad():
        louder[4].weight.mul_(3)
        louder[4].bias.mul_(3)
    a, b = (
        worst_adaptive_sharpness_linf(
            n, flat(n), train, class_gradients(n, flat(n), train), normalise_logits=True
        ).value
        for n in (net, louder)
    )
    assert a == pytest.approx(b, rel=1e-9)
    a, b = (
        worst_adaptive_sharpness_linf(n, flat(n), train, class_gradients(n, flat(n), train)).value
        for n in (net, louder)
    )
    assert a != pytest.approx(b, rel=0.01)


def test_curvature_of_the_hand_worked_quadratic() -> None:
    product = hessian_product([quadratic], POINT)
    assert largest_eigenvalue(product, 2, generator(0, "l")).value == pytest.approx(4, rel=1e-9)
    dense = torch.stack([product(row) for row in torch.eye(2, dtype=torch.float64)])
    assert float(dense.trace()) == pytest.approx(5, rel=1e-12)
    moved = hessian_product([reparametrised], MOVED)
    assert largest_eigenvalue(moved, 2, generator(0, "l")).value == pytest.approx(1, rel=1e-9)


def test_scouts_find_directions_and_the_whole_sample_decides() -> None:
    """A cheaper loss of the same shape leads to the same maximum; one of another shape, only to another start."""
    net, train = trained()
    terms, scale, towards = (
        mean_loss_terms(net, train),
        torch.ones_like(flat(net)),
        class_gradients(net, flat(net), train),
    )
    alone = worst_rise(terms, flat(net), scale, 0.5, "l2", towards)
    halved = [lambda w: terms[0](w) / 2]
    assert worst_rise(terms, flat(net), scale, 0.5, "l2", towards, halved).value == pytest.approx(
        alone.value, rel=1e-12
    )
    few = Split(train.inputs[:15], train.labels[:15], train.classes)
    scouted = worst_rise(terms, flat(net), scale, 0.5, "l2", towards, mean_loss_terms(net, few))
    assert scouted.value == pytest.approx(alone.value, rel=0.1)
    downhill = worst_rise(terms, flat(net), scale, 0.5, "l2", towards, [lambda w: -terms[0](w)])
    assert downhill.value > 0, "the last ascent is of the loss itself"
