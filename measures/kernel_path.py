"""The tangent kernel along the training path, on a fixed subsample, and what else moves the outputs there."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.utils.parametrize import is_parametrized

from gapbench.datasets.spec import Split
from gapbench.measures.functional import functional_logits
from gapbench.measures.layers import has_batch_norm, with_state
from gapbench.measures.registry import Undefined, quantity
from gapbench.measures.replay import Leg
from gapbench.measures.standard_form import standard_form
from gapbench.measures.tangent import tangent_kernel
from gapbench.models.losses import LOSSES
from gapbench.models.trained import Checkpoint, Trajectory

PATH_EXAMPLES = 100
"""The kernel is followed on this many training examples, the first ones: the order of a sample is a permutation."""


@dataclass(frozen=True)
class Point:
    """A checkpoint seen from output space, on the first n examples with p outputs, float64.

    ``steps`` and ``time`` (Σ η) so far; ``outputs`` (n, p); ``kernel`` (N, N), N = n·p; ``others`` and ``decay``
    (n, p): by how much descent on the rest of the sample, and weight decay, move the outputs in a unit of time.
    """

    steps: int
    time: float
    outputs: Float[Tensor, "n p"]
    kernel: Float[Tensor, "N N"]
    others: Float[Tensor, "n p"]
    decay: Float[Tensor, "n p"]


@dataclass(frozen=True)
class Place:
    """A checkpoint seen from weight space, float64.

    ``network``: in `standard_form`, its parameters flat in ``weights``; ``scales``: the preconditioner M by their
    names, where there is one; ``rest``: M ∇L_rest, the loss of all but the first examples; ``fading``: the rate of
    weight decay, λ, or λ M where it is part of a preconditioned gradient.
    """

    checkpoint: Checkpoint
    network: nn.Module
    weights: Float[Tensor, " P"]
    scales: Mapping[str, Tensor] | None
    rest: Float[Tensor, " P"]
    fading: Float[Tensor, " P"] | float

    def scaled(self, gradient: Float[Tensor, "... P"]) -> Float[Tensor, "... P"]:
        """M times a gradient."""
        if self.scales is None:
            return gradient
        return gradient * torch.cat([scale.flatten() for scale in self.scales.values()])


def places_along(network: nn.Module, trajectory: Trajectory, train: Split, examples: int) -> Iterator[Place]:
    """The checkpoints of a path seen from weight space. Raises: as `points_along`."""
    if not trajectory.checkpoints:
        raise Undefined(
            "no checkpoints were kept along the path (trajectory.checkpoints = true in the grid keeps them)"
        )
    if trajectory.preconditioned and any(point.preconditioner is None for point in trajectory.checkpoints):
        raise Undefined("the steps were not along the gradient, and what they were scaled by was not kept on the path")
    if has_batch_norm(network):
        raise Undefined("in training, batch norm couples the examples of a batch: the path follows no kernel of theirs")
    if any(is_parametrized(module) for module in network.modules()):
        raise Undefined("weights that are made of other parameters are measured as they are, and were not trained so")
    inputs, labels, mean_loss = train.inputs.double(), train.labels, LOSSES[trajectory.loss].mean
    for checkpoint in trajectory.checkpoints:
        there = standard_form(with_state(network, checkpoint.state), inputs[:1])
        weights = torch.cat([parameter.detach().flatten() for parameter in there.parameters()])
        preconditioner = checkpoint.preconditioner
        scales = None if preconditioner is None else _scales(network, preconditioner, inputs[:1])
        place = Place(checkpoint, there, weights, scales, torch.zeros_like(weights), trajectory.weight_decay)
        if len(train) > examples:
            at = weights.clone().requires_grad_()
            loss = mean_loss(functional_logits(there, at, inputs[examples:]), labels[examples:])
            gradient = torch.autograd.grad(loss, at)[0] * (1 - examples / len(train))
            place = replace(place, rest=place.scaled(gradient))
        if trajectory.weight_decay and not trajectory.decoupled:
            place = replace(place, fading=place.scaled(torch.full_like(weights, trajectory.weight_decay)))
        yield place


def points_along(network: nn.Module, trajectory: Trajectory, train: Split, examples: int) -> Iterator[Point]:
    """The checkpoints of a path seen from output space, one kernel in memory at a time.

    The parameters are those that were trained, batch norm not folded. Formula: with the mean training loss
    split into the first n examples and the rest, ``others`` = −J ∇L_rest and ``decay`` = −λ J w, one product of the
    Jacobian each. Of a path of Adam's steps, or of other rules with a preconditioner M, diagonal, K = J M Jᵀ and
    ``others`` = −J M ∇L_rest; ``decay`` = −λ J M w where λ w is part of the gradient, not where it is decoupled. M is
    the checkpoint's `preconditioner`.
    Raises: Undefined where no checkpoints were kept, there is batch norm (whose gradient in training couples the
    examples of a batch; with its running statistics held, kernels leave residuals ε of .7 and more), the weights are
    parametrised, or the steps were not along the gradient and no preconditioner was kept.
    """
    near = train.inputs[:examples].double()
    for place in places_along(network, trajectory, train, examples):
        weights, there = place.weights, place.network

        def outputs_at(flat: Tensor, there: nn.Module = there) -> Tensor:
            return functional_logits(there, flat, near)

        with torch.no_grad():
            outputs, others = _pushed(outputs_at, weights, -place.rest)
            decay = torch.zeros_like(outputs)
            if trajectory.weight_decay:
                decay = _pushed(outputs_at, weights, -place.fading * weights)[1]
        kernel = tangent_kernel(there, near, place.scales)
        yield Point(place.checkpoint.steps, place.checkpoint.step_size, outputs, kernel, others, decay)


def _pushed(function: Callable[[Tensor], Tensor], point: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """The value of a function and its derivative along a direction."""
    with warnings.catch_warnings():
        # What PyTorch loads for its first forward derivative warns users of PyTorch's own use of its compiler.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is", category=FutureWarning)
        found = jvp(function, (point,), (along,))
    return found[0], found[1]


def _scales(network: nn.Module, preconditioner: Mapping[str, Tensor], example: Tensor) -> dict[str, Tensor]:
    """The preconditioner by the parameters of the `standard_form`, which may cut them; 0 where one was not trained."""
    carrier = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in carrier.named_parameters():
            parameter.copy_(preconditioner.get(name, torch.zeros_like(parameter)))
    return {name: scale.detach() for name, scale in standard_form(carrier, example).named_parameters()}


def legs_between(points: Iterable[Point]) -> Iterator[Leg]:
    """The legs between neighbouring points, each with the mean of what its ends have, and the outputs at its end."""
    for a, b in itertools.pairwise(points):
        means = ((x + y) / 2 for x, y in ((a.kernel, b.kernel), (a.others, b.others), (a.decay, b.decay)))
        kernel, others, decay = means
        yield Leg(kernel, b.time - a.time, b.steps - a.steps, others, decay, b.outputs)


@quantity(large=True, cost="gradient")
def kernel_path(network: nn.Module, trajectory: Trajectory, train: Split) -> tuple[Point, ...]:
    """The checkpoints of training seen from output space, on the first 100 training examples (see `points_along`)."""
    return tuple(points_along(network, trajectory, train, min(PATH_EXAMPLES, len(train))))
