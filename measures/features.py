"""Features: what enters the last weight layer of a network on its training sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from gapbench.measures.layers import trace
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, quantity

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from gapbench.datasets.spec import Split


@quantity(cost="forward")
def features(folded: nn.Module, train: Split) -> Float[Tensor, "examples features"]:
    """What enters the last linear layer, in the order of the forward pass, for each training example, float64.

    One row an example; a layer that works at several positions of an example has its inputs in one row.
    Raises: Undefined where no module of the network is a linear layer.
    """
    with torch.no_grad():
        calls = trace(folded, train.inputs[:1].double())
        last = next((call.module for call in reversed(calls) if isinstance(call.module, nn.Linear)), None)
        if last is None:
            raise Undefined("the network has no linear layer, whose inputs would be its features")
        seen: list[Tensor] = []

        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen.append(given[0].flatten(1))

        handle = last.register_forward_pre_hook(hook)
        rows: list[Tensor] = []
        try:
            for inputs, _ in batches(train):
                seen.clear()  # a layer that is used more than once counts by its last use
                folded(inputs)
                rows.append(seen[-1])
        finally:
            handle.remove()
    return torch.cat(rows)


def covariance_eigenvalues(features: Float[Tensor, "examples features"]) -> Float[Tensor, " rank"]:
    """The eigenvalues of the covariance of features over the examples, descending, min(examples, features) of them.

    Taken from the smaller Gram matrix; what is below its rounding, N · 2.2e-16 · λ_max, is set to 0.
    """
    centred = features - features.mean(dim=0)
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    values = torch.linalg.eigvalsh(gram).flip(0) / len(features)
    floor = len(values) * torch.finfo(values.dtype).eps * values[0]
    return torch.where(values > floor, values, 0.0)
