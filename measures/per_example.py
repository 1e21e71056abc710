"""Per-example forward and backward sweeps through the layers of a network; mathematics only, nothing is registered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.functional import pad, unfold

from gapbench.measures.layers import Weighted, example_dimension, weight_calls
from gapbench.measures.quantities import cached_examples
from gapbench.measures.registry import Undefined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jaxtyping import Float
    from torch import Tensor

    WeightLayers = Mapping[str, Weighted]

JACOBIAN_EXAMPLES = 16
"""Examples whose Jacobians `jacobians` takes at a time."""

JACOBIAN_ENTRIES = 2**26
"""Entries of Jacobians that `jacobians` forms at a time (0.5 GiB in float64), and of the largest it forms at all."""


SWEPT_VECTORS = 1000
"""Examples whose backward sweeps `squared_gradient_norms` takes at a time where the network does not convolve."""


@dataclass(frozen=True)
class Sweep:
    """What one layer saw: its inputs a (n, *in) and the output gradients δ (sweeps, n, *out) of several sweeps."""

    layer: Weighted
    inputs: Tensor
    deltas: Tensor


def single_use_layers(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> dict[str, Weighted]:
    """The layers with one weight map per example: called once, on one row an example, sharing no parameter.

    Every other parameter needs a general method.
    """
    calls = weight_calls(network, example)
    times = Counter(call.name for call, _ in calls)
    owners = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    found: dict[str, Weighted] = {}
    for call, twice in calls:
        shared = times[call.name] > 1 or any(owners[id(parameter)] > 1 for parameter in call.module.parameters())
        if not shared and example_dimension(call.input, twice.input) == 0:
            assert isinstance(call.module, Weighted)
            found[call.name] = call.module
    return found


def other_parameters(network: nn.Module, layers: WeightLayers) -> dict[str, nn.Parameter]:
    """The parameters of the network that belong to none of these layers, by name."""
    covered = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
    return {name: parameter for name, parameter in network.named_parameters() if id(parameter) not in covered}


def layer_sweeps(
    network: nn.Module,
    layers: WeightLayers,
    inputs: Float[Tensor, " n *shape"],
    columns: Callable[[Tensor], Float[Tensor, "sweeps n classes"]],
) -> list[Sweep]:
    """One forward sweep, and one backward sweep for each of the output gradients that ``columns`` makes of the logits.

    No gradient of a weight is formed: a sweep stops at the outputs of the layers.
    """
    if not layers:
        return []
    logits, seen = _forward(network, layers, inputs)
    rows = list(_backward(logits, seen, columns(logits.detach())))
    deltas = [torch.stack(gradients) for gradients in zip(*rows, strict=True)]
    return [Sweep(layers[name], given, delta) for (name, (given, _)), delta in zip(seen.items(), deltas, strict=True)]


_Seen = dict[str, "tuple[Tensor, Tensor]"]
"""Of each layer, by name, the inputs and, with a graph, the outputs."""


def _forward(network: nn.Module, layers: WeightLayers, inputs: Tensor) -> tuple[Tensor, _Seen]:
    seen: _Seen = {}
    handles = []
    for name, layer in layers.items():

        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor, name: str = name) -> Tensor:
            seen[name] = (given[0].detach(), output)
            return output.clone()  # an activation that works in place would otherwise overwrite the recorded output

        handles.append(layer.register_forward_hook(hook))
    try:
        with torch.enable_grad():
            logits: Tensor = network(inputs.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen


def _backward(logits: Tensor, seen: _Seen, columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    outputs = [output for _, output in seen.values()]
    for column in columns:
        # A scalar: with a vector of output gradients, autograd imports sympy on its first call, a second of start-up.
        total = (logits * column).sum()
        yield torch.autograd.grad(total, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def squared_gradient_norms(
    network: nn.Module,
    inputs: Float[Tensor, " n *shape"],
    columns: Callable[[Tensor, slice], Float[Tensor, "sweeps part classes"]],
) -> Float[Tensor, "sweeps n"]:
    """‖∇⟨f(x_i), s_i⟩‖² over all parameters, for each of the output gradients s.

    ``columns`` makes them of the logits f of a part of the examples. Formula: in the layers of `single_use_layers` from
    one backward sweep for each s (`_layer_norms`), over so few examples at a time that sweeps stay in the cache;
    elsewhere from the parameters' own Jacobians.
    """
    layers, found = single_use_layers(network, inputs[:1]), []
    size = cached_examples(inputs) if inputs.ndim == 4 else SWEPT_VECTORS
    made = []
    for start in range(0, len(inputs), size):
        logits, seen = _forward(network, layers, inputs[start : start + size])
        made.append(columns(logits.detach(), slice(start, start + size)))
        norms = [_layer_norms(layers[name], given) for name, (given, _) in seen.items()]
        squares = made[-1].new_zeros(made[-1].shape[:2])
        for row, deltas in zip(squares, _backward(logits, seen, made[-1]) if layers else ()):
            for norm, delta in zip(norms, deltas, strict=True):
                row += norm(delta)
        found.append(squares)
    total, output_gradients = torch.cat(found, dim=1), torch.cat(made, dim=1)
    for part, jacobian_of in other_jacobians(network, layers, inputs):
        for features in jacobian_of.values():
            total[:, part] += torch.einsum("sic,icp->sip", output_gradients[:, part], features).square().sum(dim=2)
    return total


def patches(layer: Weighted, inputs: Float[Tensor, "n *shape"]) -> Float[Tensor, "n weights positions"]:
    """The inputs that each output position of a layer sees, as columns: of length in·kh·kw for a convolution."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(1, -2).mT
    padding = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs, padding = pad(inputs, layer._reversed_padding_repeated_twice, mode=mode), (0,) * (inputs.ndim - 2)
    if isinstance(layer, nn.Conv2d):
        return unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
    size, dilation, stride = ((1, *pair) for pair in (layer.kernel_size, layer.dilation, layer.stride))
    return unfold(inputs.unsqueeze(2), size, dilation, (0, *padding), stride)


def by_group(
    sweep: Sweep,
) -> tuple[Float[Tensor, "n groups weights positions"], Float[Tensor, "sweeps n groups out positions"]]:
    """The columns and the output gradients of a layer at its positions, apart for each group of a convolution.

    The gradient of a group's weights is Σ_positions δ uᵀ over its columns u.
    """
    return _columns_by_group(sweep.layer, sweep.inputs), _deltas_by_group(sweep.layer, sweep.deltas)


def _columns_by_group(layer: Weighted, inputs: Tensor) -> Tensor:
    columns = patches(layer, inputs)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return columns.reshape(len(columns), groups, -1, columns.shape[2])


def _deltas_by_group(layer: Weighted, deltas: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return deltas.flatten(2, -2).mT.unsqueeze(2)
    flat = deltas.flatten(3)
    return flat.reshape(*flat.shape[:2], layer.groups, -1, flat.shape[3])


def _layer_norms(layer: Weighted, inputs: Float[Tensor, "n *in"]) -> Callable[[Tensor], Float[Tensor, " n"]]:
    """‖∂/∂(weight, bias)‖² of one layer for each example, as a function of the gradients δ (n, *out) of its outputs.

    Formula: linear on vectors (‖a‖² + 1)‖δ‖²; else ‖δ Uᵀ‖² + ‖Σ_positions δ‖² with the columns U of `patches`, where
    the first term is ⟨UᵀU, δᵀδ⟩ if there are fewer positions than weights per output channel, and a sum over groups.
    The bias terms only where there is a bias.
    """
    biased = layer.bias is not None
    if isinstance(layer, nn.Linear) and inputs.ndim == 2:
        squares = inputs.square().sum(dim=1) + float(biased)
        return lambda delta: torch.linalg.vector_norm(delta, dim=1).square() * squares
    columns = _columns_by_group(layer, inputs)
    gram = columns.mT @ columns if columns.shape[3] < columns.shape[2] else None

    def norms(delta: Tensor) -> Tensor:
        own = _deltas_by_group(layer, delta[None])[0]
        if gram is not None:
            total = (gram * (own.mT @ own)).sum(dim=(1, 2, 3))
        else:
            total = (own @ columns.mT).square().sum(dim=(1, 2, 3))
        return total + own.sum(dim=3).square().sum(dim=(1, 2)) if biased else total

    return norms


def other_jacobians(
    network: nn.Module, layers: WeightLayers, inputs: Float[Tensor, " n *shape"]
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The `jacobians` of the parameters outside these layers, for a few examples and parameters at a time."""
    others = other_parameters(network, layers)
    if not others:
        return
    with torch.no_grad():
        rows = min(JACOBIAN_EXAMPLES, len(inputs)) * network(inputs[:1]).shape[1]
    groups: list[list[str]] = [[]]
    entries = 0
    for name, parameter in others.items():
        size = rows * parameter.numel()
        if size > JACOBIAN_ENTRIES:
            gib = size * 8 / 2**30
            raise Undefined(
                f"parameter {name} has {parameter.numel()} entries outside layers that are used once: "
                f"its Jacobians on {rows} outputs would take {gib:.1f} GiB"
            )
        if entries + size > JACOBIAN_ENTRIES:
            groups.append([])
            entries = 0
        groups[-1].append(name)
        entries += size
    for start in range(0, len(inputs), JACOBIAN_EXAMPLES):
        part = slice(start, start + JACOBIAN_EXAMPLES)
        for names in groups:
            yield part, jacobians(network, names, inputs[part])


def jacobian(
    network: nn.Module, name: str, inputs: Float[Tensor, " n *shape"]
) -> Float[Tensor, "n classes parameters"]:
    """The Jacobian of the logits with respect to one named parameter tensor; see `jacobians`."""
    return jacobians(network, [name], inputs)[name]


def jacobians(
    network: nn.Module, names: Sequence[str], inputs: Float[Tensor, " n *shape"]
) -> dict[str, Float[Tensor, "n classes _"]]:
    """The Jacobians of the logits with respect to parameter tensors of any shape, by `torch.func`; any network.

    All examples at once where that is right. PyTorch's rules for it are wrong for some modules, without an error where
    two sizes happen to agree (the slope of `nn.PReLU`), so each result is held against one ordinary gradient; where
    they differ, the examples are taken one at a time.
    """

    def logits(parameters: dict[str, Tensor], example: Tensor) -> Tensor:
        output: Tensor = functional_call(network, parameters, example[None])
        return output[0]

    of_one = jacrev(logits)
    parameters = {name: network.get_parameter(name).detach() for name in names}
    with torch.no_grad():
        try:
            found: dict[str, Tensor] = vmap(of_one, in_dims=(None, 0))(parameters, inputs)
        except RuntimeError:  # sizes that do not fit; what else it may be, the examples one at a time raise again
            found = {}
        wrong = {name: parameters[name] for name in names if name not in found}
        wrong |= {name: parameters[name] for name in _not_adding_up(found, network, inputs)}
        if wrong:
            rows = [of_one(wrong, example) for example in inputs]
            found |= {name: torch.stack([row[name] for row in rows]) for name in wrong}
    return {name: found[name].reshape(*found[name].shape[:2], -1) for name in names}


def _not_adding_up(found: Mapping[str, Tensor], network: nn.Module, inputs: Tensor) -> list[str]:
    """The Jacobians whose weighted sum over examples and classes is not the gradient of that sum of the logits."""
    if not found:
        return []
    parameters = {name: network.get_parameter(name).detach().clone().requires_grad_() for name in found}
    with torch.enable_grad():
        outputs: Tensor = functional_call(network, parameters, inputs)
        # No two alike, so that no exchange of examples or classes goes unseen.
        weights = torch.arange(1, outputs.numel() + 1, dtype=outputs.dtype).cos().view(outputs.shape)
        expected = torch.autograd.grad(
            (outputs * weights).sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
        )
    return [name for name, sums in zip(found, expected, strict=True) if not _adds_up(found[name], weights, sums)]


def _adds_up(columns: Tensor, weights: Float[Tensor, "n classes"], expected: Tensor) -> bool:
    found = torch.tensordot(weights, columns, dims=2)
    largest = float(columns.abs().max())
    return bool(torch.allclose(found, expected, rtol=1e-6, atol=1e-6 * largest, equal_nan=True))
