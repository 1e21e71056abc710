"""What a user gives to be read: every misfit is refused with its value, its place and what to do."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import gapbench
from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import Split
from gapbench.measures.given import examine
from gapbench.models.trained import Trained


class Pair(nn.Module):
    """Returns its outputs and something beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        return self.layer(inputs), None


def sample(trained: Trained, **changes: object) -> Trained:
    return replace(trained, train=replace(trained.train, **changes))


NAN = torch.full((6, 3), torch.nan)
MISFITS = {
    r"train\.labels must be one integer an example, not torch\.float32 of shape \(6,\)": lambda run: sample(
        run, labels=torch.zeros(6)
    ),
    r"train has 6 inputs and 5 labels": lambda run: sample(run, labels=run.train.labels[:5]),
    r"train\.labels\[1\] is 2: with classes=2 labels are 0 to 1": lambda run: sample(
        run, labels=torch.tensor([0, 2, 0, 1, 0, 1])
    ),
    r"train\.classes is 1: a classifier has two outputs at least": lambda run: sample(
        run, labels=torch.zeros(6, dtype=torch.int64), classes=1
    ),
    r"train\.inputs\[0\] holds a number that is not finite": lambda run: sample(run, inputs=NAN),
    r"train\.inputs must be floating-point numbers, not torch\.int64: use \.float\(\)": lambda run: sample(
        run, inputs=torch.ones(6, 3, dtype=torch.int64)
    ),
    r"network cannot be applied to train\.inputs of shape \(6, 4\): RuntimeError": lambda run: sample(
        run, inputs=torch.ones(6, 4)
    ),
    r"network returns a tensor of shape \(2, 2\): .* logits of shape \(examples, classes\), here \(2, 5\)": (
        lambda run: sample(run, classes=5)
    ),
    r"network returns a tuple: it must return logits": lambda run: replace(run, network=Pair(), initial={}),
    r"initial is not the network's state dict before training: 0\.bias is only in the network": lambda run: replace(
        run, initial={name: tensor for name, tensor in run.initial.items() if name != "0.bias"}
    ),
    r"initial is .*: other is only in the initial state": lambda run: replace(
        run, initial={**run.initial, "other": torch.ones(1)}
    ),
    r"initial is .*: 0\.bias has the shape \(9,\), in the network \(4,\)": lambda run: replace(
        run, initial={**run.initial, "0.bias": torch.ones(9)}
    ),
    r"seed_twins\[0\]\.network returns a tuple": lambda run: replace(
        run, seed_twins=(replace(run, network=Pair(), initial={}),)
    ),
    r"random_label_twin\.train has 6 inputs and 5 labels": lambda run: replace(
        run, random_label_twin=sample(run, labels=run.train.labels[:5])
    ),
}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the type checks that only the tests have."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("message", MISFITS)
def test_a_misfit_is_refused(with_twins: Trained, message: str) -> None:
    examine(with_twins)
    with pytest.raises(InputError, match=message):
        examine(MISFITS[message](with_twins))


def test_what_is_no_tensor_is_refused(trained: Trained) -> None:
    split = Split(trained.train.inputs, trained.train.labels, 2)
    object.__setattr__(split, "inputs", split.inputs.numpy())
    with pytest.raises(InputError, match=r"train\.inputs must be a tensor, not a ndarray: use torch\.as_tensor"):
        examine(replace(trained, train=split))


def test_reading_examines_and_changes_nothing(trained: Trained) -> None:
    trained.network.train()
    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    examine(trained)
    examine(replace(trained, network=copy.deepcopy(trained.network).double()))
    assert trained.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.network.state_dict().items())
    for read in (gapbench.read, gapbench.read_layers):
        with pytest.raises(InputError, match="network returns a tuple"):
            read(["l2"], replace(trained, network=Pair(), initial={}))
