"""Stability: hand values, gradients of single examples, the proof of the theorem, and seeds that are copies."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN, quantities, stability
from gapbench.measures.contract import example_networks
from gapbench.measures.outputs import outputs_of
from gapbench.measures.read import Reading, read
from gapbench.measures.registry import Estimate, Undefined
from gapbench.models.trained import History, Trained

KEYS = ("prediction_variance", "train_disagreement", "test_disagreement", "twin_distance")


def readings(trained: Trained) -> dict[str, Reading]:
    return {key: read([BUILT_IN.measures[key]], BUILT_IN, trained)[0] for key in KEYS}


def logs(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_prediction_variance_hand_values() -> None:
    """Two seeds, (.8, .2) and (.4, .6): each class has the unbiased variance .08; the second example has none."""
    seeds = logs([[0.8, 0.2], [0.5, 0.5]], [[0.4, 0.6], [0.5, 0.5]])
    assert stability.prediction_variance(seeds) == pytest.approx((0.08 + 0.08) / 2)
    shifted = seeds + torch.randn(2, 2, 1, dtype=torch.float64)  # constants on all logits leave probabilities alone
    assert stability.prediction_variance(shifted) == pytest.approx(0.08)
    three = logs([[0.8, 0.2]], [[0.4, 0.6]], [[0.6, 0.4]])
    assert stability.prediction_variance(three) == pytest.approx(2 * numpy.var([0.8, 0.4, 0.6], ddof=1))


def test_train_disagreement_hand_values() -> None:
    own, same, other = [[2, 1], [1, 2], [2, 1]], [[3, 1], [1, 3], [9, 1]], [[1, 2], [1, 2], [1, 2]]
    assert stability.train_disagreement(logs(own, same)) == 0
    assert stability.train_disagreement(logs(own, other)) == pytest.approx(2 / 3)
    assert stability.train_disagreement(logs(own, same, other)) == pytest.approx(1 / 3)


def test_readings_against_the_networks_themselves() -> None:
    trained = example_networks()["deep mlp"]
    assert trained.seed_twins is not None
    (twin,) = trained.seed_twins
    found = readings(trained)
    with torch.no_grad():
        own, other = (run.network.double()(trained.train.inputs.double()) for run in copy.deepcopy((trained, twin)))
        spread = (own.softmax(1) - other.softmax(1)).square().sum(1).mean() / 2
        assert trained.unlabelled_test_inputs is not None
        answers = [run.network(trained.unlabelled_test_inputs).argmax(1) for run in (trained, twin)]
        parts = [run.network[:-1](trained.train.inputs).double().numpy() for run in (trained, twin)]
    assert found["prediction_variance"].value == pytest.approx(float(spread), rel=1e-6)
    assert found["train_disagreement"].value == float((own.argmax(1) != other.argmax(1)).double().mean())
    assert found["test_disagreement"].value == pytest.approx(float((answers[0] != answers[1]).double().mean()))
    assert found["test_disagreement"].value != 0
    # CKA from the centred Gram matrices (Kornblith et al., eq. 4), not from the features.
    centre = numpy.eye(len(parts[0])) - 1 / len(parts[0])
    grams = [centre @ part @ part.T @ centre for part in parts]
    alignment = numpy.sum(grams[0] * grams[1]) / numpy.linalg.norm(grams[0]) / numpy.linalg.norm(grams[1])
    assert found["twin_distance"].value == pytest.approx(1 - alignment, rel=1e-5)
    assert alignment < 0.99


def test_a_twin_that_is_a_copy_differs_in_nothing() -> None:
    trained = example_networks()["deep mlp"]
    same = readings(dataclasses.replace(trained, seed_twins=(trained, trained)))
    assert [same[key].value for key in KEYS] == pytest.approx([0] * 4, abs=1e-12)
    assert sum(reading.value or 0 for reading in readings(trained).values()) > 0.1


def test_without_a_twin_there_is_no_value() -> None:
    trained = dataclasses.replace(example_networks()["deep mlp"], seed_twins=None)
    assert {reading.status for reading in readings(trained).values()} == {"undefined"}


def test_cka_is_invariant_to_rotation_and_scale_and_sees_other_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator)).Q
    assert stability.linear_cka(features, 3 * features @ rotation + 7) == pytest.approx(1)
    assert stability.linear_cka(features, features**2) < 0.9
    first, second = torch.eye(4, dtype=torch.float64)[:, :1], torch.eye(4, dtype=torch.float64)[:, 1:2]
    assert stability.linear_cka(first, second) == pytest.approx(1 / 9)  # (−1/4)² / (3/4)²
    with pytest.raises(Undefined, match="the same for all"):
        stability.linear_cka(features, torch.ones(20, 3, dtype=torch.float64))


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_norms_against_single_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, other = NETWORKS[name]().double(), NETWORKS[name]().double()
    train = Split(torch.randn(9, 1, 6, 6), torch.randint(0, 3, (9,)), 3)

    def single(net: nn.Module) -> Tensor:
        norms = []
        for x, y in zip(train.inputs.double(), train.labels, strict=True):
            loss = cross_entropy(net(x[None]), y[None])
            norms.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]).norm())
        return torch.stack(norms)

    monkeypatch.setattr(stability, "GRADIENTS_AT_ONCE", 4)
    torch.testing.assert_close(stability.loss_gradient_norms(network, train), single(network), rtol=1e-9, atol=1e-12)
    expected = max(float(single(network).max()), float(single(other).max()))
    assert stability.gradient_norm_bound(network, other, train) == pytest.approx(expected, rel=1e-9)
    assert all(parameter.grad is None for parameter in network.parameters())


def history(steps: list[float], sizes: list[float] | None) -> History:
    columns = [None if column is None else torch.tensor(column, dtype=torch.float64) for column in (steps, sizes)]
    blank = torch.zeros(len(steps), dtype=torch.float64)
    return History(columns[0], blank, blank, step_size=columns[1])


def sample(count: int) -> Split:
    return Split(torch.zeros(count, 2), torch.zeros(count, dtype=torch.long), 2)


def test_uniform_stability_hand_values() -> None:
    """Steps 1 … 4 of size 1/2: c = 2; with β = 1/2 and L = 1: βc = 1, (1+1)/10 · √(2·2) · √4 = 0.8."""
    curve = history([0, 2, 4], [0, 1, 2])
    found = stability.hardt_uniform_stability(curve, 1.0, Estimate(0.5, 0.0), sample(11))
    assert (found.value, found.standard_error, found.converged) == (pytest.approx(0.8), 0, True)
    assert stability.hardt_convex_stability(curve, 3.0, sample(12)) == pytest.approx(2 * 9 / 12 * 2)
    unsure = stability.hardt_uniform_stability(curve, 1.0, Estimate(0.5, 0.01, converged=False), sample(11))
    assert unsure.standard_error > 0
    assert not unsure.converged


def test_the_stability_bound_is_the_least_of_the_bound_in_the_proof() -> None:
    """ε ≤ t₀/n + (2L²/(β(n−1)))·(T/t₀)^{βc}, minimised over t₀ numerically, with n − 1 for n as the theorem has it."""
    beta, norm, steps, size, examples = 0.7, 1.3, 40.0, 0.05, 30
    c = size * steps
    curve = history([0, 20, 40], [0, 20 * size, 40 * size])
    found = stability.hardt_uniform_stability(curve, norm, Estimate(beta, 0.0), sample(examples)).value
    grid = numpy.linspace(0.01, steps, 400_000)
    proof = grid / (examples - 1) + 2 * norm**2 / (beta * (examples - 1)) * (steps / grid) ** (beta * c)
    assert found == pytest.approx(proof.min(), rel=1e-6)
    assert found != pytest.approx(proof[len(proof) // 2], rel=1e-3)


def test_the_schedule_constant_is_that_of_the_worst_step() -> None:
    """Step sizes 1 for 10 steps, then 0.1 for 10: c = max(10·1, 20·0.1) = 10."""
    falling = history([0, 10, 20], [0, 10, 11])
    constant = history([0, 10, 20], [0, 5, 10])  # 20 · 1/2 = 10 too
    one, two = (stability.hardt_uniform_stability(h, 1.0, Estimate(1.0, 0.0), sample(9)) for h in (falling, constant))
    assert one.value == pytest.approx(two.value)
    assert math.isfinite(one.value)
    steep = stability.hardt_uniform_stability(falling, 1e6, Estimate(1e9, 0.0), sample(9)).value
    assert steep == pytest.approx(20 / 8, rel=1e-3)


def test_what_the_bounds_cannot_do_without() -> None:
    curve = history([0, 2], [0, 1])
    for bad in ((0.0, Estimate(1.0, 0.0), sample(9)), (1.0, Estimate(-1.0, 0.0), sample(9))):
        with pytest.raises(Undefined, match="the bound needs"):
            stability.hardt_uniform_stability(curve, *bad)
    with pytest.raises(Undefined, match="step sizes were not kept"):
        stability.hardt_convex_stability(history([0, 2], None), 1.0, sample(9))
    with pytest.raises(Undefined, match="no optimiser step"):
        stability.hardt_convex_stability(history([0], [0]), 1.0, sample(9))


def test_the_logits_of_all_seeds_are_stacked_own_first() -> None:
    trained = example_networks()["mlp"]
    assert trained.seed_twins is not None
    evaluated = quantities.evaluated(trained.network, trained.train)
    own = outputs_of(evaluated, trained.train).logits
    twins = stability.seed_networks(evaluated, trained.seed_twins, trained.train)
    stacked = stability.seed_logits(own, stability.seed_outputs(twins, trained.train))
    assert stacked.shape == (2, *own.shape)
    assert torch.equal(stacked[0], own)
    assert not torch.allclose(stacked[1], own, atol=1e-2)
