"""Capacity counts: parameters, VC-dimension bounds, and the linear regions a network shows on its training sample."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer, example_dimension
from gapbench.measures.piecewise_linear import activation_patterns, nonlinear_operation
from gapbench.measures.registry import Undefined, measure, per_sample, variants
from gapbench.models.trained import History, Trained


@measure(source="jiang2020, eq. 20", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def num_params(network: nn.Module) -> float:
    """The number ω of trainable parameters, biases and batch-norm parameters included.

    Raises: nothing. Sign: the VC-dimension of networks of one depth grows with ω.
    """
    return float(sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad))


per_sample(num_params)


@measure(source="unpublished", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def parameters_per_sample(network: nn.Module, train: Split) -> float:
    """The number of trainable parameters per training example.

    Formula: ω/m. Raises: nothing. Sign: parameter-counting bounds grow with ω/m.
    """
    return num_params(network) / len(train)


@measure(
    source="bartlett2019, theorem 6", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation")
)
def vc_bartlett2019(layers: tuple[Layer, ...]) -> float:
    """An upper bound of the VC-dimension of a ReLU network, from its parameters and units.

    Formula: d + [Σ_i (d−i+1) q_i]·log2(8e·Σ_i i·a_i·log2(4e·Σ_j j·a_j)), with q_i the parameters of layer i of d and
    a_i its units (channels times positions for a convolution, whose shared weights are counted once). The constants
    8e and 4e are those of two linear pieces; they are as recalled, not re-read.
    Raises: nothing. Sign: the uniform bound on the gap grows with the VC-dimension.
    """
    depth = len(layers)
    parameters = sum((depth - index) * layer.num_params for index, layer in enumerate(layers))
    units = sum(index * layer.units for index, layer in enumerate(layers, start=1))
    return depth + parameters * math.log2(8 * math.e * units * math.log2(4 * math.e * units))


per_sample(vc_bartlett2019)


@measure(source="jiang2020", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def vc_jiang(layers: tuple[Layer, ...], train: Split) -> float:
    """Jiang et al.'s bound on the gap of a convolutional network, by its VC-dimension.

    Formula: 4000·√(d·log2(6 d n)³·Σ_i k_i² c_i c_{i−1} / m), d layers of k_i x k_i kernels and c_i channels on images
    of side n; the sum is that of the weights, biases left out. A linear layer is a convolution over all its input;
    vector inputs have n = 1. Form and constants as recalled, not re-read.
    Raises: nothing. Sign: it is the bound itself (vacuous: it only ranks).
    """
    depth = len(layers)
    side = max(train.inputs.shape[2:]) if train.inputs.ndim == 4 else 1
    weights = sum(layer.weight.numel() for layer in layers)
    return 4000 * math.sqrt(depth * math.log2(6 * depth * side) ** 3 * weights / len(train))


@measure(
    source="jiang2021pgdl, VC baseline", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation")
)
def vc_pgdl(layers: tuple[Layer, ...], *, image_side: int = 32) -> float:
    """The VC-dimension baseline of the 2020 competition on predicting generalization.

    Formula: d + 2d·ln(22·d·h²)·Σ_i numel_i, with numel_i the weights and biases of layer i of d, and h the side of an
    image, 32 for every data set (a constant factor within one depth). The published code leaves the biases out.
    Raises: nothing. Sign: the uniform bound on the gap grows with the VC-dimension.
    """
    depth = len(layers)
    return depth + 2 * depth * math.log(22 * depth * image_side**2) * sum(layer.num_params for layer in layers)


@measure(source="leecherkassky2022", sign=+1, invariances=("unit_permutation", "example_permutation"))
def output_weight_vc(layers: tuple[Layer, ...]) -> float:
    """The VC-dimension of a large-margin linear classifier on the last hidden layer, by the norm of its weights.

    Formula: min(‖W_L‖_F², dim) + 1, dim the inputs of the last layer and W_L the weights of all its classes (the
    paper's classifiers have one output; features of unit radius and a unit margin are taken for granted). As recalled.
    Raises: nothing. Sign: the bound on the gap grows with the VC-dimension.
    """
    weight = layers[-1].matrix
    return min(float(weight.square().sum()), float(weight.shape[1])) + 1


@measure(source="leecherkassky2022", sign=+1, bound=True, invariances=("unit_permutation", "example_permutation"))
def vc_gap_bound(
    layers: tuple[Layer, ...], logits: Float[Tensor, "examples classes"], train: Split, *, delta: float = 0.05
) -> float:
    """Vapnik's practical bound on the gap in error, with `output_weight_vc` as the VC-dimension.

    Formula: (ε/2)(1 + √(1 + 4R/ε)), R the training error, ε = [h(ln(m/h) + 1) − ln(δ/4)]/m, with h at most m (beyond
    it the growth function is that of all labellings). The constants a1 = a2 = 1 are the practical choice
    (cherkassky2007), not the proven 4 and 2, and h is an estimate: the bound may fail, and the report says so.
    The paper takes δ = min(4/√m, 1); here δ is a knob. Both as recalled. Raises: nothing. Sign: it is the bound itself.
    """
    examples = len(train)
    capacity = min(output_weight_vc(layers), examples)
    error = float((logits.argmax(dim=1) != train.labels).double().mean())
    epsilon = (capacity * (math.log(examples / capacity) + 1) - math.log(delta / 4)) / examples
    return epsilon / 2 * (1 + math.sqrt(1 + 4 * error / epsilon))


@measure(
    source="zhang2017, section 2.2",
    sign=+1,
    invariances=("rescaling", "unit_permutation", "example_permutation"),
    cost="second run",
)
def rademacher_random_labels(
    history: History, random_label_twin: Trained, train: Split, *, same_steps: bool = False
) -> float:
    """How well the same recipe fits random labels: an empirical Rademacher complexity of what training can reach.

    Formula: (a − 1/C)/(1 − 1/C), a the training accuracy of the random-label twin at the end of its training: 0 at
    chance, 1 where random labels are fitted; for two classes it is 2a − 1, the correlation with random signs. With
    ``same_steps``, a is taken where the twin had taken as many optimiser steps as this run (the last end of an epoch
    not later than that), since what training can reach depends on how long it is. One draw of the labels.
    Raises: Undefined where there is no random-label twin, its history was not kept, or there is one class.
    Sign: the uniform bound on the gap is twice the Rademacher complexity.
    """
    curve = random_label_twin.history
    if curve is None:
        raise Undefined("the history of the random-label twin was not kept")
    if train.classes < 2:
        raise Undefined("with one class no label is random")
    epoch = int((curve.steps <= history.steps[-1]).sum()) - 1 if same_steps else -1
    chance = 1 / train.classes
    return (1 - float(curve.error[epoch]) - chance) / (1 - chance)


variants(rademacher_random_labels, same_steps=(True,))


@measure(source="novak2018, section 3", sign=+1, invariances=("rescaling", "unit_permutation"), cost="forward")
def linear_regions(evaluated_float32: nn.Module, train: Split, *, segments: int = 8, points: int = 128) -> float:
    """The mean number of linear regions met on a segment between two training examples.

    Formula: 1 + the number of neighbouring points, of ``points`` equally spaced ones, whose activation patterns (of
    ReLU, leaky ReLU and clipped ReLU, whether modules or functions) differ; averaged over the segments from example k
    to example k+1, k < ``segments``. Regions narrower than the spacing are merged, and switches of max-pooling are not
    counted. The paper counts transitions along a trajectory through data points (as recalled), here along segments.
    Raises: Undefined where the network is not piecewise linear or has no ReLU, where what enters a ReLU is not one
    example a row, and for fewer than two training examples.
    Sign: a network of more regions on the data is the more complex function.
    """
    count = min(segments, len(train) - 1)
    if count < 1:
        raise Undefined(f"a segment needs two training examples, not {len(train)}")
    ends = train.inputs[: count + 1].float()
    place = torch.linspace(0, 1, points).reshape(1, -1, *[1] * (ends.ndim - 1))
    line = torch.lerp(ends[:-1].unsqueeze(1), ends[1:].unsqueeze(1), place)
    strange = nonlinear_operation(evaluated_float32, ends[:1])
    if strange is not None:
        raise Undefined(f"a network that computes {strange} has no linear regions")
    alone, both = (activation_patterns(evaluated_float32, ends[:number]) for number in (1, 2))
    if len(alone) != len(both) or any(example_dimension(*pair) != 0 for pair in zip(alone, both)):
        raise Undefined("examples are not one a row in what enters a ReLU")
    switched = torch.stack([_switches(activation_patterns(evaluated_float32, points)) for points in line])
    return 1 + float(switched.sum(dim=1).double().mean())


def _switches(patterns: list[Bool[Tensor, "points ..."]]) -> Bool[Tensor, " steps"]:
    """Between which neighbouring points any unit switches."""
    if not patterns:
        raise Undefined("activation patterns are those of ReLU units, and the network has no ReLU")
    flat = [pattern.flatten(1) for pattern in patterns]
    return torch.stack([(pattern[1:] != pattern[:-1]).any(dim=1) for pattern in flat]).any(dim=0)
