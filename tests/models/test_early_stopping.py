"""Early stopping: what is held out, the epoch it goes back to, and the records up to there."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec, Split
from gapbench.models.early_stopping import fitted_part, held_out_part
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

DATA = DataSpec("digits", train_size=95, label_noise=0.5)
SPEC = RunSpec(
    DATA, "mlp", width=32, depth=1, learning_rate=0.05, batch_size=16, max_epochs=60, patience=5, stop_loss_nats=1e-9
)


def test_the_parts_are_the_sample() -> None:
    sample = load(DATA)[0]
    fitted, held_out = fitted_part(SPEC, sample), held_out_part(SPEC, sample)
    assert held_out is not None
    assert (len(fitted), len(held_out)) == (85, 10)
    assert torch.equal(torch.cat([fitted.inputs, held_out.inputs]), sample.inputs)
    assert torch.equal(torch.cat([fitted.labels, held_out.labels]), sample.labels)
    without = dataclasses.replace(SPEC, patience=0)
    assert fitted_part(without, sample) is sample
    assert held_out_part(without, sample) is None
    with pytest.raises(InputError, match="fewer than 2"):
        held_out_part(SPEC, Split(sample.inputs[:1], sample.labels[:1], 10))


def test_it_goes_back_to_the_epoch_of_least_held_out_error() -> None:
    """Against a training without early stopping on the same part, whose states are all kept."""
    sample, test = load(DATA)
    held_out = held_out_part(SPEC, sample)
    assert held_out is not None
    free = dataclasses.replace(SPEC, patience=0)
    every = train(free, (fitted_part(SPEC, sample), test), trajectory_epochs=range(61))[0]
    assert every.trajectory is not None
    errors = []
    network = every.network
    for epoch in range(1, 61):
        network.load_state_dict(every.trajectory.states[epoch])
        with torch.no_grad():
            errors.append(float((network(held_out.inputs).argmax(dim=1) != held_out.labels).double().mean()))
    best, stopped = 0, 60
    for epoch in range(1, 61):
        if best == 0 or errors[epoch - 1] < errors[best - 1]:
            best = epoch
        if epoch - best >= 5:
            stopped = epoch
            break
    assert best < stopped < 60, "the control: this training is stopped, and goes back"
    early, outcome, _ = train(SPEC, (sample, test), trajectory_epochs=range(61), checkpoints=True)
    for name, tensor in early.network.state_dict().items():
        assert torch.equal(tensor, every.trajectory.states[best][name]), name
    assert len(early.train) == 85
    assert early.history is not None
    assert every.history is not None
    assert torch.equal(early.history.loss_nats, every.history.loss_nats[: best + 1])
    assert early.trajectory is not None
    assert max(early.trajectory.states) == best
    assert early.trajectory.checkpoints[-1].steps == outcome.steps == int(every.history.steps[best])
    assert outcome.train_error == float(every.history.error[best])
    assert not outcome.converged
