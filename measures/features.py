"""The features of a network: what its last linear layer sees."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.layers import trace
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, quantity


@quantity(cost="forward")
def features(folded: nn.Module, train: Split) -> Float[Tensor, "examples features"]:
    """The inputs of the last linear layer on the training examples, float64, in evaluation mode.

    Raises: Undefined where the network has no linear layer.
    """
    with torch.no_grad():
        calls = trace(folded, train.inputs[:1].double())
        linear = [call.module for call in calls if isinstance(call.module, nn.Linear)]
        if not linear:
            raise Undefined("the network has no linear layer")
        seen: list[Tensor] = []
        handle = linear[-1].register_forward_pre_hook(lambda module, given: seen.append(given[0].flatten(1)))
        try:
            for inputs, _ in batches(train):
                folded(inputs)
        finally:
            handle.remove()
    return torch.cat(seen)
