"""The weights that training without some of its examples would have had, from its replay in output space."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.functional import functional_logits
from gapbench.measures.held_out import HeldOut, losses
from gapbench.measures.kernel_path import Place, places_along
from gapbench.measures.registry import Estimate, measure, quantity
from gapbench.measures.reservoir import SOURCE, mean_estimate
from gapbench.models.trained import Trajectory


def read_from_weights(found: HeldOut, network: nn.Module, trajectory: Trajectory, train: Split) -> HeldOut:
    """The outputs held out by a replay as the network itself has them, at the weights that its steps would have led to.

    Formula: U_i = f(x_i; w(T) + δ), δ = −∫ M Jᵀ Δs dτ − ∫ M ∇L_rest k/(m−k) dτ along the path, Δs what leaving the
    fold of i out, k examples of m, changes in the output gradients that are followed; by trapezia between checkpoints,
    the last term without the lag of the momentum. The replay takes the network to be linear in δ. As in the replay,
    weight decay acts on the weights that training had, and not on δ.
    """
    assert found.left_out is not None
    examples = len(found.left_out)
    out = found.left_out.sum(dim=0)
    share = (out / (len(train) - out)).unsqueeze(1)
    inputs = train.inputs[:examples].double()
    ends: list[Tensor | float] = [0.0, *found.impulses, 0.0]
    times = [point.step_size for point in trajectory.checkpoints]
    spans = [0.0, *(b - a for a, b in itertools.pairwise(times)), 0.0]
    change: Tensor | float = 0.0
    for at, place in enumerate(places_along(network, trajectory, train, examples)):
        impulse, time = (ends[at] + ends[at + 1]) / 2, (spans[at] + spans[at + 1]) / 2
        assert isinstance(impulse, Tensor)
        step = place.scaled(_pulled_back(place, inputs, impulse)) + time * share * place.rest
        change = change - step
    assert isinstance(change, Tensor)
    return replace(found, held_out=_outputs(place, inputs, change, found.left_out))


def _pulled_back(place: Place, inputs: Tensor, impulse: Float[Tensor, "n p folds"]) -> Float[Tensor, "folds P"]:
    """Jᵀ s for each fold."""
    at = place.weights.clone().requires_grad_()
    outputs = functional_logits(place.network, at, inputs)
    totals = [(outputs * part).sum() for part in impulse.unbind(dim=2)]
    return torch.stack([torch.autograd.grad(total, at, retain_graph=True)[0] for total in totals])


def _outputs(place: Place, inputs: Tensor, changes: Sequence[Tensor] | Tensor, left_out: Tensor) -> Tensor:
    with torch.no_grad():
        found = [
            functional_logits(place.network, place.weights + change, inputs[fold == 1])
            for change, fold in zip(changes, left_out.T, strict=True)
        ]
    held_out = torch.empty_like(torch.cat(found))
    for outputs, fold in zip(found, left_out.T, strict=True):
        held_out[fold == 1] = outputs
    return held_out


@quantity(cost="iterative")
def path_weights_held_out(
    path_held_out: Callable[[int], HeldOut], network: nn.Module, trajectory: Trajectory, train: Split
) -> Callable[[int], HeldOut]:
    """`path_held_out`, read from the network at the weights that its steps would have led to."""

    @functools.cache
    def of(count: int) -> HeldOut:
        return read_from_weights(path_held_out(count), network, trajectory, train)

    return of


@measure(source=SOURCE, sign=+1, cost="iterative", revision=2, invariances=("unit_permutation",))
def path_weights_loo_gap(
    path_weights_held_out: Callable[[int], HeldOut],
    path_validity: float,
    trajectory: Trajectory,
    train: Split,
    *,
    folds: int = 0,
) -> Estimate:
    """`path_loo_gap`, its left-out outputs read from the network at the weights that the replay leads to.

    Formula: as there, with U_i^{−f} = f(x_i; w(T) + δ^{−f}), δ^{−f} = −∫ M Jᵀ(s^{−f} − s) dτ, s the output gradients
    that the replay follows (`read_from_weights`); the replay itself is f linearised in δ. In the unit of the loss.
    Raises: Undefined where the path cannot be followed or is not explained by its kernels. Sign: it estimates the gap.
    """
    found = path_weights_held_out(folds)
    labels = train.labels[: len(found.trained)]
    after, before = (losses(outputs, labels, trajectory.loss) for outputs in (found.held_out, found.trained))
    return mean_estimate(after - before)
