"""Geometry of representations: scikit-learn, dense matrices, laws with a known dimension, and hand values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import davies_bouldin_score
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import representations
from gapbench.measures.registry import Undefined
from gapbench.measures.representations import (
    davies_bouldin_index,
    label_variation,
    pareto_exponent,
    two_nn,
    within_over_between,
)


@pytest.fixture
def cloud() -> tuple[Tensor, Tensor]:
    """Unequal classes 0, 1, 2, 4 (3 is absent) around means of their own in six dimensions."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 5 + [1] * 9 + [2] * 14 + [4] * 12)[torch.randperm(40, generator=rng)]
    means = 3 * torch.randn(5, 6, generator=rng, dtype=torch.float64)
    return means[labels] + torch.randn(40, 6, generator=rng, dtype=torch.float64), labels


def test_davies_bouldin_by_scikit_learn_and_by_hand(cloud: tuple[Tensor, Tensor]) -> None:
    points, labels = cloud
    assert davies_bouldin_index(points, labels) == pytest.approx(davies_bouldin_score(points, labels), rel=1e-12)
    assert davies_bouldin_index(points, labels.roll(1)) > 2 * davies_bouldin_index(points, labels)
    # Classes {−1, 1}, {9, 11} and {29, 31}: spreads 1, distances 10, 20, 30; (2/10 + 2/10 + 2/20)/3.
    line = torch.tensor([[-1.0], [1], [9], [11], [29], [31]], dtype=torch.float64)
    assert davies_bouldin_index(line, torch.tensor([0, 0, 1, 1, 2, 2])) == pytest.approx(1 / 6, rel=1e-12)


def test_classes_that_cannot_be_told_apart_are_undefined() -> None:
    points = torch.tensor([[-1.0], [1], [-2], [2]], dtype=torch.float64)
    with pytest.raises(Undefined, match="one label"):
        davies_bouldin_index(points, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(Undefined, match="same mean"):
        davies_bouldin_index(points, torch.tensor([0, 0, 1, 1]))
    with pytest.raises(Undefined, match="same mean"):
        within_over_between(points, torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize("dimensions", [2, 6, 90])
def test_compactness_is_the_dense_trace(cloud: tuple[Tensor, Tensor], dimensions: int) -> None:
    rng = np.random.default_rng(1)
    labels = cloud[1].numpy()
    points = cloud[0].numpy() @ rng.normal(size=(6, dimensions)) + 0.1 * rng.normal(size=(40, dimensions))
    means = np.stack([points[labels == c].mean(0) for c in np.unique(labels)])
    within = sum((points[labels == c] - m).T @ (points[labels == c] - m) for c, m in zip(np.unique(labels), means)) / 40
    centred = means - means.mean(0)
    between = centred.T @ centred / 4
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-12, hermitian=True)) / 4
    assert within_over_between(torch.tensor(points), cloud[1]) == pytest.approx(expected, rel=1e-9)
    # About the mean of the examples, unequal classes would add a direction.
    shifted = means - points.mean(0)
    other = np.trace(within @ np.linalg.pinv(shifted.T @ shifted / 4, rcond=1e-12, hermitian=True)) / 4
    assert other != pytest.approx(expected, rel=1e-3)


def test_compactness_of_two_classes_by_hand() -> None:
    """Means ∓2, deviations ±1: S_W = 1, S_B = 4, 1/(4·2); collapsed classes have 0."""
    points = torch.tensor([[-3.0], [-1], [1], [3]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    assert within_over_between(points, labels) == pytest.approx(1 / 8, rel=1e-12)
    assert within_over_between(points.sign(), labels) == 0.0


def test_label_variation_is_the_laplacian_form_of_scikit_learns_graph(cloud: tuple[Tensor, Tensor]) -> None:
    points, labels = cloud
    unit = (points / points.norm(dim=1, keepdim=True)).numpy()
    directed = kneighbors_graph(unit, 3).toarray()
    graph = np.maximum(directed, directed.T)
    indicators = np.eye(5)[labels.numpy()]
    degrees = np.diag(graph.sum(1))
    expected = np.trace(indicators.T @ (degrees - graph) @ indicators) / np.trace(indicators.T @ degrees @ indicators)
    assert label_variation(points, labels, 3) == pytest.approx(expected, rel=1e-12)
    scales = torch.rand(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    assert label_variation(scales * points, labels, 3) == label_variation(points, labels, 3)
    mixed = label_variation(points, labels.roll(1), 3)
    assert mixed > 2 * expected
    with pytest.raises(Undefined, match="too few"):
        label_variation(points[:3], labels[:3], 3)
    with pytest.raises(Undefined, match="coincide"):
        label_variation(torch.ones_like(points), labels, 3)


def test_label_variation_by_hand() -> None:
    """Directions at 0°, 10°, 50°, 60°: one neighbour each gives two edges, two give five of the six."""
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 50.0, 65.0], dtype=torch.float64))
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert label_variation(points, torch.tensor([0, 0, 1, 1]), 1) == 0.0
    assert label_variation(points, torch.tensor([0, 1, 0, 1]), 1) == 1.0
    assert label_variation(points, torch.tensor([0, 0, 1, 1]), 2) == pytest.approx(3 / 5)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_cube(dimension: int) -> None:
    rng = np.random.default_rng(0)
    inner = rng.uniform(size=(1000, dimension)) @ np.linalg.qr(rng.normal(size=(20, dimension)))[0].T
    found = two_nn(torch.tensor(inner), 0.1)
    assert abs(found.value - dimension) < 3 * found.standard_error + 0.05 * dimension  # the boundary lowers it
    assert found.standard_error == pytest.approx(found.value / math.sqrt(898), rel=1e-12)
    distances = NearestNeighbors(n_neighbors=3).fit(inner).kneighbors(inner)[0]
    # The paper's own fit, a line through the origin: −ln(1 − F(μ)) = d ln μ.
    logs = np.sort(np.log(distances[:, 2] / distances[:, 1]))[:900]
    heights = -np.log(1 - np.arange(1, 901) / 1001)
    assert found.value == pytest.approx(float(logs @ heights / (logs @ logs)), abs=3 * found.standard_error)


@pytest.mark.parametrize("discarded", [0.0, 0.1, 0.5])
def test_the_exponent_is_unbiased_and_its_error_honest(discarded: float) -> None:
    rng = np.random.default_rng(1)
    ratios = torch.tensor(rng.uniform(size=(400, 50)) ** (-1 / 3))  # P(μ > t) = t^−3
    drawn = [pareto_exponent(row, discarded) for row in ratios]
    values = np.array([one.value for one in drawn])
    assert values.mean() == pytest.approx(3, abs=4 * values.std() / math.sqrt(400))
    assert values.std() == pytest.approx(np.mean([one.standard_error for one in drawn]), rel=0.15)
    # Leaving the largest out, rather than taking them as large, would bias it.
    short = np.array([pareto_exponent(row.sort().values[:25], 0.0).value for row in ratios])
    assert short.mean() > 4


def test_points_that_coincide_have_no_ratio() -> None:
    points = torch.tensor([[0.0], [0], [1], [1]], dtype=torch.float64)
    with pytest.raises(Undefined, match="0 training examples with features of their own"):
        two_nn(points, 0.1)
    grid = torch.arange(10, dtype=torch.float64).unsqueeze(1)
    with pytest.raises(Undefined, match="at the same distance"):
        two_nn(grid, 0.3)


def test_first_features_are_pooled_maps_or_units() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 1, 9, 9)
    train = Split(inputs, torch.arange(6) % 2, 2)
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 8), nn.Flatten())
    found = representations.first_features(network, train)
    maps = network[:2](inputs)
    expected = torch.stack([maps[:, :, i : i + 4, j : j + 4].amax(dim=(2, 3)) for i in (0, 4) for j in (0, 4)], dim=2)
    torch.testing.assert_close(found, expected.flatten(1).double())
    units = nn.Sequential(nn.Flatten(), nn.Linear(81, 5), nn.Tanh(), nn.Linear(5, 2))
    torch.testing.assert_close(representations.first_features(units, train), units[:3](inputs).double())
    with pytest.raises(Undefined, match="no second weight layer"):
        representations.first_features(nn.Sequential(nn.Flatten(), nn.Linear(81, 2)), train)
    shared = nn.Linear(2, 2)
    with pytest.raises(Undefined, match="more than once"):
        representations.second_layer(nn.Sequential(nn.Linear(2, 2), shared, shared), torch.zeros(1, 2))
