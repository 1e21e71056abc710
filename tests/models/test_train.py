"""Training: deterministic for a spec, equal to torch.optim's rules, stopped by the loss, silent about global state."""

from __future__ import annotations

import dataclasses
import pickle
import random
from typing import Any

import numpy
import pytest
import torch
from torch.nn.functional import cross_entropy

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec, Split
from gapbench.models import train as train_module
from gapbench.models.build import build
from gapbench.models.flat import by_name, flatten
from gapbench.models.margins import SHARE_AT_MARGIN, share_at_margin
from gapbench.models.optimisers import Adam, Optimiser, optimiser
from gapbench.models.spec import RunSpec
from gapbench.models.train import gradient, train
from gapbench.models.trained import Outcome

DATA = DataSpec("digits", train_size=64)
MLP = RunSpec(DATA, "mlp", width=16, depth=2, learning_rate=0.05, batch_size=16, max_epochs=300)
CNN = RunSpec(
    DATA, "cnn", width=4, depth=2, learning_rate=0.05, batch_size=16, norm="batch", dropout=0.2, max_epochs=20
)


ADAM = dataclasses.replace(MLP, optimiser="adam", learning_rate=0.003, dropout=0.1)


@pytest.mark.parametrize("spec", [MLP, CNN, ADAM])
def test_training_twice_gives_the_same_bits(spec: RunSpec) -> None:
    first, outcome, results = train(spec, load(DATA))
    second, again, results_again = train(spec, load(DATA))
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    assert dataclasses.replace(outcome, seconds=0) == dataclasses.replace(again, seconds=0)
    assert torch.equal(results.losses, results_again.losses)


def test_another_seed_gives_other_bits() -> None:
    first = train(MLP, load(DATA))[0]
    second = train(dataclasses.replace(MLP, seed=1), load(DATA))[0]
    assert not torch.equal(first.network.output.weight, second.network.output.weight)
    assert not torch.equal(first.initial["output.weight"], second.initial["output.weight"])


def test_global_generators_are_untouched() -> None:
    before = torch.get_rng_state(), pickle.dumps(numpy.random.get_state()), random.getstate()  # noqa: NPY002
    train(CNN, load(DATA))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == pickle.dumps(numpy.random.get_state())  # noqa: NPY002
    assert before[2] == random.getstate()


def test_the_result_does_not_depend_on_the_global_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = train(CNN, load(DATA))[0]
        torch.manual_seed(2)
        second = train(CNN, load(DATA))[0]
    assert torch.equal(first.network.output.weight, second.network.output.weight)


def test_stops_at_the_loss_and_says_so() -> None:
    trained, outcome, _ = train(MLP, load(DATA))
    assert outcome.converged
    assert outcome.train_loss_nats <= 0.01
    assert trained.history is not None
    assert (trained.history.loss_nats[:-1] > 0.01).all()
    assert outcome.epochs == len(trained.history.steps) - 1
    assert outcome.steps == outcome.epochs * 4
    with torch.no_grad():
        recomputed = cross_entropy(trained.network(trained.train.inputs).double(), trained.train.labels)
    assert float(recomputed) == pytest.approx(outcome.train_loss_nats, rel=1e-6)


def test_stops_at_the_margin_and_not_before() -> None:
    spec = dataclasses.replace(MLP, stop_loss_nats=0.0, stop_margin=3.0)

    def share(spec: RunSpec) -> tuple[float, Outcome]:
        trained, outcome, _ = train(spec, load(DATA))
        with torch.inference_mode():
            return share_at_margin(trained.network(trained.train.inputs), trained.train.labels, 3.0), outcome

    reached, outcome = share(spec)
    assert reached >= SHARE_AT_MARGIN
    assert outcome.converged
    assert 1 < outcome.epochs < spec.max_epochs
    before, cut = share(dataclasses.replace(spec, max_epochs=outcome.epochs - 1))
    assert before < SHARE_AT_MARGIN
    assert not cut.converged
    # The loss still stops it, and then it has not converged.
    assert not train(dataclasses.replace(spec, stop_loss_nats=1.0), load(DATA))[1].converged


def test_a_run_cut_short_has_not_converged() -> None:
    assert not train(dataclasses.replace(MLP, max_epochs=1), load(DATA))[1].converged


def test_a_run_with_no_loss_to_reach_makes_its_epochs_and_has_converged() -> None:
    _, outcome, _ = train(dataclasses.replace(MLP, max_epochs=2, stop_loss_nats=0), load(DATA))
    assert (outcome.epochs, outcome.converged) == (2, True)
    _, diverged, _ = train(dataclasses.replace(MLP, learning_rate=1e6, stop_loss_nats=0, max_epochs=5), load(DATA))
    assert not diverged.converged


def test_a_diverging_run_stops_and_has_not_converged() -> None:
    trained, outcome, _ = train(dataclasses.replace(MLP, learning_rate=1e30), load(DATA))
    assert not outcome.converged
    assert outcome.epochs < 300
    assert trained.history is not None


def test_label_noise_changes_labels_and_nothing_else() -> None:
    spec = dataclasses.replace(MLP, data=dataclasses.replace(DATA, label_noise=1.0))
    clean, noisy = train(MLP, load(DATA))[0], train(spec, load(spec.data))[0]
    assert torch.equal(clean.train.inputs, noisy.train.inputs)
    assert not torch.equal(clean.train.labels, noisy.train.labels)
    for name, tensor in clean.initial.items():
        assert torch.equal(tensor, noisy.initial[name]), name


def test_test_error_is_under_the_training_law() -> None:
    spec = dataclasses.replace(MLP, data=dataclasses.replace(DATA, label_noise=1.0))
    outcome = train(spec, load(spec.data))[1]
    assert outcome.test_error == pytest.approx(0.9, abs=1e-12)
    assert outcome.test_error_standard_error == pytest.approx(0, abs=1e-9)
    assert abs(outcome.clean_test_error - 0.9) < 5 * outcome.clean_test_error_standard_error


def test_the_trajectory_holds_the_states_asked_for() -> None:
    trained, outcome, _ = train(dataclasses.replace(MLP, max_epochs=3), load(DATA), trajectory_epochs=(0, 1, 3, 9))
    assert trained.trajectory is not None
    assert sorted(trained.trajectory.states) == [0, 1, 3]
    assert outcome.epochs == 3
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(trained.trajectory.states[3][name], tensor)
        assert torch.equal(trained.trajectory.states[0][name], trained.initial[name])


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_update_rules_equal_those_of_torch(name: str, decay: float, architecture: str) -> None:
    spec = RunSpec(DATA, architecture, 6, 2, 0.03, 16, optimiser=name, momentum=0.9, weight_decay=decay)
    sample = load(DATA)[0]
    mine, theirs = (
        build(spec, tuple(sample.inputs.shape[1:]), 10, torch.Generator().manual_seed(0)).double() for _ in range(2)
    )
    rule = optimiser(spec, *flatten(mine))
    optim = torch.optim
    kinds = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop}
    options = {"momentum": 0.9} if name == "sgd" else {}
    reference = kinds[name](theirs.parameters(), lr=0.03, weight_decay=decay, **options)
    inputs = sample.inputs.double()
    for batch, labels in zip(inputs.split(16), sample.labels.split(16), strict=True):
        rule.before_backward()
        cross_entropy(mine(batch), labels).backward()
        rule.step()
        reference.zero_grad()
        cross_entropy(theirs(batch), labels).backward()
        reference.step()
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    if isinstance(rule, Adam):
        correction = 1 if name == "rmsprop" else 1 - 0.999 ** len(sample.labels.split(16))
        scales = by_name(mine, rule.preconditioner())
        for (key, _), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            square = reference.state[other]["square_avg" if name == "rmsprop" else "exp_avg_sq"]
            torch.testing.assert_close(scales[key], 1 / ((square / correction).sqrt() + 1e-8), rtol=1e-6, atol=1e-12)


def test_unknown_names_are_refused_with_the_closest() -> None:
    for field, value, close in (
        ("architecture", "mlpp", "mlp"),
        ("optimiser", "adamm", "adam"),
        ("activation", "rely", "relu"),
        ("norm", "batchh", "batch"),
        ("loss", "square", "squared"),
    ):
        with pytest.raises(InputError, match=close):
            train(dataclasses.replace(MLP, **{field: value}), load(DATA))


def test_a_cnn_refuses_vectors() -> None:
    with pytest.raises(InputError, match=r"images of shape"):
        build(CNN, (64,), 10, torch.Generator())


def test_one_batch_of_one_sample_is_a_split() -> None:
    inputs = torch.zeros(3, 1, 8, 8)
    assert len(Split(inputs, torch.zeros(3, dtype=torch.int64), 10)) == 3


def _losses(spec: RunSpec) -> torch.Tensor:
    history = train(spec, load(DATA))[0].history
    assert history is not None
    return history.loss_nats


@pytest.mark.parametrize("spec", [MLP, dataclasses.replace(CNN, norm="none", dropout=0.0)])
def test_bfloat16_trains_to_nearly_the_same_losses_in_other_bits(spec: RunSpec) -> None:
    short = dataclasses.replace(spec, max_epochs=3)
    half = dataclasses.replace(short, precision="bfloat16")
    single, rounded = _losses(short), _losses(half)
    assert single[0] == rounded[0], "evaluation is in single precision"
    assert not torch.equal(single, rounded)
    torch.testing.assert_close(single, rounded, rtol=0.05, atol=0.02)
    trained = train(half, load(DATA))[0]
    assert all(parameter.dtype == torch.float32 for parameter in trained.network.parameters())
    assert torch.equal(rounded, _losses(half))


def test_the_rounding_of_bfloat16_is_that_of_eight_bits() -> None:
    """The control: the gradient differs from that of float32 by about 2⁻⁸ of its length, and not by 2⁻²⁴."""
    sample = load(DATA)[0]
    found = []
    for precision in ("float32", "bfloat16"):
        network = build(MLP, (1, 8, 8), 10, torch.Generator().manual_seed(0))
        gradients = flatten(network)[1]
        gradient(network, dataclasses.replace(MLP, precision=precision))(sample.inputs, sample.labels)
        found.append(gradients)
    apart = float((found[0] - found[1]).norm() / found[0].norm())
    assert 2**-12 < apart < 2**-5


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="unknown precision 'bfloat61'; did you mean bfloat16"):
        train(dataclasses.replace(MLP, precision="bfloat61"), load(DATA))


@pytest.mark.parametrize(
    ("name", "momentum", "decoupled"),
    [("adam", 0.9, False), ("adamw", 0.9, True), ("gated_adamw", 0.9, True), ("rmsprop", 0.0, False)],
)
def test_checkpoints_keep_what_the_steps_were_scaled_by(
    name: str, momentum: float, decoupled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Adam] = []

    def kept(*arguments: Any) -> Optimiser:
        rule = optimiser(*arguments)
        assert isinstance(rule, Adam)
        rules.append(rule)
        return rule

    monkeypatch.setattr(train_module, "optimiser", kept)
    spec = dataclasses.replace(CNN, optimiser=name, learning_rate=0.002, momentum=0.0, batch_size=8, max_epochs=3)
    one, three = (
        train(dataclasses.replace(spec, max_epochs=epochs), load(DATA), checkpoints=True)[0] for epochs in (1, 3)
    )
    assert one.trajectory is not None
    trajectory = three.trajectory
    assert trajectory is not None
    assert (trajectory.preconditioned, trajectory.momentum, trajectory.decoupled) == (True, momentum, decoupled)
    for trained, rule in zip((one, three), rules, strict=True):
        assert trained.trajectory is not None
        last = trained.trajectory.checkpoints[-1].preconditioner
        assert last is not None
        expected = by_name(trained.network, rule.preconditioner())
        assert list(last) == [name for name, _ in trained.network.named_parameters()]
        assert all(torch.equal(last[key], scale) for key, scale in expected.items())
    # In the first epoch they are those at its end; the points are those of a run of that epoch alone.
    early = [point for point in trajectory.checkpoints if point.steps <= 8]
    assert len(early) > 3
    end = one.trajectory.checkpoints[-1].preconditioner
    for point in early:
        assert point.preconditioner is not None
        assert end is not None
        assert all(torch.equal(point.preconditioner[key], scale) for key, scale in end.items())


def test_the_point_of_an_early_stop_has_the_preconditioner_of_its_step() -> None:
    """Descent that goes on after the best epoch; a run that ends there is the oracle."""
    noisy = dataclasses.replace(DATA, label_noise=0.5)
    spec = dataclasses.replace(ADAM, data=noisy, max_epochs=60, patience=5, stop_loss_nats=0)
    long, outcome, _ = train(spec, load(noisy), checkpoints=True)
    assert outcome.epochs <= 55, "the control: this training goes back to an epoch before its last"
    short = train(dataclasses.replace(spec, max_epochs=outcome.epochs), load(noisy), checkpoints=True)[0]
    ends = []
    for trained in (long, short):
        assert trained.trajectory is not None
        ends.append(trained.trajectory.checkpoints[-1])
    assert ends[0].steps == ends[1].steps == outcome.steps
    assert ends[0].preconditioner is not None
    assert ends[1].preconditioner is not None
    for name, scale in ends[0].preconditioner.items():
        assert torch.equal(scale, ends[1].preconditioner[name])


def test_plain_descent_has_no_preconditioner() -> None:
    trajectory = train(dataclasses.replace(MLP, max_epochs=2), load(DATA), checkpoints=True)[0].trajectory
    assert trajectory is not None
    assert not trajectory.preconditioned
    assert all(point.preconditioner is None for point in trajectory.checkpoints)
