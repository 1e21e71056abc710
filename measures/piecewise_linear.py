"""What a network's graph says of its function: piecewise linear, a sum over paths; nothing is registered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from gapbench.measures.graph import FACTORS, MATRIX_PRODUCTS, VIEWS, forward_graph, is_leaf, kind, operations, source

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor, nn
    from torch.autograd.graph import Node

POSITIVE_SUMS = VIEWS | {
    "AdaptiveAvgPool2D",
    "Add",
    "AvgPool2D",
    "Cat",
    "ConstantPadNd",
    "Mean",
    "ReflectionPad2D",
    "ReplicationPad2D",
    "Stack",
    "Sum",
    "UpsampleBilinear2D",
    "UpsampleNearest2D",
}
"""Linear operations without a weight, none of whose coefficients is negative."""

MAXIMA = {"AdaptiveMaxPool2D", "MaxPool2DWithIndices"}

SWITCHING = {"Hardtanh", "LeakyRelu", "Relu"}
"""Piecewise linear units whose switches `activation_patterns` sees."""

_PIECEWISE_LINEAR = POSITIVE_SUMS | MAXIMA | SWITCHING | {"Neg", "Sub", "Threshold"}


def is_piecewise_linear(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> bool:
    """Whether each weight enters the outputs piecewise linearly, read from the graph of one forward pass.

    True where every operation is known to be piecewise linear, and every weight is used once, as the weight of a linear
    map. The graph, not the modules, is read, since an activation need not be a module. An unknown operation means no.
    """
    graph = forward_graph(network, example)
    for node in graph.nodes:
        weighted = kind(node) in MATRIX_PRODUCTS and bool(graph.weights(node))
        if not (weighted or kind(node) in _PIECEWISE_LINEAR or is_leaf(node)):
            return False
    uses = Counter(child for node in graph.nodes for child, _ in node.next_functions)
    return all(uses[node] == 1 for node in graph.nodes if source(node) in graph.parameters)


def nonlinear_operation(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> str | None:
    """An operation that keeps the outputs from being piecewise linear in the inputs, ReLU-like units and maxima aside.

    None where there is none: every operation that depends on the input is linear in it, a `SWITCHING` unit, or a
    maximum. An unknown operation counts as one that is not linear.
    """
    graph = forward_graph(network, example)
    known = POSITIVE_SUMS | MAXIMA | SWITCHING | {"Neg", "Sub", "NativeBatchNorm"}
    for node in graph.nodes:
        if node not in graph.moving or is_leaf(node) or kind(node) in known:
            continue
        multiplied = kind(node) in FACTORS and sum(factor in graph.moving for factor in graph.factors(node)) <= 1
        divided = kind(node) == "Div" and node.next_functions[1][0] not in graph.moving
        if not (multiplied or divided) or _multiplies_by_constants(node):
            return kind(node)
    return None


def _multiplies_by_constants(node: Node) -> bool:
    """Whether an elementwise product has a constant factor of several entries: a mask may come from the input."""
    saved: Any = node
    if kind(node) != "Mul" or all(child is not None for child, _ in node.next_functions):
        return False
    return any(factor is not None and factor.numel() > 1 for factor in (saved._saved_self, saved._saved_other))


def operation_off_paths(network: nn.Module, example: Float[Tensor, " 1 *shape"], *, maxima: bool) -> str | None:
    """An operation that keeps the outputs from being sums over paths of products of parameters, ReLUs aside.

    None where there is none: parameters are added, or multiply what depends on the input, themselves or as views;
    nothing else is done but sums without negative coefficients, ReLU and, if ``maxima``, max-pooling. With parameters
    and inputs that are not negative, ReLU then changes nothing.
    """
    graph = forward_graph(network, example)
    known = POSITIVE_SUMS | {"Relu"} | (MAXIMA if maxima else set())
    for node in graph.nodes:
        if kind(node) in FACTORS:
            moving = sum(factor in graph.moving for factor in graph.factors(node))
            if moving > 1 or moving + len(graph.weights(node)) != 2:
                return f"a product ({kind(node)}) other than by a parameter"
        elif kind(node) in {"Add", "Cat", "Stack"} and any(child is None for child, _ in node.next_functions):
            return f"a constant ({kind(node)})"
        elif not is_leaf(node) and (kind(node) not in known or getattr(node, "_saved_alpha", 1) != 1):
            return kind(node)
    return None


def activation_patterns(network: nn.Module, inputs: Float[Tensor, " n *shape"]) -> list[Bool[Tensor, "n ..."]]:
    """On which linear piece each `SWITCHING` unit is: one entry a boundary of an operation, module or function."""
    with torch.enable_grad():
        output: Tensor = network(inputs.detach().clone().requires_grad_())
    patterns: list[Tensor] = []
    for node in operations(output):
        saved: Any = node
        if kind(node) == "Relu":
            patterns.append(saved._saved_result > 0)
        elif kind(node) == "LeakyRelu":
            # In place, what is saved is the output, which has the sign of the input.
            patterns.append((saved._saved_self if hasattr(saved, "_saved_self") else saved._saved_result) > 0)
        elif kind(node) == "Hardtanh":
            patterns += [saved._saved_self > saved._saved_min_val, saved._saved_self < saved._saved_max_val]
    return patterns
