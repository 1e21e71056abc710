"""The shared quantities of a trained network: folded network, layers, norms, outputs, losses and margins."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Layer, fold_batch_norm, has_batch_norm, weight_layers, with_state
from gapbench.measures.linear_maps import operator_frobenius_norm, operator_spectral_norm
from gapbench.measures.registry import Undefined, quantity
from gapbench.measures.standard_form import standard_form

EXAMPLES_AT_ONCE = 1000

MOST_CONVOLVED_FLOAT64 = 100_000
"""Samples of more numbers than this are convolved in float32 where a measure needs many passes."""

FEWEST_AT_ONCE, CACHED_NUMBERS = 25, 80_000

CONVOLVED_EXAMPLES = 128
"""Of convolutional networks, the curvature and sharpness of the loss are those of its mean over so many examples."""


def batches(
    train: Split, size: int = EXAMPLES_AT_ONCE, *, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[Tensor, Tensor]]:
    """The training inputs and labels, this many examples at a time, fewer if they are large."""
    size = min(size, cached_examples(train.inputs))
    inputs = channels_last(train.inputs.to(dtype))
    return zip(torch.split(inputs, size), torch.split(train.labels, size), strict=True)


def channels_last(inputs: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
    """The same inputs, images with their channels last in memory: PyTorch then convolves up to three times as fast."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def cached_examples(inputs: Float[Tensor, "n *shape"]) -> int:
    """How many examples to pass at a time: a convolutional network is twice as fast where maps stay in the cache."""
    return max(FEWEST_AT_ONCE, CACHED_NUMBERS // inputs[0].numel())


@quantity
def evaluated(network: nn.Module, train: Split) -> nn.Module:
    """The network in float64 and evaluation mode: `folded` where its batch norms can be folded, else with all of them.

    What depends on the function alone (outputs, losses, margins, kernels, how the loss changes with the parameters)
    is taken of this one; what depends on the size of the weights needs `folded`.
    Raises: Undefined where a batch norm keeps no running statistics.
    """
    return _folded_if_possible(network, train)


@quantity
def evaluated_initial(
    network: nn.Module, initial: Mapping[str, Tensor], evaluated: nn.Module, train: Split
) -> nn.Module:
    """The network at initialisation, in the same form as `evaluated`."""
    start, example = with_state(network, initial), train.inputs[:1]
    return standard_form(start, example.double()) if has_batch_norm(evaluated) else fold_batch_norm(start, example)


@quantity
def folded(evaluated: nn.Module, network: nn.Module, train: Split) -> nn.Module:
    """The network in float64 and evaluation mode, each batch norm folded into the layer before it.

    Raises: Undefined where a batch norm cannot be folded, which leaves the size of its weights without a meaning.
    """
    return fold_batch_norm(network, train.inputs[:1]) if has_batch_norm(evaluated) else evaluated


@quantity
def folded_initial(folded: nn.Module, evaluated_initial: nn.Module) -> nn.Module:
    """The network at initialisation, folded in the same way."""
    return evaluated_initial


@quantity
def evaluated_float32(evaluated: nn.Module) -> nn.Module:
    """`evaluated` in float32, for passes whose noise is far above rounding (perturbations)."""
    return in_float32(evaluated)


@quantity
def folded_float32(folded: nn.Module) -> nn.Module:
    """`folded` in float32."""
    return in_float32(folded)


def in_float32(network: nn.Module) -> nn.Module:
    """A copy of the network in float32, its kernels laid out for `channels_last`."""
    copied = copy.deepcopy(network).float()
    copied.to(memory_format=torch.channels_last)
    return copied


@quantity
def curvature_sample(evaluated: nn.Module, train: Split) -> Split:
    """The training examples on which the loss is differentiated, or the weights are moved, again and again.

    All of them, but the first `CONVOLVED_EXAMPLES` where the network convolves: a pass then costs a hundred times that
    of a perceptron. The order of a sample is a random permutation; another order of a larger sample has other firsts.
    """
    if not convolves(evaluated):
        return train
    return Split(train.inputs[:CONVOLVED_EXAMPLES], train.labels[:CONVOLVED_EXAMPLES], train.classes)


@quantity
def curvature_network(evaluated: nn.Module, evaluated_float32: nn.Module, curvature_sample: Split) -> nn.Module:
    """The network for derivatives of the loss on `curvature_sample`: float64, but float32 where it convolves images.

    PyTorch convolves several times faster in float32. Where the loss is some hundredths of a nat, as at the end of
    training, the rounding of 1 − p leaves four digits or more of a gradient.
    """
    large = curvature_sample.inputs.numel() > MOST_CONVOLVED_FLOAT64
    return evaluated_float32 if large and convolves(evaluated) else evaluated


@quantity
def curvature_parameters(curvature_network: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of `curvature_network` as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in curvature_network.parameters()])


@quantity(cost="forward")
def curvature_logits(curvature_network: nn.Module, curvature_sample: Split) -> Float[Tensor, "examples classes"]:
    """The outputs of `curvature_network` on `curvature_sample`."""
    dtype = next(curvature_network.parameters()).dtype
    with torch.no_grad():
        outputs: Tensor = curvature_network(curvature_sample.inputs.to(dtype))
    return outputs


def convolves(network: nn.Module) -> bool:
    """Whether a network has convolutions."""
    return any(isinstance(module, _ConvNd) for module in network.modules())


def in_state(network: nn.Module, state: Mapping[str, Tensor], train: Split) -> nn.Module:
    """The network with another state dict, in the form of `evaluated`."""
    return _folded_if_possible(with_state(network, state), train)


def _folded_if_possible(network: nn.Module, train: Split) -> nn.Module:
    try:
        return fold_batch_norm(network, train.inputs[:1])
    except Undefined:
        return standard_form(network, train.inputs[:1].double())


@quantity
def layers(folded: nn.Module, folded_initial: nn.Module, train: Split) -> tuple[Layer, ...]:
    """The weight layers in the order of the forward pass, float64."""
    return weight_layers(folded, folded_initial, train.inputs[:1])


@quantity
def parameters(folded: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of the folded network as one vector w, biases included, float64."""
    return torch.cat([parameter.detach().flatten() for parameter in folded.parameters()])


@quantity
def evaluated_parameters(evaluated: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of `evaluated` as one vector, float64: those of `parameters` where batch norm can be folded."""
    return torch.cat([parameter.detach().flatten() for parameter in evaluated.parameters()])


@quantity
def evaluated_initial_parameters(evaluated_initial: nn.Module) -> Float[Tensor, " parameters"]:
    """All parameters of `evaluated_initial` as one vector, float64."""
    return torch.cat([parameter.detach().flatten() for parameter in evaluated_initial.parameters()])


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
    return [
        torch.linalg.svdvals(layer.blocks).flatten().sort(descending=True).values
        if layer.groups > 1
        else torch.linalg.svdvals(layer.matrix)
        for layer in layers
    ]


@quantity
def spectral_norms(singular_values: list[Tensor]) -> Float[Tensor, " layers"]:
    """‖W_i‖_2 of each layer, convolutions as matrices out x in·kh·kw (the reshaped convention)."""
    return torch.stack([values[0] for values in singular_values])


@quantity
def distance_spectral_norms(layers: tuple[Layer, ...]) -> Float[Tensor, " layers"]:
    """‖W_i − W_i0‖_2 of each layer, reshaped convention."""
    return torch.stack([torch.linalg.matrix_norm(layer.blocks - layer.initial_blocks, ord=2).max() for layer in layers])


@quantity
def operator_spectral_norms(layers: tuple[Layer, ...], spectral_norms: Tensor) -> Float[Tensor, " layers"]:
    """‖A_i‖_2 of each layer as the linear map it is: the circular convolution at its own input size and stride."""
    return torch.stack(
        [
            operator_spectral_norm(
                layer.weight, (layer.input_shape[1], layer.input_shape[2]), layer.stride, layer.dilation, layer.groups
            )
            if layer.is_convolution
            else reshaped
            for layer, reshaped in zip(layers, spectral_norms, strict=True)
        ]
    )


@quantity
def operator_frobenius_norms(layers: tuple[Layer, ...], frobenius_norms: Tensor) -> Float[Tensor, " layers"]:
    """‖A_i‖_F of each layer as the linear map it is (the operator convention).

    A linear layer that is applied at P positions of an example is that many copies of its matrix: √P ‖W_i‖_F.
    """
    return torch.stack(
        [
            operator_frobenius_norm(
                layer.weight, (layer.input_shape[1], layer.input_shape[2]), layer.stride, layer.dilation
            )
            if layer.is_convolution
            else reshaped * math.sqrt(layer.positions)
            for layer, reshaped in zip(layers, frobenius_norms, strict=True)
        ]
    )
