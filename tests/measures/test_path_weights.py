"""Weights without some examples: exact in a linear model, elsewhere against whole Jacobians."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures import kernel_path as kernel_path_module
from gapbench.measures import replay as replay_module
from gapbench.measures.held_out import HeldOut, path_held_out
from gapbench.measures.kernel_path import kernel_path
from gapbench.measures.path_weights import path_weights_held_out, path_weights_loo_gap, read_from_weights
from gapbench.measures.replay import folds
from gapbench.measures.reservoir import path_loo_gap
from gapbench.models.losses import LOSSES
from gapbench.models.trained import Checkpoint, Trajectory

EXAMPLES, INPUTS, CLASSES = 18, 5, 3


def draw(*shape: int, name: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "path weights", name))


SAMPLE = Split(draw(EXAMPLES, INPUTS, name="inputs"), torch.arange(EXAMPLES) % CLASSES, CLASSES)


def linear_path(loss: str, momentum: float, decay: float = 0.0) -> tuple[nn.Module, Trajectory]:
    network = nn.Linear(INPUTS, CLASSES, bias=False).double()
    weights, velocity, points = draw(CLASSES, INPUTS, name="start"), torch.zeros(CLASSES, INPUTS).double(), []
    targets = one_hot(SAMPLE.labels, CLASSES).double()
    for step in range(13):
        if step in (0, 1, 2, 4, 7, 12):
            points.append(Checkpoint(step, 0.3 * step, {"weight": weights}))
        outputs = SAMPLE.inputs @ weights.T
        slopes = (outputs if loss == "squared" else outputs.softmax(dim=1)) - targets
        velocity = momentum * velocity + slopes.T @ SAMPLE.inputs / EXAMPLES + decay * weights
        weights = weights - 0.3 * (1 - momentum) * velocity
    return network, Trajectory({}, tuple(points), momentum, decay, loss=loss)


@pytest.mark.parametrize(
    ("seen", "momentum", "decay"), [(EXAMPLES, 0.0, 0.0), (EXAMPLES, 0.9, 0.0), (10, 0.0, 0.0), (EXAMPLES, 0.0, 0.1)]
)
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_in_a_linear_model_they_have_the_outputs_of_the_replay(
    tolerance: float, loss: str, momentum: float, decay: float, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole sample, or its first examples and the drift of the rest; step by step, and steps taken together."""
    monkeypatch.setattr(replay_module, "TOLERANCE", tolerance)
    monkeypatch.setattr(kernel_path_module, "PATH_EXAMPLES", seen)
    network, trajectory = linear_path(loss, momentum, decay)
    found = path_held_out(kernel_path(network, trajectory, SAMPLE), trajectory, SAMPLE)
    for count in (4, seen):
        read = path_weights_held_out(found, network, trajectory, SAMPLE)(count)
        torch.testing.assert_close(read.held_out, found(count).held_out, rtol=0, atol=1e-12)
        torch.testing.assert_close(read.trained, SAMPLE.inputs[:seen] @ trajectory.checkpoints[-1].state["weight"].T)
        assert float((read.held_out - read.trained).norm()) > 0.1, "the positive control: leaving out matters"


def test_the_gap_is_the_mean_loss_of_these_outputs_less_that_of_training() -> None:
    network, trajectory = linear_path("squared", 0.0)
    found = path_held_out(kernel_path(network, trajectory, SAMPLE), trajectory, SAMPLE)
    read = path_weights_held_out(found, network, trajectory, SAMPLE)
    targets, outputs = one_hot(SAMPLE.labels, CLASSES), read(6)
    changes = ((outputs.held_out - targets).square() - (outputs.trained - targets).square()).sum(dim=1) / 2
    gap = path_weights_loo_gap(read, 0.0, trajectory, SAMPLE, folds=6)
    assert gap.value == pytest.approx(float(changes.mean()))
    assert gap.standard_error == pytest.approx(float(changes.std()) / EXAMPLES**0.5)
    assert gap.value == pytest.approx(path_loo_gap(found, 0.0, trajectory, SAMPLE, folds=6).value)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_they_are_made_of_the_jacobians(preconditioned: bool, decoupled: bool) -> None:
    """A network that is not linear, seen on two thirds of the sample, with decay."""
    seen, decay, count = 12, 0.2, 5
    network = nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, CLASSES)).double()
    points = []
    for at, time in enumerate((0.0, 0.4, 1.0)):
        state = {name: draw(*p.shape, name=f"{name} {at}") for name, p in network.named_parameters()}
        scales = {name: draw(*p.shape, name=f"{name} scale {at}").square() for name, p in network.named_parameters()}
        points.append(Checkpoint(at, time, state, scales if preconditioned else None))
    trajectory = Trajectory({}, tuple(points), 0.0, decay, preconditioned, "squared", decoupled)
    left_out = folds(seen, count)
    impulses = tuple(0.1 * draw(seen, CLASSES, count, name=f"impulse {leg}") for leg in range(2))
    nothing = torch.zeros(seen, CLASSES, dtype=torch.float64)
    found = read_from_weights(HeldOut(nothing, nothing, 0.0, left_out, impulses), network, trajectory, SAMPLE)
    share = left_out.sum(dim=0) / (EXAMPLES - left_out.sum(dim=0))
    changes = [torch.zeros(sum(p.numel() for p in network.parameters())).double() for _ in range(count)]
    for at, (point, before, after) in enumerate(zip(points, (0.0, 0.4, 0.6), (0.4, 0.6, 0.0), strict=True)):
        network.load_state_dict(point.state)
        metric = torch.ones(len(changes[0])).double()
        if point.preconditioner is not None:
            metric = torch.cat([scale.flatten() for scale in point.preconditioner.values()])
        outputs, rows = network(SAMPLE.inputs), []
        for output in outputs[:seen].flatten():
            gradients = torch.autograd.grad(output, list(network.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        rest = LOSSES["squared"].mean(outputs[seen:], SAMPLE.labels[seen:]) * (EXAMPLES - seen) / EXAMPLES
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(rest, list(network.parameters()))])
        for fold in range(count):
            near = sum((impulses[leg][..., fold].flatten() / 2 for leg in (at - 1, at) if leg in (0, 1)), start=0.0)
            step = metric * (torch.stack(rows).T @ near + (before + after) / 2 * share[fold] * slope)
            changes[fold] = changes[fold] - step
    end = torch.cat([p.detach().flatten() for p in network.parameters()])
    for fold in range(count):
        torch.nn.utils.vector_to_parameters(end + changes[fold], network.parameters())
        out = left_out[:, fold] == 1
        torch.testing.assert_close(found.held_out[out], network(SAMPLE.inputs[:seen][out]).detach())
    assert dataclasses.replace(found, held_out=nothing).held_out.norm() < found.held_out.norm()
