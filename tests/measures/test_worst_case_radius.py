from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.adversary import Adversary
from gapbench.measures.perturbation import PerturbationScale
from gapbench.measures.registry import Undefined
from gapbench.measures.worst_case_radius import (
    sharpness_flatness,
    sharpness_init,
    sharpness_mag_flatness,
    sharpness_mag_init,
    sharpness_mag_orig,
    sharpness_orig,
    worst_case_radius,
    worst_case_radius_magnitude,
)


class Signs(nn.Module):
    """Two logits (0, w·x)."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.map = nn.Linear(len(weights), 1, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.tensor([weights]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.map(x)
        return torch.cat([torch.zeros_like(f), f], dim=1)


def axes(counts: list[int]) -> Split:
    """So many examples on each axis, all of label 1."""
    x = torch.cat([torch.eye(len(counts))[[axis] * count] for axis, count in enumerate(counts)])
    return Split(x, torch.ones(len(x)).long(), 2)


def test_the_radius_is_the_weight_whose_sign_costs_enough_examples() -> None:
    """The examples on an axis are lost when its weight has become 0, whatever the other weights are."""
    for counts, expected in (([15, 85], 1.0), ([5, 95], 3.0), ([9, 91], 3.0), ([10, 90], 1.0)):
        found = worst_case_radius(Signs([1.0, 3.0]), axes(counts))
        assert found.converged
        assert found.sigma == pytest.approx(expected, rel=0.006)
        relative = worst_case_radius_magnitude(Signs([1.0, 3.0]), axes(counts))
        assert relative.sigma == pytest.approx(expected / (expected + 1e-3), rel=0.006)


def test_one_weight_moved_by_all_of_it() -> None:
    assert worst_case_radius(Signs([0.02]), axes([40])).sigma == pytest.approx(0.02, rel=0.006)
    assert worst_case_radius(Signs([4.0]), axes([40])).sigma == pytest.approx(4.0, rel=0.006)


def test_a_descent_never_gets_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ascending = Adversary.corners
    monkeypatch.setattr(Adversary, "corners", lambda self: [-corner for corner in ascending(self)])
    monkeypatch.setattr(Adversary, "climb", lambda self, corner, *_: (corner, True))
    found = worst_case_radius(Signs([1.0, 3.0]), axes([15, 85]))
    assert not found.converged
    assert found.sigma == 10.0


def test_a_network_that_no_box_hurts_is_at_the_cap() -> None:
    sample = axes([40])
    wrong = Split(sample.inputs, 1 - sample.labels, 2)
    found = worst_case_radius(Signs([1.0]), wrong)
    assert (found.sigma, found.converged) == (10.0, False)
    assert not sharpness_flatness(found).converged


def test_no_direction_is_undefined() -> None:
    still = axes([40])
    with pytest.raises(Undefined, match="no direction"):
        worst_case_radius(Signs([1.0]), Split(0 * still.inputs, still.labels, 2))


def perceptron(seed: int) -> tuple[nn.Module, Split]:
    draws = generator(seed, "perceptron")
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draws))
    x = torch.randn(200, 5, generator=draws)
    with torch.no_grad():
        return net.eval(), Split(x, net(x).argmax(dim=1), 3)


@pytest.mark.parametrize("seed", range(3))
def test_the_drop_is_reached_at_the_radius_and_no_random_corner_reaches_it_there(seed: int) -> None:
    net, train = perceptron(seed)
    adversary = Adversary.of(net, train)
    found = worst_case_radius(net, train)
    assert found.converged
    draws = generator(0, "corners")
    for _ in range(200):
        corner = torch.randint(2, adversary.weights.shape, generator=draws) * 2.0 - 1
        assert adversary.right(0.0) - adversary.right(found.sigma * corner) < 20
    starts = adversary.corners()
    along = [adversary.radius(lambda r, v=v: r * v, 0.1, 0.01, 0.001) for v in starts]
    assert found.sigma <= min(along) * 1.005
    corner = starts[along.index(min(along))]
    assert adversary.right(0.0) - adversary.right(min(along) * corner) >= 20
    assert adversary.right(0.0) - adversary.right(0.99 * min(along) * corner) < 20


def test_the_radius_is_found_from_either_side() -> None:
    net, train = perceptron(0)
    adversary = Adversary.of(net, train)
    corner = adversary.corners()[0]
    found = [adversary.radius(lambda r: r * corner, 0.1, start, 0.001) for start in (1e-5, 0.01, 5.0)]
    assert max(found) / min(found) < 1.002


def test_the_formulas_by_hand() -> None:
    w, w0 = torch.tensor([3.0, 4.0]).double(), torch.tensor([2.0, 4.0]).double()
    train, scale = axes([20]), PerturbationScale(0.5)
    log, tail = math.log(4), math.log(20 / (0.5 / math.sqrt(math.log(4)))) + 10
    assert sharpness_init(scale, w, w0, train).value == pytest.approx(1 * log / (4 * 0.25) + tail)
    assert sharpness_orig(scale, w, train).value == pytest.approx(25 * log / (4 * 0.25) + tail)
    assert sharpness_flatness(scale).value == pytest.approx(4)
    assert sharpness_mag_flatness(scale).value == pytest.approx(4)
    spread, floor = 0.25 + 4 * math.log(4 / 0.05), 1e-6
    for squares, measured in (
        (1, sharpness_mag_init(scale, w, w0, train).value),
        (25, sharpness_mag_orig(scale, w, w0, train).value),
    ):
        terms = [math.log((floor + spread * squares / 2) / (floor + 0.25 * moved)) for moved in (1, 0)]
        assert measured == pytest.approx(sum(terms) / 4 + math.log(20 / 0.5) + 10)
        assert measured != pytest.approx(sum(terms) / 2 + math.log(20 / 0.5) + 10, rel=1e-3)
