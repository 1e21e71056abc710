"""The measures of consistency: what each makes of its quantities, on a network by the registry, and re-runs."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import davies_bouldin_score

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN, consistency
from gapbench.measures.contract import example_networks
from gapbench.measures.read import read

LABELS = Split(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]), 2)
FEATURES = torch.tensor([[-3.0], [-1], [1], [3]], dtype=torch.float64)
MARGINS = torch.tensor([[1.0, -1.0, 2.0, 0.5], [1.0, 1.0, 2.0, 0.5]], dtype=torch.float64)


def test_accuracies_count_positive_margins() -> None:
    found = consistency.mixup_accuracy(MARGINS)
    assert (found.value, found.standard_error) == pytest.approx((7 / 8, (0.5 / 2) ** 0.5 / 4), rel=1e-12)
    assert consistency.manifold_mixup_accuracy(MARGINS) == found
    assert consistency.mixup_accuracy(-MARGINS).value == pytest.approx(1 / 8)


def test_the_winning_entry_is_the_index_times_the_error() -> None:
    """Spreads 1, distance 4: the index is 1/2."""
    index = consistency.davies_bouldin(FEATURES, LABELS)
    assert index == pytest.approx(0.5, rel=1e-12)
    found = consistency.dbi_times_mixup(FEATURES, MARGINS, LABELS)
    error = consistency.mixup_accuracy(MARGINS).standard_error
    assert (found.value, found.standard_error) == pytest.approx((0.5 / 8, 0.5 * error), rel=1e-12)
    assert found.value != pytest.approx(index * 7 / 8)


def test_consistency_is_with_the_prediction_not_with_the_label() -> None:
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    moved = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [3.0, 0.0]]], dtype=torch.float64)
    assert consistency.augment_consistency(moved, logits).value == pytest.approx(3 / 4)
    assert consistency.augment_consistency(moved, -logits).value == pytest.approx(1 / 4)


def test_readings_of_a_network_against_its_features() -> None:
    trained = example_networks()["mlp on random labels"]
    hidden = trained.network[:-1](trained.train.inputs).detach().double()
    found = {
        name: read([BUILT_IN.measures[name]], BUILT_IN, trained)[0]
        for name in ("davies_bouldin", "dbi_times_mixup", "mixup_accuracy")
    }
    index = davies_bouldin_score(hidden.numpy(), trained.train.labels.numpy())
    # One hidden layer: the first features are the last.
    accuracy = found["mixup_accuracy"].value
    assert accuracy is not None
    assert 0 < accuracy < 1
    assert found["davies_bouldin"].value == pytest.approx(index, rel=1e-5)
    assert found["dbi_times_mixup"].value == pytest.approx(index * (1 - accuracy), rel=1e-5)


@pytest.mark.parametrize("name", ["mixup_accuracy", "dbi_times_mixup", "augment_consistency", "augment_margin"])
def test_re_runs_spread_as_the_standard_error_says(name: str) -> None:
    trained = example_networks()["mlp on random labels"]
    drawn = [read([BUILT_IN.measures[name]], BUILT_IN, trained, seed=seed)[0] for seed in range(10)]
    values = torch.tensor([one.value for one in drawn], dtype=torch.float64)
    errors = torch.tensor([one.standard_error for one in drawn], dtype=torch.float64)
    assert 0 < float(values.std()) < 2 * float(errors.mean())
    assert float(values.std()) > float(errors.mean()) / 4
