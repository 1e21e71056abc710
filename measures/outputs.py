"""What a network puts out on its training sample: logits, losses, margins, and what enters its last layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import Split
from gapbench.measures.layers import example_dimension, weight_calls
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, quantity

MARGIN_QUANTILE = 0.1
"""The margin of a network is this quantile of the margins of its training examples (linear interpolation)."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network, and what enters its last weight layer; None where that layer is not linear, or does not
    see a row an example."""

    logits: Float[Tensor, "examples classes"]
    last_hidden: Float[Tensor, "examples features"] | None


@quantity(cost="forward")
def outputs(evaluated: nn.Module, train: Split) -> Outputs:
    """The outputs of the network on its training examples, and what enters its last weight layer, float64."""
    return outputs_of(evaluated, train)


@quantity(cost="forward")
def logits(outputs: Outputs) -> Float[Tensor, "examples classes"]:
    """The outputs of the network on its training examples, float64, in evaluation mode."""
    return outputs.logits


@quantity(cost="forward")
def losses(logits: Tensor, train: Split) -> Float[Tensor, " examples"]:
    """The cross-entropy of each training example, in nats."""
    return cross_entropy(logits, train.labels, reduction="none")


DOUBLE_BELOW_NATS = 1e-4
"""Below this loss the rounding of a probability near 1 in float32, 6e-8, is more than a thousandth of the loss."""


@quantity(cost="forward")
def resolving_network(evaluated: nn.Module, evaluated_float32: nn.Module, losses: Tensor) -> nn.Module:
    """The network in the least precision that resolves its training loss: float32 from 1e-4 nats on, else float64."""
    return evaluated if float(losses.mean()) < DOUBLE_BELOW_NATS else evaluated_float32


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


def outputs_of(network: nn.Module, train: Split) -> Outputs:
    """The outputs of a network on a sample, in the precision of its parameters."""
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float64)
    last = _last_linear(network, train.inputs[:1].to(dtype))
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, given: seen.append(given[0])) if last else None
    rows: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for inputs, _ in batches(train, dtype=dtype):
                put_out = network(inputs)
                rows.append((put_out, seen[-1].flatten(1) if last else put_out))
                seen.clear()
    finally:
        if handle:
            handle.remove()
    found, hidden = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return Outputs(found, hidden if last else None)


def _last_linear(network: nn.Module, example: Tensor) -> nn.Linear | None:
    """The weight layer that the forward pass calls last, if it is linear and sees the examples one a row."""
    called = weight_calls(network, example)
    if not called:
        return None
    last, twice = called[-1]
    apart = example_dimension(last.input, twice.input) == 0
    return last.module if isinstance(last.module, nn.Linear) and apart else None
