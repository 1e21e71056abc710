"""Whether a network is piecewise linear in each of its weights, read from its graph; nothing is registered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn
    from torch.autograd.graph import Node

_WEIGHT_MAPS = {"AddmmBackward0", "MmBackward0", "ConvolutionBackward0"}

_PIECEWISE_LINEAR = {
    "AdaptiveAvgPool2DBackward0",
    "AdaptiveMaxPool2DBackward0",
    "AddBackward0",
    "AvgPool2DBackward0",
    "CatBackward0",
    "CloneBackward0",
    "ConstantPadNdBackward0",
    "ExpandBackward0",
    "HardtanhBackward0",
    "LeakyReluBackward0",
    "MaxPool2DWithIndicesBackward0",
    "MeanBackward1",
    "NegBackward0",
    "PermuteBackward0",
    "ReluBackward0",
    "SliceBackward0",
    "SqueezeBackward1",
    "SubBackward0",
    "SumBackward1",
    "TBackward0",
    "ThresholdBackward0",
    "TransposeBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
}


def is_piecewise_linear(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> bool:
    """Whether each weight enters the outputs piecewise linearly, read from the graph of one forward pass.

    True where every operation is known to be piecewise linear, and every weight is used once, as the weight of a linear
    map. The graph, not the modules, is read, since an activation need not be a module. An unknown operation means no.
    """
    state = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    with torch.enable_grad():
        root = functional_call(network, state, example).grad_fn
    if root is None:
        return False
    uses: Counter[Node] = Counter()
    pending: list[Node] = [root]
    while pending:
        node = pending.pop()
        children = [child for child, _ in node.next_functions if child is not None]
        if node.name() in _WEIGHT_MAPS:
            if not _is_weight(node.next_functions[2 if node.name() == "AddmmBackward0" else 1][0]):
                return False
        elif node.name() not in _PIECEWISE_LINEAR and not _is_leaf(node):
            return False
        pending.extend(child for child in children if uses[child] == 0)
        uses.update(children)
    return all(count == 1 for node, count in uses.items() if _is_weight(node))


def _is_leaf(node: Node) -> bool:
    return node.name() == "torch::autograd::AccumulateGrad"


def _is_weight(node: Node | None) -> bool:
    if node is not None and node.name() == "TBackward0":
        node = node.next_functions[0][0]
    return node is not None and _is_leaf(node)
