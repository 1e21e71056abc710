"""The geometry of a representation: separation of its classes, its neighbourhoods and its dimension."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, normalize

from gapbench.datasets.spec import Split
from gapbench.measures.draws import DRAWN_EXAMPLES
from gapbench.measures.layers import Weighted, trace
from gapbench.measures.registry import Estimate, Undefined, quantity

NEIGHBOURHOOD_EXAMPLES = 1000
"""Neighbours are sought among this many training examples, the first ones: their order is a random permutation."""

POOL = 4
"""The side of the windows by which `first_features` shrinks maps, as in the published code."""


def second_layer(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> str:
    """The name of the weight layer that comes second in a forward pass.

    Raises: Undefined where there is none.
    """
    with torch.no_grad():
        calls = trace(network, example)
    names = [call.name for call in calls if isinstance(call.module, Weighted)]
    if len(names) < 2:
        raise Undefined("the network has no second weight layer")
    if names.count(names[1]) > 1:
        raise Undefined(f"layer {names[1]} is used more than once in a forward pass")
    return names[1]


@quantity(cost="forward")
def first_features(evaluated_float32: nn.Module, train: Split) -> Float[Tensor, "examples features"]:
    """What enters the second weight layer for the first 250 training examples, float64 of a float32 pass.

    Maps are max-pooled 4 x 4, but for those with a side below 4. Raises: Undefined where there is no second layer.
    """
    layer = evaluated_float32.get_submodule(second_layer(evaluated_float32, train.inputs[:1]))
    rows: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        maps = given[0].ndim == 4 and min(given[0].shape[2:]) >= POOL
        rows.append((max_pool2d(given[0], POOL) if maps else given[0]).flatten(1))

    handle = layer.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            evaluated_float32(train.inputs[:DRAWN_EXAMPLES])
    finally:
        handle.remove()
    return rows[0].double()


def class_means(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """The mean of each class present, (classes, d), and each example's deviation from its own, (n, d).

    Raises: Undefined where all examples have one label.
    """
    present, index = torch.unique(labels, return_inverse=True)
    if len(present) < 2:
        raise Undefined("all training examples have one label")
    sums = torch.zeros(len(present), features.shape[1], dtype=features.dtype).index_add_(0, index, features)
    means = sums / torch.bincount(index).unsqueeze(1)
    return means, features - means[index]


def davies_bouldin_index(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """(1/C) Σ_c max_{c'≠c} (s_c + s_c')/‖μ_c − μ_c'‖, s_c the mean distance of class c from its mean μ_c.

    Raises: Undefined where all examples have one label or two classes have the same mean.
    """
    means, deviations = class_means(features, labels)
    _, index = torch.unique(labels, return_inverse=True)
    spreads = torch.zeros(len(means), dtype=features.dtype).index_add_(0, index, deviations.norm(dim=1))
    spreads = spreads / torch.bincount(index)
    distances = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    if float(distances.min()) == 0:
        raise Undefined("two classes have the same mean feature vector")
    return float(((spreads.unsqueeze(0) + spreads.unsqueeze(1)) / distances).max(dim=1).values.mean())


def within_over_between(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """tr(S_W S_B⁺)/C, S_W the covariance around the class means, S_B that of the class means, without forming either.

    With the singular vectors u_k and values s_k of the centred means over √C, S_B⁺ = Σ_k u_k u_kᵀ / s_k². Singular
    values up to C·2.2e-16 of the largest count as zero. Raises: Undefined where the class means do not differ.
    """
    means, deviations = class_means(features, labels)
    classes = len(means)
    # The mean of the class means, not of the examples: with unequal classes the latter would add a direction to S_B.
    _, singular, directions = torch.linalg.svd((means - means.mean(dim=0)) / math.sqrt(classes), full_matrices=False)
    if float(singular[0]) == 0:
        raise Undefined("all classes have the same mean feature vector")
    # C centred means span C − 1 directions; rounding leaves the last singular value a little above zero.
    kept = singular[: classes - 1] > max(means.shape) * torch.finfo(features.dtype).eps * singular[0]
    within = (deviations @ directions[: classes - 1][kept].T).square().mean(dim=0)
    return float((within / singular[: classes - 1][kept].square()).sum()) / classes


def nearest(features: Float[Tensor, "n d"], neighbours: int) -> tuple[Tensor, Tensor]:
    """The distances to each example's nearest others, ascending, and which they are, both (n, neighbours).

    Raises: Undefined where there are too few examples.
    """
    if len(features) <= neighbours:
        raise Undefined(f"{len(features)} training examples are too few for {neighbours} neighbours of each")
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    found = distances.topk(neighbours, largest=False)
    return found.values, found.indices


def label_variation(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], neighbours: int) -> float:
    """tr(YᵀLY)/tr(YᵀDY) on the graph that joins i and k where either is among the other's nearest by the cosine.

    Raises: Undefined where there are too few examples, or neighbours do not differ.
    """
    distances, indices = nearest(normalize(features, dim=1), neighbours)
    if float(distances.max()) == 0:
        raise Undefined("the features of every training example coincide with those of its neighbours")
    graph = torch.zeros(len(features), len(features), dtype=torch.bool).scatter_(1, indices, True)
    graph = graph | graph.T
    other = labels.unsqueeze(0) != labels.unsqueeze(1)
    return float((graph & other).sum()) / float(graph.sum())


def two_nn(features: Float[Tensor, "n d"], discarded: float) -> Estimate:
    """The dimension from the distances to the two nearest neighbours; see `intrinsic_dimension`."""
    distances, _ = nearest(features, 2)
    scale = float((features - features.mean(dim=0)).square().sum(dim=1).mean().sqrt())
    apart = distances[distances[:, 0] > 1e-9 * scale]  # closer than rounding: the same point
    return pareto_exponent(apart[:, 1] / apart[:, 0], discarded)


def pareto_exponent(ratios: Float[Tensor, " n"], discarded: float) -> Estimate:
    """d of the law P(μ > t) = t^−d of independent ratios, by maximum likelihood with the largest censored, unbiased.

    Raises: Undefined where fewer than three ratios are not censored, or all of these are one.
    """
    logs = ratios.log().sort().values
    kept = len(logs) - int(discarded * len(logs))
    if kept < 3:
        raise Undefined(f"{len(logs)} training examples with features of their own are too few")
    total = float(logs[:kept].sum() + (len(logs) - kept) * logs[kept - 1])
    if total <= 0:
        raise Undefined("the two nearest neighbours of every training example are at the same distance")
    dimension = (kept - 1) / total
    return Estimate(dimension, dimension / math.sqrt(kept - 2))
