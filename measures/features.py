"""The last hidden layer of a network on its training sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gapbench.measures.registry import Undefined, quantity

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from gapbench.measures.outputs import Outputs


@quantity(cost="forward")
def features(outputs: Outputs) -> Float[Tensor, "examples features"]:
    """What enters the last weight layer in the order of the forward pass, one row a training example, float64.

    Raises: Undefined where the last weight layer is not linear, or does not see one row an example.
    """
    if outputs.last_hidden is None:
        raise Undefined("the last weight layer is not a linear layer with one row an example")
    return outputs.last_hidden


def covariance_eigenvalues(features: Float[Tensor, "examples features"]) -> Float[Tensor, " rank"]:
    """The eigenvalues of the covariance of features over the examples, descending, min(examples, features) of them.

    Taken from the smaller Gram matrix; what is below its rounding, N · 2.2e-16 · λ_max, is set to 0.
    """
    centred = features - features.mean(dim=0)
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    values = torch.linalg.eigvalsh(gram).flip(0) / len(features)
    floor = len(values) * torch.finfo(values.dtype).eps * values[0]
    return torch.where(values > floor, values, 0.0)
