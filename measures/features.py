"""The last hidden layer of a network on its training sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from gapbench.measures.layers import Weighted, trace
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, quantity

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from gapbench.datasets.spec import Split


@quantity(cost="forward")
def features(evaluated: nn.Module, train: Split) -> Float[Tensor, "examples features"]:
    """What enters the last weight layer in the order of the forward pass, one row a training example, float64.

    Raises: Undefined where the last weight layer is not linear.
    """
    with torch.no_grad():
        calls = trace(evaluated, train.inputs[:1].double())
    weighted = [call for call in calls if isinstance(call.module, Weighted)]
    if not weighted or not isinstance(weighted[-1].module, nn.Linear):
        raise Undefined("the last weight layer is not a linear layer")
    last = weighted[-1].module
    rows: list[Tensor] = []
    for inputs, _ in batches(train):
        seen: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].flatten(1)))
        try:
            with torch.no_grad():
                evaluated(inputs)
        finally:
            handle.remove()
        rows.append(seen[-1])
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
