"""Spectral measures: hand values, both convolution conventions, and bounds against brute force."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import augmentations, margins, mixtures, outputs, quantities, spectral
from gapbench.measures.layers import Layer, fold_batch_norm, weight_layers
from gapbench.measures.read import read
from gapbench.measures.registry import Registry, Undefined, build, collect
from gapbench.models.trained import Trained

MATRICES = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, -1.0]])
INITIAL = ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]])
RESCALED = ([[30.0, 0.0], [0.0, 4.0]], [[0.1, 2.0], [0.2, -1.0]])
GAMMA = 6.0


def network(matrices: tuple[list[list[float]], ...] = MATRICES) -> nn.Sequential:
    layers = [nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in matrices]
    for layer, matrix in zip(layers, matrices, strict=True):
        layer.weight.data = torch.tensor(matrix, dtype=torch.float64)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def layers_of(trained: nn.Module, initial: nn.Module, example: Tensor) -> tuple[Layer, ...]:
    return weight_layers(fold_batch_norm(trained, example), fold_batch_norm(initial, example), example)


@pytest.fixture
def layers() -> tuple[Layer, ...]:
    return layers_of(network(), network(INITIAL), torch.ones(1, 2))


@pytest.fixture
def registry() -> Registry:
    modules = (quantities, outputs, augmentations, mixtures, margins, spectral)
    return build([entry for module in modules for entry in collect(module)])


def norms_of(layers: tuple[Layer, ...]) -> tuple[Tensor, Tensor, Tensor]:
    spectral_norms = quantities.spectral_norms(quantities.singular_values(layers))
    return spectral_norms, quantities.frobenius_norms(layers), quantities.distance_frobenius_norms(layers)


def test_hand_values(layers: tuple[Layer, ...]) -> None:
    sigma, frobenius, distance = norms_of(layers)
    values = {
        "log_prod_spectral": (spectral.log_prod_spectral(sigma), 4.382026635),
        "prod_spectral": (math.exp(spectral.log_prod_spectral(sigma)), 80.0),
        "sum_spectral": (math.exp(spectral.log_sum_spectral(sigma)), 17.88854382),
        "frobenius_over_spectral": (spectral.frobenius_over_spectral(frobenius, sigma), 3.5625),
        "prod_over_margin": (math.exp(spectral.log_prod_spectral_over_margin(sigma, GAMMA)), 2.2222222222),
        "sum_over_margin": (math.exp(spectral.log_sum_spectral_over_margin(sigma, GAMMA)), 2.98142397),
        "init_main": (spectral.spectral_init_main(sigma, distance, GAMMA), 5.3611111111),
        "orig_main": (spectral.spectral_orig_main(sigma, frobenius, GAMMA), 7.9166666667),
    }
    for name, (found, expected) in values.items():
        assert found == pytest.approx(expected, rel=1e-9), name


def test_bartlett_foster_telgarsky_hand_values(layers: tuple[Layer, ...]) -> None:
    sigma, _, _ = norms_of(layers)
    zero = spectral.bartlett_foster_telgarsky(layers, sigma, 1.0, reference="zero")
    initial = spectral.bartlett_foster_telgarsky(layers, sigma, 1.0)
    assert zero == pytest.approx(47.39899226, rel=1e-9)
    assert initial == pytest.approx(38.23587869, rel=1e-9)
    assert spectral.bartlett_foster_telgarsky(layers, sigma, GAMMA) == pytest.approx(initial / GAMMA)
    with pytest.raises(ValueError, match="'initial' or 'zero'"):
        spectral.bartlett_foster_telgarsky(layers, sigma, 1.0, reference="init")


def test_group_norm_of_bartlett_foster_telgarsky_is_that_of_rows() -> None:
    """One row of norm 5, spectral norm 5: rows give 1·5·(5/5)=5, columns would give (3+4)/5·5=7."""
    row = nn.Sequential(nn.Linear(2, 1, bias=False))
    row[0].weight.data = torch.tensor([[3.0, 4.0]])
    layers = layers_of(row, row, torch.ones(1, 2))
    assert spectral.bartlett_foster_telgarsky(layers, torch.tensor([5.0]), 1.0, reference="zero") == pytest.approx(5.0)


def test_rescaling_changes_the_product_of_spectral_norms() -> None:
    sigma, _, _ = norms_of(layers_of(network(RESCALED), network(INITIAL), torch.ones(1, 2)))
    assert math.exp(spectral.log_prod_spectral(sigma)) == pytest.approx(4500, rel=1e-9)


def test_convolution_conventions() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 1, 2, padding=1, bias=False))
    convolution[0].weight.data.fill_(1.0)
    layers = layers_of(convolution, convolution, torch.ones(1, 1, 4, 4))
    reshaped, frobenius, _ = norms_of(layers)
    operator = quantities.operator_spectral_norms(layers, reshaped)
    operator_frobenius = quantities.operator_frobenius_norms(layers, frobenius)
    squares = [float(norm.square()) for norm in (reshaped, operator, frobenius, operator_frobenius)]
    assert squares == pytest.approx([4, 16, 4, 64], rel=1e-9)
    assert spectral.frobenius_over_spectral(frobenius, reshaped) == pytest.approx(1)
    assert spectral.frobenius_over_spectral_operator(operator_frobenius, operator) == pytest.approx(4)
    mixed = spectral.frobenius_over_spectral(frobenius, operator)
    assert mixed == pytest.approx(0.25)  # the published mixture falls below one, which no stable rank can


def test_operator_twins_agree_on_linear_layers(registry: Registry) -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    inputs = torch.randn(30, 5)
    trained = Trained(mlp, mlp.state_dict(), Split(inputs, mlp(inputs).argmax(dim=1), 3))
    names = [name for name in registry.measures if f"{name}_operator" in registry.measures]
    assert len(names) == 5
    plain = read([registry.measures[name] for name in names], registry, trained)
    twins = read([registry.measures[f"{name}_operator"] for name in names], registry, trained)
    assert [reading.value for reading in twins] == pytest.approx([reading.value for reading in plain], rel=1e-12)


def test_neyshabur_pac_spectral(layers: tuple[Layer, ...]) -> None:
    sigma, frobenius, _ = norms_of(layers)
    train = Split(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1]), 2)
    found = spectral.neyshabur_pac_spectral(layers, sigma, frobenius, GAMMA, train)
    assert found == pytest.approx(25 * 4 * 2 * math.log(4) * 80 * 3.5625 / 36, rel=1e-12)


def test_lipschitz_upper_bounds_every_jacobian_and_is_exact_for_positive_weights(registry: Registry) -> None:
    torch.manual_seed(1)
    cnn = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    inputs = torch.randn(20, 1, 6, 6, dtype=torch.float64)
    train = Split(inputs, torch.zeros(20, dtype=torch.long), 3)
    bound = spectral.lipschitz_upper(cnn, train)
    assert bound.converged
    jacobians = [torch.autograd.functional.jacobian(cnn, x.unsqueeze(0)).reshape(3, 36) for x in inputs]
    assert bound.value >= max(float(torch.linalg.matrix_norm(j, 2)) for j in jacobians)
    first, second = torch.rand(6, 4).double(), torch.rand(3, 6).double()
    positive = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    positive[0].weight.data, positive[2].weight.data = first, second
    found = spectral.lipschitz_upper(positive, Split(torch.ones(2, 4), torch.zeros(2, dtype=torch.long), 3)).value
    exact = float(torch.linalg.matrix_norm(second @ first, 2))
    assert exact * (1 - 1e-12) <= found <= exact * (1 + 1e-6)


def test_lipschitz_upper_names_an_unbounded_activation() -> None:
    gelu = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2)).double()
    with pytest.raises(Undefined, match="Gelu"):
        spectral.lipschitz_upper(gelu, Split(torch.ones(2, 2), torch.zeros(2, dtype=torch.long), 2))


def test_isoperimetry_against_one_example_at_a_time(registry: Registry) -> None:
    torch.manual_seed(2)
    mlp = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    inputs = torch.randn(12, 5)
    labels = mlp(inputs.double()).argmax(dim=1)
    trained = Trained(mlp, mlp.state_dict(), Split(inputs, labels, 3))
    (reading,) = read([registry.measures["isoperimetry"]], registry, trained)
    slopes, values = [], []
    for x, y in zip(inputs.double(), labels, strict=True):
        x.requires_grad_()
        f = mlp(x)
        margin = f[y] - max(f[j] for j in range(3) if j != y)
        slopes.append(float(torch.autograd.grad(margin, x)[0].norm()))
        values.append(float(margin.detach()))
    gamma = float(torch.quantile(torch.tensor(values, dtype=torch.float64), 0.1))
    parameters = 5 * 7 + 7 + 7 * 3 + 3
    assert reading.value == pytest.approx(max(slopes) / gamma * math.sqrt(parameters / (12 * 5)), rel=1e-9)


def test_permuting_units_changes_nothing(registry: Registry) -> None:
    torch.manual_seed(3)
    mlp = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    start = copy.deepcopy(mlp).requires_grad_(False)
    for parameter in start.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    order = torch.randperm(7)
    moved, moved_start = copy.deepcopy(mlp), copy.deepcopy(start)
    for net in (moved, moved_start):
        net[0].weight.data, net[0].bias.data = net[0].weight.data[order], net[0].bias.data[order]
        net[2].weight.data = net[2].weight.data[:, order]
    inputs = torch.randn(12, 5)
    train = Split(inputs, mlp(inputs.double()).argmax(dim=1), 3)
    shuffle = torch.randperm(12)
    entries = list(registry.measures.values())
    before = read(entries, registry, Trained(mlp, start.state_dict(), train))
    after = read(
        entries, registry, Trained(moved, moved_start.state_dict(), Split(inputs[shuffle], train.labels[shuffle], 3))
    )
    drawn = {"mixup_margin", "augment_margin"}  # what is drawn depends on the order of the examples
    pairs = [(a, b) for a, b in itertools.zip_longest(before, after) if a.measure not in drawn]
    assert [b.value for _, b in pairs] == pytest.approx([a.value for a, _ in pairs], rel=1e-9)
    assert all(a.status == "ok" for a, _ in pairs)
