"""The weight layers of a network, linear and convolutional, with batch norm folded in; mathematics only."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from gapbench.measures.graph import MATRIX_PRODUCTS, Graph, forward_graph, kind, operations
from gapbench.measures.registry import Undefined
from gapbench.measures.standard_form import standard_form

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d
"""The modules whose weights are the weight matrices of a network."""


@dataclass(frozen=True)
class Layer:
    """A weight layer, trained and at initialisation, float64.

    ``weight`` is (out, in) for a linear layer and (out, in/groups, kh, kw) for a convolution (kh = 1 in one dimension);
    ``matrix`` is the reshaped convention, out x in·kh·kw. Shapes of input and output are those of one example.
    """

    name: str
    weight: Tensor
    initial_weight: Tensor
    bias: Tensor | None
    initial_bias: Tensor | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def is_convolution(self) -> bool:
        """Whether the layer is a convolution."""
        return self.weight.ndim == 4

    @property
    def matrix(self) -> Float[Tensor, "outputs inputs"]:
        """The weight as a matrix, out x in·kh·kw: block diagonal over the groups of a convolution."""
        return _block_diagonal(self.blocks) if self.groups > 1 else self.weight.flatten(1)

    @property
    def initial_matrix(self) -> Float[Tensor, "outputs inputs"]:
        """The initial weight as a matrix, out x in·kh·kw."""
        return _block_diagonal(self.initial_blocks) if self.groups > 1 else self.initial_weight.flatten(1)

    @property
    def blocks(self) -> Float[Tensor, "groups outputs inputs"]:
        """The diagonal blocks of ``matrix``, one a group."""
        return self.weight.flatten(1).reshape(self.groups, -1, self.weight[0].numel())

    @property
    def initial_blocks(self) -> Float[Tensor, "groups outputs inputs"]:
        """The diagonal blocks of ``initial_matrix``, one a group."""
        return self.initial_weight.flatten(1).reshape(self.groups, -1, self.weight[0].numel())

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape of ``matrix``."""
        rows, columns = self.weight.flatten(1).shape
        return rows, columns * self.groups

    @property
    def positions(self) -> int:
        """The number of positions of an example at which a linear layer is applied (tokens, say)."""
        return int(torch.Size(self.input_shape[:-1]).numel())

    @property
    def units(self) -> int:
        """The number of outputs of the layer for one example (channels times positions for a convolution)."""
        return int(torch.Size(self.output_shape).numel())

    @property
    def num_params(self) -> int:
        """Weights and biases of the layer."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


def _block_diagonal(blocks: Float[Tensor, "groups rows columns"]) -> Tensor:
    groups, rows, columns = blocks.shape
    matrix = blocks.new_zeros(groups, rows, groups, columns)
    each = torch.arange(groups)
    matrix[each, :, each] = blocks
    return matrix.view(groups * rows, groups * columns)


@dataclass(frozen=True)
class Call:
    """One call of a leaf module in a forward pass."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor


def trace(network: nn.Module, inputs: Tensor) -> list[Call]:
    """The calls of leaf modules in the order of a forward pass; the network itself is not changed.

    Of a module with several inputs or outputs, the first tensor of each.
    """
    return _traced(network, inputs)[0]


def _traced(network: nn.Module, inputs: Tensor) -> tuple[list[Call], Tensor]:
    """The calls of leaf modules, and the outputs of the network."""
    calls: list[Call] = []
    handles = []
    for name, module in network.named_modules():
        if next(module.children(), None) is None:

            def hook(
                module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any, name: str = name
            ) -> None:
                into = [value for value in (*given, *named.values()) if isinstance(value, Tensor)]
                out = [
                    value for value in (output if isinstance(output, tuple) else (output,)) if isinstance(value, Tensor)
                ]
                if into and out:
                    calls.append(Call(name, module, into[0], out[0]))

            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        outputs = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls, outputs


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a batch norm is left in a network."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def fold_batch_norm(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> nn.Module:
    """The `standard_form` of a network without batch norm: the same function, in float64 and evaluation mode.

    Formula: w ← w·γ/√(σ²+ε), b ← (b − μ)·γ/√(σ²+ε) + β in the linear or convolutional layer before each batch norm.
    Raises: Undefined where a batch norm does not directly follow such a layer, or keeps no running statistics.
    """
    example = example.double()
    folded = standard_form(network, example)
    if not has_batch_norm(folded):
        return folded
    with torch.enable_grad():
        calls, outputs = _traced(folded, example.clone().requires_grad_())
    readers = Counter(child for node in operations(outputs) for child, _ in node.next_functions)
    times = Counter(call.name for call in calls)
    with torch.no_grad():
        for call in calls:
            if isinstance(call.module, _BatchNorm):
                before = next((other for other in calls if other.output is call.input), None)
                if before is not None and (readers[call.input.grad_fn] > 1 or times[before.name] > 1):
                    raise Undefined(
                        f"batch norm {call.name} cannot be folded: "
                        f"another module reads the output of the layer before it"
                    )
                _fold(folded, call, before)
        for name, module in list(folded.named_modules()):
            if isinstance(module, _BatchNorm) and times[name] == 0:
                folded.set_submodule(name, nn.Identity())  # it is never called
        found = folded(example)
    outputs = outputs.detach()
    if not torch.allclose(found, outputs, rtol=1e-9, atol=1e-9 * float(outputs.abs().max())):
        raise Undefined("batch norm cannot be folded: the folded network computes something else")
    return folded


def _fold(network: nn.Module, norm: Call, before: Call | None) -> None:
    if before is None or not isinstance(before.module, Weighted):
        raise Undefined(f"batch norm {norm.name} cannot be folded: no linear or convolutional layer directly before it")
    assert isinstance(norm.module, _BatchNorm)
    fused: nn.Module
    if not isinstance(before.module, nn.Linear):
        fused = fuse_conv_bn_eval(before.module, norm.module)
    elif before.output.ndim == 2:
        fused = fuse_linear_bn_eval(before.module, _with_scales(norm.module))
    else:
        raise Undefined(f"batch norm {norm.name} cannot be folded: its channels are not the units of {before.name}")
    network.set_submodule(before.name, fused)
    network.set_submodule(norm.name, nn.Identity())


def _with_scales(norm: _BatchNorm) -> _BatchNorm:
    """The batch norm itself, or where it has no scale and shift (affine=False) a copy with ones and zeros."""
    if norm.affine:
        return norm
    assert norm.running_var is not None
    copied = copy.deepcopy(norm)
    copied.weight = nn.Parameter(torch.ones_like(norm.running_var))
    copied.bias = nn.Parameter(torch.zeros_like(norm.running_var))
    return copied


def with_state(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with another state dict."""
    other = copy.deepcopy(network)
    other.load_state_dict(dict(state))
    return other


def weight_calls(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> list[tuple[Call, Call]]:
    """The calls of weight layers for one example, and for the same example twice, in the order of the forward pass."""
    example = example.to(next(network.parameters()).dtype)
    with torch.no_grad():
        pairs = zip(trace(network, example), trace(network, torch.cat([example, example])), strict=True)
        return [pair for pair in pairs if isinstance(pair[0].module, Weighted)]


def example_dimension(of_one: Tensor, of_two: Tensor) -> int | None:
    """Which dimension of what a layer saw is that of the examples; None where it is none of them alone."""
    pairs = list(zip(of_one.shape, of_two.shape, strict=True))
    differing = [place for place, (one, two) in enumerate(pairs) if one != two]
    return differing[0] if [pairs[place] for place in differing] == [(1, 2)] else None


def weight_layers(folded: nn.Module, initial: nn.Module, example: Float[Tensor, " 1 *shape"]) -> tuple[Layer, ...]:
    """The weight layers of a folded network and of its folded initialisation, in the order of the forward pass.

    Weight layers are linear layers, the four maps of an attention among them, and convolutions. Vectors (biases, affine
    parameters of norms, class tokens, positional embeddings) belong to none.
    Raises: Undefined for a layer used twice, or a parameter that multiplies as a matrix elsewhere.
    """
    before = dict(initial.named_modules())
    layers: list[Layer] = []
    for call, twice in weight_calls(folded, example):
        if any(layer.name == call.name for layer in layers):
            raise Undefined(f"layer {call.name} is used more than once in a forward pass")
        layers.append(_layer(call, twice, before[call.name]))
    _refuse_other_matrices(forward_graph(folded, example.to(next(folded.parameters()).dtype)), folded, layers)
    if not layers:
        raise Undefined("the network has no linear or convolutional layer")
    return tuple(layers)


def _refuse_other_matrices(graph: Graph, folded: nn.Module, layers: list[Layer]) -> None:
    own = {id(folded.get_submodule(layer.name).weight): layer.name for layer in layers}
    names = {name: own[id(tensor)] for name, tensor in folded.named_parameters() if id(tensor) in own}
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if kind(node) in MATRIX_PRODUCTS:
            weights = graph.weights(node)
            uses.update(name for name in weights if name in names)
            if weights and not any(name in names for name in weights):
                raise Undefined(f"parameter {weights[0]} is a weight matrix outside linear and convolutional layers")
        elif "Rnn" in kind(node) or kind(node) == "Embedding":
            raise Undefined(f"weights outside linear and convolutional layers: the network computes {kind(node)}")
    for name, times in uses.items():
        if times > 1:
            raise Undefined(f"the weight of layer {names[name]} is used more than once in a forward pass")


def _layer(call: Call, twice: Call, initial: nn.Module) -> Layer:
    module = call.module
    assert isinstance(module, Weighted)
    assert isinstance(initial, Weighted)
    weight, initial_weight = module.weight.detach(), initial.weight.detach()
    shapes = [_of_one_example(*pair) for pair in ((call.input, twice.input), (call.output, twice.output))]
    geometry: dict[str, Any] = {}
    if not isinstance(module, nn.Linear):
        flat = isinstance(module, nn.Conv1d)
        geometry = {
            "stride": (1, *module.stride) if flat else module.stride,
            "dilation": (1, *module.dilation) if flat else module.dilation,
            "groups": module.groups,
        }
        if flat:
            weight, initial_weight = weight.unsqueeze(2), initial_weight.unsqueeze(2)
            shapes = [(shape[0], 1, *shape[1:]) for shape in shapes]
    return Layer(
        name=call.name,
        weight=weight,
        initial_weight=initial_weight,
        bias=None if module.bias is None else module.bias.detach(),
        initial_bias=None if initial.bias is None else initial.bias.detach(),
        input_shape=shapes[0],
        output_shape=shapes[1],
        **geometry,
    )


def _of_one_example(one: Tensor, two: Tensor) -> tuple[int, ...]:
    """The shape of one example: the dimension that grows with the examples is left out where it is theirs alone."""
    pairs = zip(one.shape, two.shape, strict=True)
    return tuple(size for size, double in pairs if size == double or size > 1)
