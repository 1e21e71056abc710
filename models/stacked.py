"""Many runs of one shape trained together: one step of the stack is a few operations for all of them.

A GPU's small operations cost their launch whatever their size; a stack of K runs launches them once for all K. On a CPU
it removes little and makes convolutions slower, so there runs are trained one at a time (`models.train`). Each run
draws its own randomness as it does alone, so a stack changes results by rounding only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gapbench.datasets.errors import InputError
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.models.build import ARCHITECTURES, build
from gapbench.models.losses import loss_named
from gapbench.models.optimisers import Adam
from gapbench.models.spec import RunSpec
from gapbench.models.train import outcome
from gapbench.models.trained import History, Outcome, TestResults, Trained, Trajectory

OPTIMISERS = ("sgd", "adam", "adamw")
OWN_FIELDS = ("learning_rate", "momentum", "weight_decay", "stop_loss_nats", "max_epochs", "seed", "root_seed",
              "initial_scale", "output_scale", "data")  # fmt: skip
"""What may differ within a stack."""
ROWS_AT_ONCE = 65_536
"""Examples, over all runs, of one evaluation pass."""

Result = tuple[Trained, Outcome, TestResults]
State = dict[str, Tensor]


def stackable(spec: RunSpec) -> bool:
    """Whether a run can be trained in a stack: no draws within a step, no statistics of a batch, a known optimiser."""
    return (
        spec.architecture in ARCHITECTURES
        and spec.optimiser in OPTIMISERS
        and spec.norm != "batch"
        and spec.dropout == 0
        and spec.augmentation == "none"
        and spec.patience == 0
        and spec.stop_margin == 0
        and spec.precision == "float32"
        and not spec.adopted
    )


def stack_key(spec: RunSpec) -> Hashable:
    """Runs with equal keys, on samples of one size and shape, can share a stack."""
    alike = {field.name: getattr(spec, field.name) for field in fields(RunSpec) if field.name not in OWN_FIELDS}
    data = spec.data
    return (*alike.items(), data.name, data.path, data.train_size, data.dimension, data.classes)


@dataclass
class _Member:
    """One run of a stack: its place among the runs asked for, and its curve so far."""

    place: int
    spec: RunSpec
    order: torch.Generator
    initial: State
    steps: list[int]
    losses: list[float]
    errors: list[float]
    lengths: list[float]
    forgotten: list[int]
    states: dict[int, State]

    def history(self) -> History:
        size = self.spec.learning_rate / (1 - self.spec.momentum if self.spec.optimiser == "sgd" else 1)
        columns = (self.steps, self.losses, self.errors, self.lengths, [n * size for n in self.steps], self.forgotten)
        return History(*(torch.tensor(column, dtype=torch.float64) for column in columns))

    def is_done(self) -> bool:
        loss = self.losses[-1]
        at_end = len(self.losses) > self.spec.max_epochs
        return at_end or not math.isfinite(loss) or (len(self.losses) > 1 and loss <= self.spec.stop_loss_nats)


class _Stack:
    """The runs of a stack that still train: their parameters, gradients' means and samples, a row each."""

    def __init__(self, members: list[_Member], samples: Sequence[Split], skeleton: nn.Module, device: str) -> None:
        self.members, self.skeleton = members, skeleton.to(device)
        first = members[0].spec
        self.objective, self.rule, self.batch = loss_named(first.loss), first.optimiser, first.batch_size
        self.parameters = {
            name: torch.stack([member.initial[name] for member in members]).to(device) for name in members[0].initial
        }
        self.velocity = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.squares = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        shared = all(sample.inputs.equal(samples[0].inputs) for sample in samples[1:])
        inputs = samples[0].inputs[None] if shared else torch.stack([sample.inputs for sample in samples])
        self.inputs = inputs.to(device)
        self.labels = torch.stack([sample.labels for sample in samples]).to(device)
        self.right = torch.zeros(len(members), samples[0].labels.shape[0], dtype=torch.bool, device=device)
        self.steps = 0

    def outputs(self, parameters: State, inputs: Tensor) -> Tensor:
        found: Tensor = functional_call(self.skeleton, parameters, (inputs,))
        return found

    def rows(self) -> Tensor:
        """Of each run, which rows of ``inputs`` are its sample: all share the first where there is only one."""
        count = torch.arange(len(self.members), device=self.labels.device)
        return torch.zeros_like(count) if len(self.inputs) == 1 else count

    def train_epoch(self) -> list[float]:
        """One pass over every run's sample in its own order; the length of each run's path."""
        count = self.labels.shape[1]
        orders = torch.stack([torch.randperm(count, generator=member.order) for member in self.members])
        orders = orders.to(self.labels.device)
        slopes = vmap(grad(self._loss))
        lengths = torch.zeros(len(self.members), device=self.labels.device)
        for chosen in torch.split(orders, self.batch, dim=1):
            batch = self.inputs[self.rows()[:, None], chosen]
            gradients = slopes(self.parameters, batch, self.labels.gather(1, chosen))
            lengths += self._step(gradients)
        return lengths.tolist()

    def _loss(self, parameters: State, inputs: Tensor, labels: Tensor) -> Tensor:
        return self.objective.mean(self.outputs(parameters, inputs), labels)

    def _own(self, field: str, like: Tensor) -> Tensor:
        """A field of each run's spec, to be multiplied with the rows of a tensor."""
        values = torch.tensor([getattr(member.spec, field) for member in self.members], device=like.device)
        return values.view(-1, *[1] * (like.ndim - 1)).to(like.dtype)

    def _step(self, gradients: State) -> Tensor:
        """One step of every run; its length, a decoupled decay left out."""
        self.steps += 1
        squared = torch.zeros(len(self.members), device=self.labels.device)
        for name, value in self.parameters.items():
            moved = self._sgd(name, gradients[name]) if self.rule == "sgd" else self._adam(name, gradients[name])
            value.sub_(moved)
            squared += moved.flatten(1).square().sum(dim=1)
        return squared.sqrt()

    def _sgd(self, name: str, gradient: Tensor) -> Tensor:
        value, velocity = self.parameters[name], self.velocity[name]
        decayed = gradient + self._own("weight_decay", value) * value
        velocity.mul_(self._own("momentum", value)).add_(decayed)
        return self._own("learning_rate", value) * velocity

    def _adam(self, name: str, gradient: Tensor) -> Tensor:
        value, mean, square = self.parameters[name], self.velocity[name], self.squares[name]
        decay, rate = self._own("weight_decay", value), self._own("learning_rate", value)
        if self.rule == "adamw":
            value.mul_(1 - rate * decay)
        else:
            gradient = gradient + decay * value
        first, second = Adam.betas
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (square / (1 - second**self.steps)).sqrt_().add_(Adam.epsilon)
        return rate / (1 - first**self.steps) * mean / scale

    def judge(self) -> tuple[list[float], Tensor]:
        """The loss of each run's whole sample, and which examples are right."""
        count = self.labels.shape[1]
        size = max(1, ROWS_AT_ONCE // len(self.members))
        parts = []
        with torch.no_grad():
            for start in range(0, count, size):
                piece = self.inputs[self.rows(), start : start + size]
                parts.append(vmap(self.outputs)(self.parameters, piece).double())
        outputs = torch.cat(parts, dim=1)
        losses = [float(self.objective.mean(one, labels)) for one, labels in zip(outputs, self.labels, strict=True)]
        return losses, outputs.argmax(dim=2) == self.labels

    def record(self, steps: int, lengths: list[float], trajectory_epochs: Collection[int]) -> None:
        """Extend every run's curve by an epoch."""
        losses, right = self.judge()
        forgotten = (self.right & ~right).sum(dim=1).tolist()
        errors = (~right).double().mean(dim=1).tolist()
        for row, member in enumerate(self.members):
            member.steps.append((member.steps[-1] if member.steps else 0) + steps)
            member.losses.append(losses[row])
            member.errors.append(errors[row])
            member.lengths.append((member.lengths[-1] if member.lengths else 0.0) + lengths[row])
            member.forgotten.append(forgotten[row])
            if len(member.losses) - 1 in trajectory_epochs:
                member.states[len(member.losses) - 1] = self.state(row)
        self.right = right

    def state(self, row: int) -> State:
        """The state dict of a run."""
        return {name: value[row].detach().cpu().clone().contiguous() for name, value in self.parameters.items()}

    def keep(self, rows: list[int]) -> None:
        """Go on with these runs only."""
        chosen = torch.tensor(rows, dtype=torch.long, device=self.labels.device)
        for states in (self.parameters, self.velocity, self.squares):
            for name in states:
                states[name] = states[name][chosen]
        self.labels, self.right = self.labels[chosen], self.right[chosen]
        if len(self.inputs) > 1:
            self.inputs = self.inputs[chosen]
        self.members = [self.members[row] for row in rows]


def train_stack(
    specs: Sequence[RunSpec],
    data: Sequence[tuple[Split, Split]],
    *,
    trajectory_epochs: Collection[int] = (),
    device: str = "cuda",
) -> list[Result]:
    """Train these runs together on ``device``; what `models.train.train` gives, for each, up to rounding.

    A run that has reached its loss leaves the stack. Its ``seconds`` are the stack's, shared out by epochs.
    Raises: InputError where a run cannot be stacked, or two differ in more than `OWN_FIELDS`.
    """
    for spec in specs:
        if not stackable(spec) or stack_key(spec) != stack_key(specs[0]):
            raise InputError(f"run {spec} cannot be in a stack with {specs[0]}")
    started = time.perf_counter()
    samples = [sample for sample, _ in data]
    shape, classes = tuple(samples[0].inputs.shape[1:]), samples[0].classes
    members = [_member(place, spec, shape, classes) for place, spec in enumerate(specs)]
    skeleton = build(specs[0], shape, classes, generator(0))
    stack = _Stack(list(members), samples, skeleton, device)
    finished: dict[int, State] = {}
    stack.record(0, [0.0] * len(members), trajectory_epochs)
    steps = math.ceil(len(samples[0]) / specs[0].batch_size)
    while stack.members:
        stack.record(steps, stack.train_epoch(), trajectory_epochs)
        done = [row for row, member in enumerate(stack.members) if member.is_done()]
        for row in done:
            finished[stack.members[row].place] = stack.state(row)
        if done:
            stack.keep([row for row in range(len(stack.members)) if row not in done])
    seconds = time.perf_counter() - started
    epochs = sum(len(member.losses) - 1 for member in members)
    return [
        _result(member, finished[member.place], data[member.place], seconds * (len(member.losses) - 1) / epochs)
        for member in members
    ]


def _member(place: int, spec: RunSpec, shape: tuple[int, ...], classes: int) -> _Member:
    seeds = (spec.root_seed, "train", spec.seed)
    network = build(spec, shape, classes, generator(*seeds, "initialisation"))
    initial = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return _Member(place, spec, generator(*seeds, "order"), initial, [], [], [], [], [], {})


def _result(member: _Member, state: State, data: tuple[Split, Split], seconds: float) -> Result:
    spec, (sample, test) = member.spec, data
    network = build(spec, tuple(sample.inputs.shape[1:]), sample.classes, generator(0))
    network.load_state_dict(state)
    network.eval()
    history = member.history()
    sgd = spec.optimiser == "sgd"
    trajectory = Trajectory(member.states, (), spec.momentum if sgd else 0.0, spec.weight_decay, not sgd, spec.loss)
    trained = Trained(network, member.initial, sample, history, trajectory if member.states else None)
    return trained, *outcome(spec, network, test, history, seconds)
