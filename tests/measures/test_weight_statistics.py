"""Weight statistics: against numpy, on each part."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn

from gapbench.measures import MEASURES
from gapbench.measures.layers import weight_layers
from gapbench.measures.weight_statistics import PARTS, STATISTICS, value_of, weight_statistic

NETWORK = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3)).double()
LAYERS = weight_layers(NETWORK, NETWORK, torch.ones(1, 5))
WEIGHTS = [layer.weight.numpy().ravel() for layer in LAYERS]
NUMBERS = {"all": numpy.concatenate(WEIGHTS), "first": WEIGHTS[0], "last": WEIGHTS[-1]}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_are_those_of_numpy(part: str, statistic: str) -> None:
    numbers = NUMBERS[part]
    expected = {"mean": numbers.mean(), "variance": numbers.var()}
    place = statistic.removesuffix("%")
    value = expected.get(statistic) if statistic in expected else numpy.percentile(numbers, float(place))
    assert weight_statistic(LAYERS, part=part, statistic=statistic) == pytest.approx(value, rel=1e-12)


def test_parts_and_statistics_differ() -> None:
    values = {weight_statistic(LAYERS, part=part, statistic=name) for part in PARTS for name in STATISTICS}
    assert len(values) >= 3 * 7 - 4  # extremes of all weights are those of some layer


def test_one_weight_is_every_quantile() -> None:
    assert {value_of(torch.tensor([2.0]), statistic) for statistic in STATISTICS if statistic != "variance"} == {2.0}


def test_every_row_is_a_feature_of_21() -> None:
    rows = [entry for entry in MEASURES.values() if entry.family == "weight_statistics"]
    assert len(rows) == len(PARTS) * len(STATISTICS)
    assert all(entry.feature for entry in rows)
    assert len({(entry.knobs.get("part", "all"), entry.knobs.get("statistic", "mean")) for entry in rows}) == 21
