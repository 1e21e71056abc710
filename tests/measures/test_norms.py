"""Norm measures on the two-layer network whose values can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN, norms, outputs, quantities
from gapbench.measures.layers import fold_batch_norm, weight_layers
from gapbench.measures.read import read
from gapbench.measures.registry import build, collect
from gapbench.models.trained import Trained

MATRICES = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, -1.0]])
INITIAL = ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]])
GAMMA = 6.0


def network(matrices: tuple[list[list[float]], ...] = MATRICES) -> nn.Sequential:
    layers = [nn.Linear(2, 2, bias=False) for _ in matrices]
    for layer, matrix in zip(layers, matrices, strict=True):
        layer.weight.data = torch.tensor(matrix)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@pytest.fixture
def frobenius() -> Tensor:
    return quantities.frobenius_norms(
        weight_layers(
            fold_batch_norm(network(), torch.ones(1, 2)),
            fold_batch_norm(network(INITIAL), torch.ones(1, 2)),
            torch.ones(1, 2),
        )
    )


@pytest.fixture
def trained() -> Trained:
    t = torch.arange(1.0, 11.0)
    inputs = torch.cat([torch.stack([t, 0 * t], dim=1), torch.stack([0 * t, t], dim=1)])
    labels = torch.tensor([1] * 10 + [0] * 10)
    return Trained(network(), network(INITIAL).state_dict(), Split(inputs, labels, 2))


ORACLE = {
    "param_norm": 35.0,
    "l2": 5.916079783,
    "frobenius_distance": 21.0,
    "l2_distance": 4.582575695,
    "spectral_distance": 13.0,
    "log_prod_frobenius": 5.521460918,
    "log_sum_frobenius": math.log(31.6227766017),
    "log_prod_frobenius_over_margin": math.log(250 / 8.7**2),
    "log_sum_frobenius_over_margin": math.log(2 * math.sqrt(250 / 8.7**2)),
}


@pytest.mark.parametrize("name", ORACLE)
def test_hand_values(trained: Trained, name: str) -> None:
    registry = build([*collect(quantities), *collect(outputs), *collect(norms)])
    (reading,) = read([registry.measures[name]], registry, trained)
    assert reading.value == pytest.approx(ORACLE[name], rel=1e-9)


def test_products_over_a_margin_of_six(frobenius: Tensor) -> None:
    assert math.exp(norms.log_prod_frobenius_over_margin(frobenius, GAMMA)) == pytest.approx(6.9444444444, rel=1e-9)
    assert math.exp(norms.log_sum_frobenius_over_margin(frobenius, GAMMA)) == pytest.approx(5.2704627669, rel=1e-9)


def test_norms_are_squared(frobenius: Tensor) -> None:
    """Positive control: plain norms give another product."""
    assert math.exp(norms.log_prod_frobenius(frobenius)) == pytest.approx(250)
    assert math.exp(float(frobenius.log().sum())) == pytest.approx(math.sqrt(250))


def test_rescaling_changes_param_norm_and_not_the_function(trained: Trained) -> None:
    scaled = network(([[30.0, 0.0], [0.0, 4.0]], [[0.1, 2.0], [0.2, -1.0]]))
    inputs = trained.train.inputs
    assert torch.allclose(scaled(inputs), trained.network(inputs), atol=1e-5)
    registry = build([*collect(quantities), *collect(outputs), *collect(norms)])
    moved = Trained(scaled, trained.initial, trained.train)
    (reading,) = read([registry.measures["param_norm"]], registry, moved)
    assert reading.value == pytest.approx(921.05, rel=1e-6)  # 0.1 and 0.2 are rounded to float32


def test_undefined_without_a_positive_margin(trained: Trained) -> None:
    registry = build([*collect(quantities), *collect(outputs), *collect(norms)])
    wrong = Trained(trained.network, trained.initial, Split(trained.train.inputs, 1 - trained.train.labels, 2))
    (reading,) = read([registry.measures["log_prod_frobenius_over_margin"]], registry, wrong)
    assert reading.status == "undefined"
    assert "margin is not positive" in reading.reason


def test_biases_are_in_l2_and_not_in_the_layer_norms() -> None:
    biased = nn.Sequential(nn.Linear(2, 1))
    biased[0].weight.data = torch.tensor([[3.0, 0.0]])
    biased[0].bias.data = torch.tensor([4.0])
    trained = Trained(biased, biased.state_dict(), Split(torch.ones(1, 2), torch.zeros(1, dtype=torch.long), 1))
    registry = build([*collect(quantities), *collect(outputs), *collect(norms)])
    readings = read([registry.measures[name] for name in ("l2", "param_norm")], registry, trained)
    assert [reading.value for reading in readings] == pytest.approx([5.0, 9.0])


DIVIDED = ("log_prod_", "log_sum_", "log_golowich_", "frobenius_over_spectral", "bartlett_foster", "neyshabur_pac")
ALONE = ("log_bartlett1998_l1", "log_l2_capacity", "log_spectral_capacity", "log_spectral_init", "log_spectral_orig")
OF_NONZERO_LAYERS = [
    key
    for key in BUILT_IN.measures
    if key in ALONE or key.startswith(DIVIDED) or key.endswith(("_main", "_main_per_sample"))
]


def test_a_layer_of_zeros_is_undefined(trained: Trained) -> None:
    zero = network(([[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]))
    zero[2].bias = nn.Parameter(torch.tensor([5.0, 0.0]))  # a positive margin, so that this is not why
    before = network()
    before[2].bias = nn.Parameter(torch.zeros(2))
    train = Split(trained.train.inputs, torch.zeros(20, dtype=torch.long), 2)
    assert len(OF_NONZERO_LAYERS) >= 33
    for reading in read([BUILT_IN.measures[key] for key in OF_NONZERO_LAYERS], BUILT_IN, trained):
        assert reading.status == "ok", reading
    for reading in read(
        [BUILT_IN.measures[key] for key in OF_NONZERO_LAYERS], BUILT_IN, Trained(zero, before.state_dict(), train)
    ):
        assert (reading.status, reading.reason) == ("undefined", "the weights of layer 2 of 2 are all zero"), reading
