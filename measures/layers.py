"""Weight layers of any network of Linear and Conv2d modules, with batch norm folded in; mathematics only."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from gapbench.measures.registry import Undefined


@dataclass(frozen=True)
class Layer:
    """A weight layer, trained and at initialisation, float64.

    ``weight`` is (out, in) for a linear layer and (out, in/groups, kh, kw) for a convolution; ``matrix`` is the
    reshaped convention, out x in·kh·kw. Shapes of input and output are those of one example.
    """

    name: str
    weight: Tensor
    initial_weight: Tensor
    bias: Tensor | None
    initial_bias: Tensor | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def is_convolution(self) -> bool:
        """Whether the layer is a convolution."""
        return self.weight.ndim == 4

    @property
    def matrix(self) -> Float[Tensor, "outputs inputs"]:
        """The weight as a matrix, out x in·kh·kw."""
        return self.weight.flatten(1)

    @property
    def initial_matrix(self) -> Float[Tensor, "outputs inputs"]:
        """The initial weight as a matrix, out x in·kh·kw."""
        return self.initial_weight.flatten(1)

    @property
    def units(self) -> int:
        """The number of outputs of the layer for one example (channels times positions for a convolution)."""
        return int(torch.Size(self.output_shape).numel())

    @property
    def num_params(self) -> int:
        """Weights and biases of the layer."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


@dataclass(frozen=True)
class Call:
    """One call of a leaf module in a forward pass."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor


def trace(network: nn.Module, inputs: Tensor) -> list[Call]:
    """The calls of leaf modules in the order of a forward pass; the network itself is not changed."""
    calls: list[Call] = []
    handles = []
    for name, module in network.named_modules():
        if next(module.children(), None) is None:

            def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                calls.append(Call(name, module, given[0], output))

            handles.append(module.register_forward_hook(hook))
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def fold_batch_norm(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> nn.Module:
    """A float64 copy in evaluation mode that computes the same function without batch norm.

    Formula: w ← w·γ/√(σ²+ε), b ← (b − μ)·γ/√(σ²+ε) + β in the linear or convolutional layer before each batch norm.
    Raises: Undefined where a batch norm does not directly follow such a layer, or keeps no running statistics.
    """
    folded = copy.deepcopy(network).double().eval()
    for module in folded.modules():
        if getattr(module, "inplace", False):
            module.__dict__["inplace"] = False  # in place, an activation would overwrite what `trace` keeps
    if not any(isinstance(module, _BatchNorm) for module in folded.modules()):
        return folded
    example = example.double()
    with torch.no_grad():
        expected = folded(example)
        calls = trace(folded, example)
        for call in calls:
            if isinstance(call.module, _BatchNorm):
                before = next((other for other in calls if other.output is call.input), None)
                _fold(folded, call, before)
        found = folded(example)
    # A residual connection may read the layer's output before its batch norm; comparing outputs catches any such use.
    if not torch.allclose(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())):
        raise Undefined("batch norm cannot be folded: another module reads the output of the layer before it")
    return folded


def _fold(network: nn.Module, norm: Call, before: Call | None) -> None:
    if before is None or not isinstance(before.module, nn.Linear | nn.Conv2d):
        raise Undefined(f"batch norm {norm.name} cannot be folded: no linear or convolutional layer directly before it")
    assert isinstance(norm.module, _BatchNorm)
    if norm.module.running_mean is None:
        raise Undefined(f"batch norm {norm.name} cannot be folded: it keeps no running statistics")
    fused: nn.Module
    if isinstance(before.module, nn.Conv2d):
        fused = fuse_conv_bn_eval(before.module, norm.module)
    else:
        fused = fuse_linear_bn_eval(before.module, norm.module)
    network.set_submodule(before.name, fused)
    network.set_submodule(norm.name, nn.Identity())


def with_state(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with another state dict."""
    other = copy.deepcopy(network)
    other.load_state_dict(dict(state))
    return other


def weight_layers(folded: nn.Module, initial: nn.Module, example: Float[Tensor, " 1 *shape"]) -> tuple[Layer, ...]:
    """The weight layers of a folded network and of its folded initialisation, in the order of the forward pass.

    Raises: Undefined for a layer used twice, a grouped or dilated convolution, parameters outside Linear and Conv2d.
    """
    before = dict(initial.named_modules())
    layers: list[Layer] = []
    with torch.no_grad():
        calls = trace(folded, example.to(next(folded.parameters()).dtype))
    for call in calls:
        module = call.module
        if isinstance(module, nn.Linear | nn.Conv2d):
            if any(layer.name == call.name for layer in layers):
                raise Undefined(f"layer {call.name} is used more than once in a forward pass")
            layers.append(_layer(call, before[call.name]))
    covered = {f"{layer.name}.{part}" for layer in layers for part in ("weight", "bias")}
    outside = [name for name, _ in folded.named_parameters() if name not in covered]
    if outside:
        raise Undefined(f"parameters outside linear and convolutional layers: {', '.join(outside[:3])}")
    return tuple(layers)


def _layer(call: Call, initial: nn.Module) -> Layer:
    module = call.module
    assert isinstance(module, nn.Linear | nn.Conv2d)
    assert isinstance(initial, nn.Linear | nn.Conv2d)
    geometry: dict[str, tuple[int, int]] = {}
    if isinstance(module, nn.Conv2d):
        if module.groups != 1 or module.dilation != (1, 1) or isinstance(module.padding, str):
            raise Undefined(f"convolution {call.name} is grouped, dilated or padded by name")
        geometry = {
            "stride": (module.stride[0], module.stride[1]),
            "padding": (int(module.padding[0]), int(module.padding[1])),
        }
    return Layer(
        name=call.name,
        weight=module.weight.detach(),
        initial_weight=initial.weight.detach(),
        bias=None if module.bias is None else module.bias.detach(),
        initial_bias=None if initial.bias is None else initial.bias.detach(),
        input_shape=tuple(call.input.shape[1:]),
        output_shape=tuple(call.output.shape[1:]),
        **geometry,
    )
