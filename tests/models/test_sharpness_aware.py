"""SAM: against the update written out with torch.autograd, and against SGD at radius zero."""

from __future__ import annotations

import dataclasses

import torch
from torch.nn.functional import cross_entropy

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.models.build import build
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

DATA = DataSpec("digits", train_size=64)
SPEC = RunSpec(
    DATA, "mlp", width=16, depth=1, learning_rate=0.05, batch_size=64, optimiser="sam", weight_decay=1e-2,
    sam_radius=0.1, max_epochs=6, activation="tanh",
)  # fmt: skip


def test_steps_are_those_of_the_formula() -> None:
    trained, _, _ = train(SPEC, load(DATA))
    sample = load(DATA)[0]
    network = build(SPEC, tuple(sample.inputs.shape[1:]), 10, torch.Generator())
    network.load_state_dict(trained.initial)
    network.double()
    weights = list(network.parameters())
    velocities = [torch.zeros_like(weight) for weight in weights]
    lengths = 0.0

    def gradients() -> list[torch.Tensor]:
        loss = cross_entropy(network(sample.inputs.double()), sample.labels)
        return list(torch.autograd.grad(loss, weights))

    for _ in range(6):
        before = [weight.detach().clone() for weight in weights]
        slopes = gradients()
        length = torch.sqrt(sum(slope.square().sum() for slope in slopes))  # type: ignore[arg-type]
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.add_(0.1 * slope / length)
        slopes = gradients()
        with torch.no_grad():
            for weight, old, velocity, slope in zip(weights, before, velocities, slopes, strict=True):
                velocity.mul_(0.9).add_(slope + 1e-2 * old)
                weight.copy_(old - 0.05 * velocity)
        lengths += 0.05 * float(torch.sqrt(sum(velocity.square().sum() for velocity in velocities)))  # type: ignore[arg-type]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(trained.network.state_dict()[name].double(), tensor, rtol=1e-4, atol=1e-6)
    assert trained.history is not None
    assert trained.history.path_length is not None
    assert abs(float(trained.history.path_length[-1]) / lengths - 1) < 1e-4


def test_a_radius_of_nearly_nothing_is_sgd_and_a_larger_one_is_not() -> None:
    plain = train(dataclasses.replace(SPEC, optimiser="sgd"), load(DATA))[0].network.state_dict()
    none = train(dataclasses.replace(SPEC, sam_radius=1e-7), load(DATA))[0].network.state_dict()
    some = train(SPEC, load(DATA))[0].network.state_dict()
    for name, tensor in plain.items():
        torch.testing.assert_close(none[name], tensor, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(some["output.weight"], plain["output.weight"], rtol=1e-3)
