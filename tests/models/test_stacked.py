"""Stacks: each run as it is alone, whatever shares its stack; what cannot be stacked is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.models.spec import RunSpec, twin
from gapbench.models.stacked import stack_key, stackable, train_stack
from gapbench.models.train import train

SPEC = RunSpec(
    DataSpec("digits", 40, test_size=100), "mlp", width=8, depth=2, learning_rate=0.02, batch_size=16, max_epochs=6,
    stop_loss_nats=1e-9,
)  # fmt: skip
KINDS = {
    "sgd": SPEC,
    "decay": dataclasses.replace(SPEC, weight_decay=0.02, norm="layer"),
    "adam": dataclasses.replace(SPEC, optimiser="adam", learning_rate=0.003, weight_decay=0.01),
    "adamw": dataclasses.replace(SPEC, optimiser="adamw", learning_rate=0.003, weight_decay=0.5, activation="tanh"),
    "cnn": dataclasses.replace(SPEC, architecture="cnn"),
    "resnet": dataclasses.replace(SPEC, architecture="resnet", width=2, depth=1, learning_rate=0.01),
    # Not by Adam: the bias of the keys has no influence, and Adam makes whole steps of the rounding in its gradient.
    "vit": dataclasses.replace(SPEC, architecture="vit", width=8, depth=1, norm="layer"),
    "squared": dataclasses.replace(SPEC, loss="squared"),
}


def mates(spec: RunSpec) -> list[RunSpec]:
    """Runs that differ from one in all that may differ."""
    other = dataclasses.replace(spec, learning_rate=spec.learning_rate / 2, momentum=0.5, seed=3, initial_scale=0.8)
    moved = dataclasses.replace(spec, data=dataclasses.replace(spec.data, seed=7), weight_decay=0.1, max_epochs=3)
    return [spec, twin(spec), other, moved]


@pytest.mark.parametrize("name", list(KINDS))
def test_each_run_of_a_stack_is_what_it_is_alone(name: str) -> None:
    specs = mates(KINDS[name])
    stacked = train_stack(specs, [load(spec.data) for spec in specs], trajectory_epochs=(0, 2), device="cpu")
    for spec, (trained, outcome, results) in zip(specs, stacked, strict=True):
        alone, expected, errors = train(spec, load(spec.data), trajectory_epochs=(0, 2))
        for key, tensor in alone.network.state_dict().items():
            torch.testing.assert_close(trained.network.state_dict()[key], tensor, rtol=2e-3, atol=2e-5)
            assert torch.equal(trained.initial[key], alone.initial[key])
            for epoch in (0, 2):
                now = trained.trajectory.states[epoch][key]  # type: ignore[union-attr]
                then = alone.trajectory.states[epoch][key]  # type: ignore[union-attr]
                torch.testing.assert_close(now, then, rtol=2e-3, atol=2e-5)
        assert (outcome.epochs, outcome.steps, outcome.converged) == (
            expected.epochs, expected.steps, expected.converged,
        )  # fmt: skip
        assert outcome.test_loss_nats == pytest.approx(expected.test_loss_nats, rel=1e-3)
        torch.testing.assert_close(results.losses, errors.losses, rtol=1e-2, atol=1e-3)
        for field in ("steps", "loss_nats", "path_length", "step_size"):
            torch.testing.assert_close(
                getattr(trained.history, field), getattr(alone.history, field), rtol=1e-3, atol=1e-6
            )
    # The control: the runs do differ.
    first, second = (stacked[place][0].network.state_dict() for place in (0, 1))
    assert not any(torch.allclose(first[key], second[key], rtol=1e-2) for key in list(first)[:1])


def test_a_run_does_not_depend_on_what_shares_its_stack() -> None:
    specs = mates(SPEC)
    data = [load(spec.data) for spec in specs]
    together = train_stack(specs, data, device="cpu")[0][0].network.state_dict()
    pair = train_stack([specs[2], specs[0]], [data[2], data[0]], device="cpu")[1][0].network.state_dict()
    for key, tensor in together.items():
        torch.testing.assert_close(pair[key], tensor, rtol=1e-4, atol=1e-6)


def test_a_run_that_has_reached_its_loss_leaves_the_stack() -> None:
    easy = dataclasses.replace(SPEC, stop_loss_nats=1.0, max_epochs=60, learning_rate=0.05)
    hard = dataclasses.replace(easy, stop_loss_nats=1e-9, max_epochs=70)
    (_, first, _), (_, second, _) = train_stack([easy, hard], [load(SPEC.data)] * 2, device="cpu")
    alone = train(easy, load(SPEC.data))[1]
    assert first.converged
    assert first.epochs == alone.epochs < 60
    assert (second.epochs, second.converged) == (70, False)


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": 0.1}, {"norm": "batch"}, {"augmentation": "flip"}, {"patience": 3}, {"optimiser": "sam"},
        {"architecture": "Mine"}, {"adopted": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_stacked(change: dict[str, object]) -> None:
    spec = dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]
    assert stackable(SPEC)
    assert not stackable(spec)
    with pytest.raises(InputError, match="cannot be in a stack"):
        train_stack([SPEC, spec], [load(SPEC.data)] * 2, device="cpu")


def test_keys_tell_shapes_apart() -> None:
    assert len({stack_key(spec) for spec in mates(SPEC)}) == 1
    others = ({"width": 9}, {"batch_size": 8}, {"activation": "tanh"}, {"optimiser": "adam"}, {"loss": "squared"})
    assert all(stack_key(dataclasses.replace(SPEC, **change)) != stack_key(SPEC) for change in others)  # type: ignore[arg-type]
    longer = dataclasses.replace(SPEC, data=dataclasses.replace(SPEC.data, train_size=41))
    assert stack_key(longer) != stack_key(SPEC)
