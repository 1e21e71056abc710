"""The path seen from output space: outputs, kernels and drifts against the whole Jacobian."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.kernel_path import kernel_path, legs_between, points_along
from gapbench.measures.registry import Undefined
from gapbench.models.losses import LOSSES
from gapbench.models.trained import Checkpoint, Trajectory

EXAMPLES, NEAR, CLASSES = 9, 6, 3


def small_network(seed: int) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()
    draw = generator(seed, "kernel path")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=draw))
    return network


INPUTS = torch.randn(EXAMPLES, 4, generator=generator(0, "inputs"))
SAMPLE = Split(INPUTS, torch.arange(EXAMPLES) % CLASSES, CLASSES)
STATES = [small_network(seed).state_dict() for seed in range(3)]
POINTS = tuple(Checkpoint(4 * i, 0.5 * i**2, state) for i, state in enumerate(STATES))
PATH = Trajectory({}, POINTS, momentum=0.9, weight_decay=0.01, loss="squared")


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_points_are_made_of_the_jacobian(loss: str) -> None:
    network = small_network(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = list(points_along(network, dataclasses.replace(PATH, loss=loss), SAMPLE, NEAR))
    for point, checkpoint in zip(found, POINTS, strict=True):
        state = checkpoint.state
        names, sizes = list(state), [state[name].numel() for name in state]
        flat = torch.cat([state[name].flatten() for name in names])

        def outputs(weights: Tensor, names: list[str] = names, sizes: list[int] = sizes) -> Tensor:
            parts = dict(zip(names, torch.split(weights, sizes), strict=True))
            return functional_call(network, {n: parts[n].view(before[n].shape) for n in names}, INPUTS.double())

        jacobian = jacrev(outputs)(flat)
        at = outputs(flat).detach().requires_grad_()
        rest = LOSSES[loss].mean(at[NEAR:], SAMPLE.labels[NEAR:]) * (EXAMPLES - NEAR) / EXAMPLES
        slope = torch.einsum("ncw,nc->w", jacobian, torch.autograd.grad(rest, at)[0])
        near = jacobian[:NEAR].flatten(0, 1)
        torch.testing.assert_close(point.outputs, at.detach()[:NEAR])
        torch.testing.assert_close(point.kernel, near @ near.T)
        torch.testing.assert_close(point.others.flatten(), -near @ slope)
        torch.testing.assert_close(point.decay.flatten(), -0.01 * near @ flat)
        assert (point.steps, point.time) == (checkpoint.steps, checkpoint.step_size)
        assert float(point.others.norm()) > 1e-3
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("decoupled", [False, True])
def test_points_of_a_preconditioned_path_are_made_of_the_scaled_jacobian(decoupled: bool) -> None:
    draw = generator(0, "preconditioners")
    scaled = [
        dataclasses.replace(
            point, preconditioner={n: 0.1 + 5 * torch.rand(value.shape, generator=draw) for n, value in state.items()}
        )
        for point, state in zip(POINTS, STATES, strict=True)
    ]
    path = dataclasses.replace(PATH, checkpoints=tuple(scaled), preconditioned=True, decoupled=decoupled)
    plain = points_along(small_network(5), PATH, SAMPLE, NEAR)
    for point, unscaled, checkpoint in zip(
        points_along(small_network(5), path, SAMPLE, NEAR), plain, path.checkpoints, strict=True
    ):
        network = small_network(5)
        network.load_state_dict(dict(checkpoint.state))
        assert checkpoint.preconditioner is not None
        metric = torch.cat([scale.double().flatten() for scale in checkpoint.preconditioner.values()])
        weights = torch.cat([value.flatten() for value in checkpoint.state.values()])
        outputs = network(INPUTS.double())
        rows = []
        for output in outputs[:NEAR].flatten():
            gradients = torch.autograd.grad(output, list(network.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        near = torch.stack(rows)
        rest = LOSSES["squared"].mean(outputs[NEAR:], SAMPLE.labels[NEAR:]) * (EXAMPLES - NEAR) / EXAMPLES
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(rest, list(network.parameters()))])
        torch.testing.assert_close(point.kernel, (near * metric) @ near.T)
        torch.testing.assert_close(point.others.flatten(), -near @ (metric * slope))
        fading = weights if decoupled else metric * weights
        torch.testing.assert_close(point.decay.flatten(), -0.01 * near @ fading)
        torch.testing.assert_close(point.outputs, unscaled.outputs)
        assert not torch.allclose(point.others, unscaled.others, rtol=0.05)


def test_a_parameter_that_was_not_trained_moves_nothing() -> None:
    network = small_network(5)
    network[0].requires_grad_(False)
    trained = {n: torch.ones_like(p) for n, p in network.named_parameters() if p.requires_grad}
    path = dataclasses.replace(
        PATH, checkpoints=tuple(dataclasses.replace(p, preconditioner=trained) for p in POINTS), preconditioned=True
    )
    point = next(points_along(network, path, SAMPLE, NEAR))
    network.load_state_dict(dict(POINTS[0].state))
    features = torch.cat([network[:2](INPUTS[:NEAR].double()), torch.ones(NEAR, 1)], dim=1).detach()
    torch.testing.assert_close(point.kernel, torch.kron(features @ features.T, torch.eye(CLASSES).double()))


def test_legs_are_means_of_their_ends() -> None:
    points = kernel_path(small_network(5), PATH, SAMPLE)
    assert points[0].outputs.shape == (EXAMPLES, CLASSES)
    legs = list(legs_between(points))
    assert [(leg.steps, leg.time) for leg in legs] == [(4, 0.5), (4, 1.5)]
    for leg, start, end in zip(legs, points, points[1:], strict=False):
        torch.testing.assert_close(leg.kernel, (start.kernel + end.kernel) / 2)
        assert leg.end is end.outputs


def test_what_no_kernel_describes_is_undefined() -> None:
    for trajectory, message in (
        (Trajectory({}), "no checkpoints were kept"),
        (dataclasses.replace(PATH, preconditioned=True), "was not kept on the path"),
    ):
        with pytest.raises(Undefined, match=message):
            kernel_path(small_network(5), trajectory, SAMPLE)
    with pytest.raises(Undefined, match="batch norm"):
        kernel_path(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)), PATH, SAMPLE)
    with pytest.raises(Undefined, match="made of other parameters"):
        kernel_path(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, CLASSES))), PATH, SAMPLE)


def test_pytorchs_warning_of_its_own_compiler_is_not_passed_on() -> None:
    """In a process of its own: PyTorch gives it once, at the first forward derivative."""
    code = "import torch; from gapbench.measures import kernel_path as k; k._pushed(torch.sin, *torch.ones(2, 3))"
    control = "import torch; torch.func.jvp(torch.sin, (torch.ones(3),), (torch.ones(3),))"
    warned = [
        "jit.script" in subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True).stderr
        for one in (code, control)
    ]
    assert warned == [False, True]
