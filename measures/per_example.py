"""Per-example forward and backward sweeps through the layers of a network; mathematics only, nothing is registered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.functional import unfold

from gapbench.measures.layers import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaxtyping import Float
    from torch import Tensor

    WeightLayers = Mapping[str, nn.Linear | nn.Conv2d]

JACOBIAN_EXAMPLES = 16
"""Examples whose Jacobians `jacobian` should be asked for at a time."""


@dataclass(frozen=True)
class Sweep:
    """What one layer saw: its inputs a (n, *in) and the output gradients δ (sweeps, n, *out) of several sweeps."""

    layer: nn.Linear | nn.Conv2d
    inputs: Tensor
    deltas: Tensor


def single_use_layers(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers with one weight map per example: called once, on vectors or images, sharing no parameter.

    Grouped convolutions and those padded other than with zeros are left out, as are linear layers applied at several
    positions of an example. Every other parameter needs a general method.
    """
    with torch.no_grad():
        calls = trace(network, example)
    times = Counter(call.name for call in calls)
    owners = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for call in calls:
        module = call.module
        if times[call.name] > 1 or any(owners[id(parameter)] > 1 for parameter in module.parameters()):
            continue
        if isinstance(module, nn.Linear):
            plain = call.input.ndim == 2
        elif isinstance(module, nn.Conv2d):
            plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        else:
            continue
        if plain:
            found[call.name] = module
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
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, layer in layers.items():

        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor, name: str = name) -> Tensor:
            seen[name] = (given[0].detach(), output)
            return output.clone()  # an activation that works in place would otherwise overwrite the recorded output

        handles.append(layer.register_forward_hook(hook))
    try:
        with torch.enable_grad():
            logits = network(inputs.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    outputs = [output for _, output in seen.values()]
    # Scalars: with a vector of output gradients, autograd imports sympy on its first call, a second of start-up.
    totals = ((logits * column).sum() for column in columns(logits.detach()))
    rows = [
        torch.autograd.grad(total, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for total in totals
    ]
    deltas = [torch.stack(gradients) for gradients in zip(*rows, strict=True)]
    return [Sweep(layers[name], seen[name][0], delta) for name, delta in zip(seen, deltas, strict=True)]


def patches(layer: nn.Conv2d, inputs: Float[Tensor, "n in h w"]) -> Float[Tensor, "n weights positions"]:
    """The inputs that each output position of a convolution sees, as columns of length in·kh·kw."""
    assert not isinstance(layer.padding, str)
    return unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def squared_gradient_norms(sweep: Sweep) -> Float[Tensor, "sweeps n"]:
    """‖∂/∂(weight, bias)‖² of one layer for each sweep and example.

    Formula: linear (‖a‖² + 1)‖δ‖²; convolution ‖δ Uᵀ‖² + ‖Σ_positions δ‖² with the patches U, where the first term is
    ⟨UᵀU, δᵀδ⟩ if there are fewer positions than weights per output channel. The bias terms only where there is a bias.
    """
    biased = sweep.layer.bias is not None
    if isinstance(sweep.layer, nn.Linear):
        inputs = sweep.inputs.square().sum(dim=1) + float(biased)
        return sweep.deltas.square().sum(dim=2) * inputs
    columns, deltas = patches(sweep.layer, sweep.inputs), sweep.deltas.flatten(3)
    if columns.shape[2] < columns.shape[1]:
        gram = columns.mT @ columns
        squares = torch.stack([(gram * (delta.mT @ delta)).sum(dim=(1, 2)) for delta in deltas])
    else:
        squares = torch.stack([(delta @ columns.mT).square().sum(dim=(1, 2)) for delta in deltas])
    return squares + deltas.sum(dim=3).square().sum(dim=2) if biased else squares


def jacobian(
    network: nn.Module, name: str, inputs: Float[Tensor, " n *shape"]
) -> Float[Tensor, "n classes parameters"]:
    """The Jacobian of the logits with respect to one named parameter tensor of any shape, by `torch.func`; any network.

    All examples at once where that is right. PyTorch's rules for it are wrong for some modules, without an error where
    two sizes happen to agree (the slope of `nn.PReLU`), so the result is held against one ordinary gradient; if they
    differ, the examples are taken one at a time.
    """

    def logits(parameter: Tensor, example: Tensor) -> Tensor:
        output: Tensor = functional_call(network, {name: parameter}, example[None])
        return output[0]

    parameter = network.get_parameter(name).detach()
    of_one = jacrev(logits)
    with torch.no_grad():
        try:
            columns: Tensor = vmap(of_one, in_dims=(None, 0))(parameter, inputs)
            right = _adds_up(columns, network, name, inputs)
        except RuntimeError:  # sizes that do not fit; what else it may be, the examples one at a time raise again
            right = False
        if not right:
            columns = torch.stack([of_one(parameter, example) for example in inputs])
    return columns.reshape(*columns.shape[:2], -1)


def _adds_up(columns: Tensor, network: nn.Module, name: str, inputs: Tensor) -> bool:
    """Whether a weighted sum of the Jacobian over examples and classes is the gradient of that sum of the logits."""
    parameter = network.get_parameter(name).detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs: Tensor = functional_call(network, {name: parameter}, inputs)
        # No two alike, so that no exchange of examples or classes goes unseen.
        weights = torch.arange(1, outputs.numel() + 1, dtype=outputs.dtype).cos().view(outputs.shape)
        (expected,) = torch.autograd.grad(
            (outputs * weights).sum(), parameter, allow_unused=True, materialize_grads=True
        )
    found = torch.tensordot(weights, columns, dims=2)
    largest = float(columns.abs().max())
    return bool(torch.allclose(found, expected, rtol=1e-6, atol=1e-6 * largest, equal_nan=True))
