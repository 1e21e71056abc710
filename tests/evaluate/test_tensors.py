"""Tensors to bytes and back: equal bits, one order, aligned, whatever the loader does."""

from __future__ import annotations

import pytest
import torch

from gapbench.evaluate import tensors
from gapbench.models.trained import Checkpoint, History, TestResults, Trajectory

NAMES = ["z.weight", "a.weight", "z.bias", "m.count"]


def _state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(3, 5, generator=generator) for name in NAMES[:2]}
    return {**state, "z.bias": torch.randn(7, generator=generator).double(), "m.count": torch.tensor(seed)}


def test_weights_come_back_in_order_and_aligned() -> None:
    content = tensors.weights_content(_state(1), _state(2))
    for _ in range(20):
        initial, final = tensors.weights(content, NAMES)
        for found, expected in ((initial, _state(1)), (final, _state(2))):
            assert list(found) == NAMES
            for name in NAMES:
                assert found[name].dtype == expected[name].dtype
                assert torch.equal(found[name], expected[name])
                assert found[name].data_ptr() % 64 == 0


def test_tied_and_strided_tensors_can_be_stored() -> None:
    tied = torch.randn(4, 6)
    state = {"a": tied, "b": tied, "c": tied.T}
    found, _ = tensors.weights(tensors.weights_content(state, state), list(state))
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_missing_tensor_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"final.extra|initial.extra"):
        tensors.weights(tensors.weights_content(_state(1), _state(2)), [*NAMES, "extra"])


def test_trajectory_comes_back_by_epoch() -> None:
    trajectory = Trajectory({10: _state(1), 2: _state(2)})
    found = tensors.trajectory(tensors.trajectory_content(trajectory), NAMES)
    assert list(found.states) == [2, 10]
    assert torch.equal(found.states[10]["z.bias"], _state(1)["z.bias"])


def test_checkpoints_and_the_rule_of_the_steps_come_back() -> None:
    points = (Checkpoint(0, 0.0, _state(1)), Checkpoint(3, 0.1 + 0.2, _state(2)), Checkpoint(20, 1 / 3, _state(3)))
    trajectory = Trajectory({2: _state(4)}, points, 0.9, 1e-4, True, "squared")
    found = tensors.trajectory(tensors.trajectory_content(trajectory), NAMES)
    assert [(point.steps, point.step_size) for point in found.checkpoints] == [(0, 0.0), (3, 0.1 + 0.2), (20, 1 / 3)]
    assert (found.momentum, found.weight_decay, found.preconditioned, found.loss) == (0.9, 1e-4, True, "squared")
    assert list(found.states) == [2]
    for point, expected in zip(found.checkpoints, points, strict=True):
        assert list(point.state) == NAMES
        assert all(torch.equal(point.state[name], expected.state[name]) for name in NAMES)


def test_preconditioners_come_back_of_the_parameters_that_have_one() -> None:
    scale = {name: _state(7)[name] for name in NAMES[:2]}
    points = (
        Checkpoint(0, 0.0, _state(1), scale),
        Checkpoint(3, 0.3, _state(2), scale),
        Checkpoint(20, 1.0, _state(3)),
    )
    trajectory = Trajectory({2: _state(4)}, points, preconditioned=True, decoupled=True)
    found = tensors.trajectory(tensors.trajectory_content(trajectory), NAMES)
    assert found.decoupled
    assert list(found.states) == [2]
    for point in found.checkpoints[:2]:
        assert point.preconditioner is not None
        assert list(point.preconditioner) == NAMES[:2]
        assert all(torch.equal(point.preconditioner[name], scale[name]) for name in scale)
    assert found.checkpoints[2].preconditioner is None


def test_a_trajectory_of_the_first_versions_can_be_read() -> None:
    """They held state dicts by epoch and nothing else."""
    found = tensors.trajectory(tensors._content({"1": _state(1)}), NAMES)
    assert (list(found.states), found.checkpoints, found.loss) == ([1], (), "cross_entropy")


def test_history_and_test_errors_come_back() -> None:
    column = torch.tensor([0.1, float("inf"), 1 / 3], dtype=torch.float64)
    found = tensors.history(tensors.history_content(History(column, column + 1, column + 2)))
    assert torch.equal(found.steps, column)
    assert torch.equal(found.error, column + 2)
    assert (found.path_length, found.step_size, found.forgotten) == (None, None, None)
    whole = History(column, column, column, column + 3, column + 4, column + 5)
    again = tensors.history(tensors.history_content(whole))
    assert torch.equal(again.path_length, column + 3)
    assert torch.equal(again.step_size, column + 4)
    assert torch.equal(again.forgotten, column + 5)
    errors = tensors.test_errors(tensors.results_content(TestResults(torch.tensor([0.25, 0.75]), torch.zeros(2))))
    assert errors.dtype == "float32"
    assert errors.tolist() == [0.25, 0.75]
