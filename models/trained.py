"""What training leaves behind: `Trained` (what a measure may see), `Outcome` (what it may not), `Trajectory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split


@dataclass(frozen=True)
class History:
    """The training curve, one entry an epoch, entry 0 being the initial network. It is stored with every run.

    ``steps``: optimiser steps taken so far; ``loss_nats`` and ``error``: mean loss (cross-entropy in nats, or the
    squared loss that a run was trained on) and error of the whole training set in evaluation mode; all of shape
    (epochs + 1,), float64. So are the records of the path, `None` where
    the run was stored without them: ``path_length``: Σ‖w_{t+1} − w_t‖₂ over the steps so far, w all parameters, from
    norms in float32; ``step_size``: the sum of the effective step sizes so far, η/(1 − momentum) a step of SGD with
    heavy-ball momentum, η a step of Adam; ``forgotten``: how many training examples were right after the previous
    epoch and are wrong after this one, in evaluation mode. ``gate_open``: of a run with gated steps, the mean over the
    parameters and the epoch's steps of the factor q on a step (see `models.optimisers.GatedAdamW`).
    """

    steps: Float[Tensor, " epochs"]
    loss_nats: Float[Tensor, " epochs"]
    error: Float[Tensor, " epochs"]
    path_length: Float[Tensor, " epochs"] | None = None
    step_size: Float[Tensor, " epochs"] | None = None
    forgotten: Float[Tensor, " epochs"] | None = None
    gate_open: Float[Tensor, " epochs"] | None = None

    def until(self, epoch: int) -> History:
        """The curve up to and including an epoch."""
        kept = {f.name: column[: epoch + 1] for f in fields(self) if (column := getattr(self, f.name)) is not None}
        return replace(self, **kept)


@dataclass(frozen=True)
class Checkpoint:
    """A point of the training path: the state dict after ``steps`` steps, whose effective sizes add up to
    ``step_size`` (see `History`).

    ``preconditioner``: of steps that are not along the gradient but along its running mean times a positive factor a
    parameter, the factors of the last step before the point, by the parameters' names: 1/(√ŝ + ε) for Adam. Of points
    in the first epoch, those at its end: only then has the running mean ŝ seen every example.
    """

    steps: int
    step_size: float
    state: Mapping[str, Tensor]
    preconditioner: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Trajectory:
    """Parameters and buffers along the training path.

    ``states[e]`` is the state dict after epoch e. ``checkpoints``: the initial network, then steps that grow by
    `models.train.CHECKPOINT_RATIO`, then the end; empty where they were not asked for. ``momentum`` and
    ``weight_decay`` are β and λ of the steps v ← βv + g + λw, w ← w − ηv; ``preconditioned`` says that the steps are
    not along the gradient: those of Adam are along M v/(1−βᵗ), v ← βv + (1−β)g with its β₁ for β, where checkpoints
    have their `Checkpoint.preconditioner` M. ``decoupled`` says that λw is not part of g but ηλw of the step itself
    (AdamW). ``loss`` names the loss (`models.losses`).
    """

    states: Mapping[int, Mapping[str, Tensor]]
    checkpoints: tuple[Checkpoint, ...] = ()
    momentum: float = 0.0
    weight_decay: float = 0.0
    preconditioned: bool = False
    loss: str = "cross_entropy"
    decoupled: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained network and all that a complexity measure may look at: no test data, no gap, no spec.

    ``network`` is in evaluation mode; ``initial`` is its state dict before training, empty where
    that is not known; ``train`` is the sample it was
    trained on, with the labels it was trained on. Second runs: ``seed_twins`` have the same recipe and sample and other
    seeds; ``random_label_twin`` has the same recipe, seed and inputs and labels drawn at random (for a run on random
    labels, it is that run). ``unlabelled_test_inputs`` are for measures that declare that they use them.
    """

    network: nn.Module
    initial: Mapping[str, Tensor]
    train: Split
    history: History | None = None
    trajectory: Trajectory | None = None
    seed_twins: tuple[Trained, ...] | None = None
    random_label_twin: Trained | None = None
    unlabelled_test_inputs: Float[Tensor, " n *shape"] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Errors are fractions, losses are in nats.

    ``test_error`` and ``test_loss_nats`` are under the training law: with label noise p over C classes a test example
    has error p(C-1)/C where the prediction is right and 1 - p/C where it is wrong. ``clean_test_error`` is against
    the true labels. Standard errors are those of the mean over the test sample.
    """

    train_error: float
    test_error: float
    test_error_standard_error: float
    clean_test_error: float
    clean_test_error_standard_error: float
    train_loss_nats: float
    test_loss_nats: float
    test_loss_standard_error: float
    test_size: int
    epochs: int
    steps: int
    converged: bool
    seconds: float

    @property
    def error_gap(self) -> float:
        """Test error under the training law minus training error."""
        return self.test_error - self.train_error

    @property
    def loss_gap(self) -> float:
        """Test loss under the training law minus training loss, in nats."""
        return self.test_loss_nats - self.train_loss_nats

    @property
    def clean_error_gap(self) -> float:
        """Test error against the true labels minus training error."""
        return self.clean_test_error - self.train_error


@dataclass(frozen=True)
class TestResults:
    """Per test example, under the training law: its error (a fraction) and its loss in nats; no measure sees them."""

    __test__ = False

    errors: Float[Tensor, " n"]
    losses: Float[Tensor, " n"]
