"""The training loop: one for every architecture, optimiser and data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.datasets.errors import InputError, unknown
from gapbench.datasets.law import noisy_law_errors, noisy_law_losses
from gapbench.datasets.seeds import derive_seed, generator
from gapbench.datasets.spec import Split
from gapbench.models.augment import augmentation
from gapbench.models.build import ARCHITECTURES, Architecture, build
from gapbench.models.chain import chain
from gapbench.models.early_stopping import Best, fitted_part, held_out_part
from gapbench.models.flat import by_name, flatten
from gapbench.models.losses import Loss, loss_named
from gapbench.models.margins import SHARE_AT_MARGIN, share_at_margin
from gapbench.models.optimisers import Adam, AdamW, GatedAdamW, MomentumSGD, Optimiser, optimiser
from gapbench.models.sharpness_aware import SharpnessAware
from gapbench.models.spec import RunSpec
from gapbench.models.trained import Checkpoint, History, Outcome, TestResults, Trained, Trajectory

EXAMPLES_AT_ONCE = 2000

PRECISIONS = ("float32", "bfloat16")

CHECKPOINT_RATIO = 1.4
"""Checkpoints are taken after steps that grow by this factor: about 20 of them to 1,000 steps, dense early."""

Progress = Callable[[int, float], None]
"""Called after every epoch with its number and the training loss in nats."""


def train(
    spec: RunSpec,
    data: tuple[Split, Split],
    *,
    trajectory_epochs: Collection[int] = (),
    checkpoints: bool = False,
    progress: Progress | None = None,
    architectures: Mapping[str, Architecture] = ARCHITECTURES,
) -> tuple[Trained, Outcome, TestResults]:
    """Train the network of a spec until its training loss is at most ``stop_loss_nats``, or for ``max_epochs``.

    The loss that stops it is that of the whole training set in evaluation mode after an epoch. With ``stop_margin``
    training stops as well, and has converged only, once `SHARE_AT_MARGIN` of that set has so large a margin. Training
    also stops, without having converged, once that loss is not finite, and, with ``patience``, once the error of the
    held-out examples has not fallen for so many epochs; the network is then that of the epoch where it was lowest, and
    the history ends there. The state dict after each of ``trajectory_epochs`` is kept (epoch 0 is the initial network),
    and, with ``checkpoints``, those along the whole path. Every draw comes from generators derived from the spec's
    seeds; the global generator, which dropout uses, is seeded for the run and restored after it.
    """
    if spec.adopted:
        raise InputError(
            f"the network with weights {spec.adopted[:12]}… was trained elsewhere and cannot be trained here: adopt it "
            "again from its files"
        )
    started = time.perf_counter()
    sample, held_out, test = fitted_part(spec, data[0]), held_out_part(spec, data[0]), data[1]
    seeds = (spec.root_seed, "train", spec.seed)
    shape = tuple(sample.inputs.shape[1:])
    network = build(spec, shape, sample.classes, generator(*seeds, "initialisation"), architectures)
    initial = _copy_state(network)
    values, gradients = flatten(network)
    rule, objective = optimiser(_of_size(spec, len(sample)), values, gradients), loss_named(spec.loss)
    add_gradient = gradient(network, spec)
    augment, draws = augmentation(spec.augmentation, shape), generator(*seeds, "augmentation")
    order = generator(*seeds, "order")
    inputs = _channels_last(sample.inputs)
    curve = _Curve(network, objective, inputs, sample.labels)
    states = {0: initial} if 0 in trajectory_epochs else {}
    path = [Checkpoint(0, 0.0, initial)] if checkpoints else []
    best, end = Best(spec.patience), None
    step = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*seeds, "dropout"))
        for epoch in range(1, spec.max_epochs + 1):
            shuffled = torch.randperm(len(sample), generator=order)
            batches = torch.split(inputs[shuffled], spec.batch_size)
            batch_labels = torch.split(sample.labels[shuffled], spec.batch_size)
            network.train()
            length = opened = 0.0
            for batch, labels in zip(batches, batch_labels, strict=True):
                seen = batch if augment is None else augment(batch, draws)
                rule.before_backward()
                add_gradient(seen, labels)
                if isinstance(rule, SharpnessAware):
                    rule.ascend()
                    add_gradient(seen, labels)
                length += rule.step()
                opened += rule.gate_open if isinstance(rule, GatedAdamW) else 0.0
                step += 1
                if checkpoints and step >= CHECKPOINT_RATIO * path[-1].steps:
                    path.append(_checkpoint(step, rule, network))
            if checkpoints and epoch == 1:
                # Before, the running squares of the gradient have not seen every example; some are 0.
                scales = _preconditioner(rule, network)
                path = [replace(point, preconditioner=scales) for point in path]
            loss = curve.extend(len(batches), length, rule.step_size, opened / len(batches))
            if epoch in trajectory_epochs:
                states[epoch] = _copy_state(network)
            if progress is not None:
                progress(epoch, loss)
            if held_out is not None:
                error = _error(_outputs(network, held_out.inputs).argmax(dim=1) == held_out.labels)
                if best.improves(error):
                    best = Best(spec.patience, error, epoch, _copy_state(network))
                    end = _checkpoint(step, rule, network) if checkpoints else None
            if loss <= spec.stop_loss_nats or not math.isfinite(loss) or (held_out and best.is_over(epoch)):
                break
            if _at_margin(spec, network, sample):
                break
    seconds = time.perf_counter() - started
    history = curve.history(gated=isinstance(rule, GatedAdamW))
    if best.state is not None:
        network.load_state_dict(best.state)
        history, step = history.until(best.epoch), curve.steps[best.epoch]
        states = {epoch: state for epoch, state in states.items() if epoch <= best.epoch}
        path = [point for point in path if point.steps <= step]
    final = build(spec, shape, sample.classes, generator(*seeds, "initialisation"), architectures)
    final.load_state_dict(_copy_state(network))
    final.eval()
    if checkpoints and path[-1].steps < step:
        path.append(end or _checkpoint(step, rule, network))
    sgd = isinstance(rule, MomentumSGD)
    momentum = spec.momentum if sgd else rule.betas[0] if isinstance(rule, Adam) else 0.0
    decoupled = isinstance(rule, AdamW)
    trajectory = Trajectory(states, tuple(path), momentum, spec.weight_decay, not sgd, spec.loss, decoupled)
    trained = Trained(final, initial, sample, history, trajectory if states or path else None)
    return trained, *outcome(spec, network, test, history, seconds, at_margin=_at_margin(spec, network, sample))


def gradient(network: nn.Module, spec: RunSpec) -> Callable[[Tensor, Tensor], None]:
    """What adds the gradient of the loss of a batch (inputs, labels) to the ``grad`` of a network's parameters.

    Raises: InputError where the loss or the precision is unknown.
    """
    objective = loss_named(spec.loss)
    if spec.precision not in PRECISIONS:
        raise unknown("precision", spec.precision, PRECISIONS)
    by_hand = chain(network, spec.loss) if spec.precision == "float32" else None
    if by_hand is not None:
        return by_hand.add_gradient

    def add_gradient(inputs: Tensor, labels: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=spec.precision == "bfloat16"):
            outputs = network(inputs)
        objective.mean(outputs.float() if spec.precision == "bfloat16" else outputs, labels).backward()  # type: ignore[no-untyped-call]

    return add_gradient


class _Curve:
    """The training curve while it grows: a column for each record of `History`, an entry an epoch."""

    def __init__(self, network: nn.Module, objective: Loss, inputs: Tensor, labels: Tensor) -> None:
        self.network, self.objective, self.inputs, self.labels = network, objective, inputs, labels
        loss, self.right = _loss_and_right(network, objective, inputs, labels)
        self.steps, self.losses, self.errors = [0], [loss], [_error(self.right)]
        self.lengths, self.sizes, self.forgotten, self.gates = [0.0], [0.0], [0], [0.0]

    def extend(self, steps: int, length: float, step_size: float, gate: float) -> float:
        """Record an epoch of so many steps of that size, whose lengths add up to ``length``; its training loss."""
        before = self.right
        loss, self.right = _loss_and_right(self.network, self.objective, self.inputs, self.labels)
        self.steps.append(self.steps[-1] + steps)
        self.losses.append(loss)
        self.errors.append(_error(self.right))
        self.lengths.append(self.lengths[-1] + length)
        self.sizes.append(self.steps[-1] * step_size)
        self.forgotten.append(int((before & ~self.right).sum()))
        self.gates.append(gate)
        return loss

    def history(self, *, gated: bool) -> History:
        """The records so far; those of the gate where there is one."""
        columns = (self.steps, self.losses, self.errors, self.lengths, self.sizes, self.forgotten)
        history = History(*(torch.tensor(column, dtype=torch.float64) for column in columns))
        return replace(history, gate_open=torch.tensor(self.gates, dtype=torch.float64)) if gated else history


def _of_size(spec: RunSpec, size: int) -> RunSpec:
    """The spec as optimisers see it: with the size of the sample that they step on."""
    return replace(spec, data=replace(spec.data, train_size=size))


def judged(spec: RunSpec, network: nn.Module, data: tuple[Split, Split]) -> tuple[Outcome, TestResults]:
    """The outcome of a network that was trained elsewhere, from its errors on these samples; no epoch is counted."""
    sample, test = fitted_part(spec, data[0]), data[1]
    history = _Curve(network, loss_named(spec.loss), sample.inputs, sample.labels).history(gated=False)
    return outcome(spec, network, test, history, 0.0, at_margin=_at_margin(spec, network, sample))


def _at_margin(spec: RunSpec, network: nn.Module, sample: Split) -> bool:
    if spec.stop_margin <= 0:
        return False
    return share_at_margin(_outputs(network, sample.inputs), sample.labels, spec.stop_margin) >= SHARE_AT_MARGIN


def outcome(
    spec: RunSpec, network: nn.Module, test: Split, history: History, seconds: float, *, at_margin: bool = False
) -> tuple[Outcome, TestResults]:
    """How a run ended that has this network and training curve, and its errors and losses on the test sample.

    ``at_margin``: whether it has the margin at which its training stops.
    """
    outputs = _outputs(network, test.inputs)
    right = outputs.argmax(dim=1) == test.labels
    noise = spec.data.label_noise
    errors = noisy_law_errors(right, noise, test.classes)
    losses = noisy_law_losses(loss_named(spec.loss).by_class(outputs), test.labels, noise)
    wrong = (~right).double()
    last = float(history.loss_nats[-1])
    fitted = last <= spec.stop_loss_nats or (spec.stop_loss_nats == 0 and math.isfinite(last))
    ended = Outcome(
        train_error=float(history.error[-1]),
        test_error=float(errors.mean()),
        test_error_standard_error=_standard_error(errors),
        clean_test_error=float(wrong.mean()),
        clean_test_error_standard_error=_standard_error(wrong),
        train_loss_nats=last,
        test_loss_nats=float(losses.mean()),
        test_loss_standard_error=_standard_error(losses),
        test_size=len(test),
        epochs=len(history.steps) - 1,
        steps=int(history.steps[-1]),
        converged=at_margin if spec.stop_margin > 0 else fitted,
        seconds=seconds,
    )
    return ended, TestResults(errors.float(), losses.float())


def _standard_error(values: Float[Tensor, " n"]) -> float:
    return float(values.std() / math.sqrt(len(values)))


def _loss_and_right(network: nn.Module, objective: Loss, inputs: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    outputs = _outputs(network, inputs)
    return float(objective.mean(outputs, labels)), outputs.argmax(dim=1) == labels


def _error(right: Tensor) -> float:
    return float((~right).double().mean())


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in torch.split(_channels_last(inputs), EXAMPLES_AT_ONCE)]).double()


def _channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _checkpoint(step: int, rule: Optimiser, network: nn.Module) -> Checkpoint:
    return Checkpoint(step, step * rule.step_size, _copy_state(network), _preconditioner(rule, network))


def _preconditioner(rule: Optimiser, network: nn.Module) -> Mapping[str, Tensor] | None:
    return by_name(network, rule.preconditioner()) if isinstance(rule, Adam) else None


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
