"""Statistics of the weights, as features of a predictor that is fitted to the gap: they are not ranked themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from gapbench.measures.layers import Layer
from gapbench.measures.registry import measure, variants

STATISTICS = ("mean", "variance", "0%", "25%", "50%", "75%", "100%")
PARTS = ("all", "first", "last")


@measure(
    source="unterthiner2020, section 4",
    sign=+1,
    feature=True,
    invariances=("unit_permutation", "example_permutation", "example_duplication"),
)
def weight_statistic(layers: tuple[Layer, ...], *, part: str = "all", statistic: str = "mean") -> float:
    """One statistic of the weights of all layers, of the first or of the last.

    Formula: mean, variance (divided by the number of weights) or quantile (linear interpolation) of the entries of the
    weights of ``part``, batch norm folded, without biases. The paper takes these seven statistics of each of the first
    layers, kernels and biases apart; these parts exist in a network of any depth. As recalled.
    Raises: as `layers`. Sign: none, it is a feature: the predictor's fit decides.
    """
    chosen = {"all": layers, "first": layers[:1], "last": layers[-1:]}[part]
    return value_of(torch.cat([layer.weight.flatten() for layer in chosen]), statistic)


variants(weight_statistic, part=PARTS[:1], statistic=STATISTICS[1:])
variants(weight_statistic, part=PARTS[1:], statistic=STATISTICS)


def value_of(weights: Tensor, statistic: str) -> float:
    """The mean, the variance or a quantile ("25%") of these numbers."""
    if statistic == "mean":
        return float(weights.mean())
    if statistic == "variance":
        return float(weights.var(correction=0))
    # `torch.quantile` takes 16 million numbers at most.
    place = float(statistic.removesuffix("%")) / 100 * (len(weights) - 1)
    ordered = weights.sort().values
    below = int(place)
    return float(torch.lerp(ordered[below], ordered[min(below + 1, len(weights) - 1)], place - below))
