"""The shared quantities of a trained network: folded network, layers, norms, outputs, losses and margins."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer, fold_batch_norm, weight_layers, with_state
from gapbench.measures.linear_maps import operator_frobenius_norm, operator_spectral_norm
from gapbench.measures.registry import Undefined, quantity

MARGIN_QUANTILE = 0.1
"""The margin of a network is this quantile of the margins of its training examples (linear interpolation)."""

EXAMPLES_AT_ONCE = 1000


def batches(train: Split, size: int = EXAMPLES_AT_ONCE) -> Iterator[tuple[Tensor, Tensor]]:
    """The training inputs, in float64, and labels, this many examples at a time."""
    return zip(torch.split(train.inputs.double(), size), torch.split(train.labels, size), strict=True)


@quantity
def folded(network: nn.Module, train: Split) -> nn.Module:
    """The network in float64 and evaluation mode, each batch norm folded into the layer before it."""
    return fold_batch_norm(network, train.inputs[:1])


@quantity
def folded_initial(network: nn.Module, initial: Mapping[str, Tensor], train: Split) -> nn.Module:
    """The network at initialisation, folded in the same way."""
    return fold_batch_norm(with_state(network, initial), train.inputs[:1])


@quantity
def folded_float32(folded: nn.Module) -> nn.Module:
    """The folded network in float32, for passes whose noise is far above rounding (perturbations)."""
    return copy.deepcopy(folded).float()


@quantity
def layers(folded: nn.Module, folded_initial: nn.Module, train: Split) -> tuple[Layer, ...]:
    """The weight layers in the order of the forward pass, float64."""
    return weight_layers(folded, folded_initial, train.inputs[:1])


@quantity
def parameters(folded: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of the folded network as one vector w, biases included, float64."""
    return torch.cat([parameter.detach().flatten() for parameter in folded.parameters()])


@quantity
def initial_parameters(folded_initial: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of the folded network at initialisation, w0, biases included, float64."""
    return torch.cat([parameter.detach().flatten() for parameter in folded_initial.parameters()])


@quantity
def frobenius_norms(layers: tuple[Layer, ...]) -> Float[Tensor, " layers"]:
    """‖W_i‖_F of each layer."""
    return torch.stack([torch.linalg.vector_norm(layer.weight) for layer in layers])


@quantity
def distance_frobenius_norms(layers: tuple[Layer, ...]) -> Float[Tensor, " layers"]:
    """‖W_i − W_i0‖_F of each layer."""
    return torch.stack([torch.linalg.vector_norm(layer.weight - layer.initial_weight) for layer in layers])


@quantity
def singular_values(layers: tuple[Layer, ...]) -> list[Float[Tensor, " rank"]]:
    """All singular values of each layer's reshaped matrix, descending."""
    return [torch.linalg.svdvals(layer.matrix) for layer in layers]


@quantity
def spectral_norms(singular_values: list[Tensor]) -> Float[Tensor, " layers"]:
    """‖W_i‖_2 of each layer, convolutions as matrices out x in·kh·kw (the reshaped convention)."""
    return torch.stack([values[0] for values in singular_values])


@quantity
def distance_spectral_norms(layers: tuple[Layer, ...]) -> Float[Tensor, " layers"]:
    """‖W_i − W_i0‖_2 of each layer, reshaped convention."""
    return torch.stack([torch.linalg.matrix_norm(layer.matrix - layer.initial_matrix, ord=2) for layer in layers])


@quantity
def operator_spectral_norms(layers: tuple[Layer, ...], spectral_norms: Tensor) -> Float[Tensor, " layers"]:
    """‖A_i‖_2 of each layer as the linear map it is: the circular convolution at its own input size and stride."""
    return torch.stack(
        [
            operator_spectral_norm(layer.weight, (layer.input_shape[1], layer.input_shape[2]), layer.stride)
            if layer.is_convolution
            else reshaped
            for layer, reshaped in zip(layers, spectral_norms, strict=True)
        ]
    )


@quantity
def operator_frobenius_norms(layers: tuple[Layer, ...], frobenius_norms: Tensor) -> Float[Tensor, " layers"]:
    """‖A_i‖_F of each layer as the linear map it is (the operator convention)."""
    return torch.stack(
        [
            operator_frobenius_norm(layer.weight, (layer.input_shape[1], layer.input_shape[2]), layer.stride)
            if layer.is_convolution
            else reshaped
            for layer, reshaped in zip(layers, frobenius_norms, strict=True)
        ]
    )


@quantity(cost="forward")
def logits(folded: nn.Module, train: Split) -> Float[Tensor, "examples classes"]:
    """The outputs of the network on its training examples, float64, in evaluation mode."""
    with torch.no_grad():
        outputs = [folded(inputs) for inputs, _ in batches(train)]
    return torch.cat(outputs)


@quantity(cost="forward")
def losses(logits: Tensor, train: Split) -> Float[Tensor, " examples"]:
    """The cross-entropy of each training example, in nats."""
    return cross_entropy(logits, train.labels, reduction="none")


@quantity(cost="forward")
def margins(logits: Tensor, train: Split) -> Float[Tensor, " examples"]:
    """f_y − max_{j≠y} f_j of each training example."""
    rows = torch.arange(len(logits))
    correct = logits[rows, train.labels]
    others = logits.clone()
    others[rows, train.labels] = -torch.inf
    return correct - others.max(dim=1).values


@quantity(cost="forward")
def margin(margins: Tensor) -> float:
    """γ, the 10th percentile of the training margins (linear interpolation).

    Raises: Undefined where γ <= 0: no measure may divide by it, nor by its absolute value.
    """
    gamma = float(torch.quantile(margins, MARGIN_QUANTILE))
    if gamma <= 0:
        raise Undefined(f"the training margin is not positive (10th percentile {gamma:.4g})")
    return gamma
