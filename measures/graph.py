"""The operations of one forward pass, read from its autograd graph; mathematics only, nothing is registered.

The graph, not the modules, says what a network computes: activations, products and attention are often written as
functions in ``forward``, where no walk over modules sees them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jaxtyping import Float
    from torch import Tensor, nn
    from torch.autograd.graph import Node

# fmt: off
VIEWS = frozenset({
    "Alias", "AsStrided", "Clone", "Expand", "Flip", "Permute", "PixelShuffle", "Repeat", "ReshapeAlias", "Roll",
    "Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind", "UnsafeSplit",
    "UnsafeView", "Unsqueeze", "View",
})
# fmt: on
"""Operations that only rearrange, repeat or leave out entries."""

MATRIX_PRODUCTS = {"Addmm": (1, 2), "Mm": (0, 1), "Bmm": (0, 1), "Baddbmm": (1, 2), "Convolution": (0, 1)}
"""Linear maps, and which of their operands are multiplied; the other one, if any, is added."""

FACTORS = {**MATRIX_PRODUCTS, "Mul": (0, 1)}
"""Products, and which of their operands they multiply."""


def kind(node: Node) -> str:
    """The name of an operation: "Relu" of ReluBackward0."""
    return re.sub(r"\d*(Backward\d*)?$", "", node.name()).removeprefix("torch::autograd::")


def is_leaf(node: Node | None) -> bool:
    """Whether a node stands for a parameter or an input."""
    return node is not None and node.name() == "torch::autograd::AccumulateGrad"


def source(node: Node | None) -> Node | None:
    """The node that a chain of views starts from."""
    while node is not None and kind(node) in VIEWS:
        node = node.next_functions[0][0]
    return node


def operations(output: Tensor) -> Iterator[Node]:
    """Every node of the graph behind a tensor, once."""
    pending, seen = [output.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            pending.extend(child for child, _ in node.next_functions)


@dataclass(frozen=True)
class Graph:
    """The graph of a forward pass on one example.

    ``nodes``: all operations and leaves behind the outputs; ``parameters``: the leaves of parameters, by name;
    ``moving``: the nodes whose values depend on the input, its own leaf included.
    """

    nodes: tuple[Node, ...]
    parameters: Mapping[Node, str]
    moving: frozenset[Node]

    def factors(self, node: Node) -> list[Node | None]:
        """What a product multiplies; a constant is None."""
        operands = node.next_functions
        return [operands[place][0] for place in FACTORS[kind(node)]]

    def weights(self, node: Node) -> list[str]:
        """The parameters by which a product multiplies, themselves or views of them."""
        sources = (source(factor) for factor in self.factors(node))
        return [self.parameters[leaf] for leaf in sources if leaf is not None and leaf in self.parameters]


def forward_graph(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> Graph:
    """The graph of the outputs of a network on an example, as a function of its parameters and the example."""
    state = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    inputs = example.detach().clone().requires_grad_()
    names = {id(tensor): name for name, tensor in state.items()}
    with torch.enable_grad():
        output: Tensor = functional_call(network, state, inputs.clone())
    nodes = tuple(operations(output))
    leaves = [node for node in nodes if is_leaf(node)]
    parameters = {node: names[id(node.variable)] for node in leaves if id(node.variable) in names}  # type: ignore[attr-defined]
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for child, _ in node.next_functions:
            if child is not None:
                users.setdefault(child, []).append(node)
    pending = [node for node in leaves if node.variable is inputs]  # type: ignore[attr-defined]
    moving: set[Node] = set()
    while pending:
        node = pending.pop()
        if node not in moving:
            moving.add(node)
            pending.extend(users.get(node, []))
    return Graph(nodes, parameters, frozenset(moving))
