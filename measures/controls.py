"""Controls: readings that are not complexity measures and set the scale for those that are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.datasets.spec import Split
from gapbench.measures.registry import Undefined, measure
from gapbench.models.trained import History


@measure(source="unpublished", sign=+1, control=True)
def coin(rng: torch.Generator) -> float:
    """A uniform draw from [0, 1): what chance scores.

    Raises: nothing. Sign: arbitrary.
    """
    return float(torch.rand((), generator=rng, dtype=torch.float64))


@measure(
    source="unpublished", sign=-1, control=True, invariances=("rescaling", "unit_permutation", "example_permutation")
)
def train_error(logits: Float[Tensor, "examples classes"], train: Split) -> float:
    """The fraction of training examples that the network gets wrong, in evaluation mode.

    Raises: nothing. Sign: errors left on the training sample are subtracted from the gap.
    """
    return float((logits.argmax(dim=1) != train.labels).double().mean())


@measure(
    source="unpublished", sign=-1, control=True, invariances=("rescaling", "unit_permutation", "example_permutation")
)
def train_loss(losses: Float[Tensor, " examples"]) -> float:
    """The mean cross-entropy of the training sample, in nats, in evaluation mode.

    Raises: nothing. Sign: loss left on the training sample was not memorised.
    """
    return float(losses.mean())


@measure(source="unpublished", sign=+1, control=True, invariances=("unit_permutation", "example_permutation"))
def epochs_trained(history: History) -> float:
    """The number of epochs of training.

    Raises: nothing. Sign: longer training fits the sample more closely.
    """
    return float(len(history.steps) - 1)


@measure(source="arXiv:2605.01172", sign=+1, control=True, invariances=("unit_permutation", "example_permutation"))
def loss_dissipated(history: History) -> float:
    """The fraction of the initial training loss that training removed, after Litman & Guo.

    Formula: 1 − Φ_T/Φ_0, Φ the mean cross-entropy in nats. For squared loss this is one minus the residual-weighted
    strict reservoir mass gᵀW_S g / ((n/2)‖g‖²): training loss in disguise, which is why it is a control. Derived, not
    read in the paper.
    Raises: Undefined where the initial loss is zero. Sign: as for `train_loss`, loss removed was fitted.
    """
    first, last = float(history.loss_nats[0]), float(history.loss_nats[-1])
    if first == 0:
        raise Undefined("the initial training loss is zero")
    return 1 - last / first
