"""The guard of a reading: notices, names and undoes what a measure changes that is not its own."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import numpy
import torch

from gapbench.models.trained import Trained


def second_runs(trained: Trained) -> dict[str, tuple[Trained, ...]]:
    """The second runs of a run, by the root that gives them to a measure."""
    twin = trained.random_label_twin
    return {"seed_twins": trained.seed_twins or (), "random_label_twin": () if twin is None else (twin,)}


class Guard:
    """Notices, and undoes, a change of the network, its sample, its second runs, or a global generator.

    As a context it sets aside the gradients that the user's own training left in the networks, and puts them back.
    """

    def __init__(self, trained: Trained) -> None:
        twins = [twin for runs in second_runs(trained).values() for twin in runs]
        self.runs = [_Watched(trained, "the "), *(_Watched(twin, "a second run's ") for twin in twins)]
        # Twins may share their sample: each tensor is kept once.
        self.data: dict[int, tuple[str, torch.Tensor, torch.Tensor]] = {}
        for run in (trained, *twins):
            self._keep("training inputs", run.train.inputs)
            self._keep("training labels", run.train.labels)
        if trained.unlabelled_test_inputs is not None:
            self._keep("test inputs", trained.unlabelled_test_inputs)
        self.random = _global_random_state()

    def __enter__(self) -> Guard:
        for run in self.runs:
            run.set_gradients_aside()
        return self

    def __exit__(self, *error: object) -> None:
        for run in self.runs:
            run.put_gradients_back()

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        if id(tensor) not in self.data:
            self.data[id(tensor)] = (name, tensor, tensor.clone())

    def offence(self) -> str:
        """What was changed since the last call, in words; empty if nothing was."""
        for run in self.runs:
            offence = run.changed_tensors()
            if offence:
                return offence
        for name, now, then in self.data.values():
            if not _same(now, then):
                now.copy_(then)
                return f"changed the {name}"
        return self.brief_offence()

    def brief_offence(self) -> str:
        """As `offence`, of all but the contents of tensors, which cost more to compare than most functions to run."""
        for run in self.runs:
            offence = run.changed_modes()
            if offence:
                return offence
        state = _global_random_state()
        if not _equal_random_state(state, self.random):
            _restore_random_state(self.random)
            return "used the global random generator: take a parameter named rng and draw from that"
        return ""


class _Watched:
    """The network and the initial weights of one run as they were; ``whose`` says in words which run's."""

    def __init__(self, trained: Trained, whose: str) -> None:
        self.trained, self.whose = trained, whose
        self.state = copy.deepcopy(trained.network.state_dict())
        self.initial = {name: tensor.clone() for name, tensor in trained.initial.items()}
        # Walking through a network costs more than most functions, and happens after each.
        self.modules, self.parameters = list(trained.network.modules()), list(trained.network.parameters())
        self.training = [module.training for module in self.modules]
        self.requires_grad = [parameter.requires_grad for parameter in self.parameters]
        self.gradients = [parameter.grad for parameter in self.parameters]

    def set_gradients_aside(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def put_gradients_back(self) -> None:
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient

    def changed_tensors(self) -> str:
        """Which tensors were changed since the last call, in words; empty if none was."""
        network, whose = self.trained.network, self.whose
        changed = [name for name, now in network.state_dict().items() if not _same(now, self.state[name])]
        if changed:
            network.load_state_dict(self.state)
            return f"changed {whose}network ({', '.join(changed)}): work on a copy"
        for name, tensor in self.trained.initial.items():
            if not _same(tensor, self.initial[name]):
                tensor.copy_(self.initial[name])
                return f"changed {whose}initial weights ({name})"
        return ""

    def changed_modes(self) -> str:
        """Which modes of the network were changed since the last call, in words; empty if none was."""
        whose = self.whose
        if [module.training for module in self.modules] != self.training:
            for module, mode in zip(self.modules, self.training):
                module.training = mode
            return f"changed {whose}network's training mode: work on a copy"
        if [parameter.requires_grad for parameter in self.parameters] != self.requires_grad:
            for parameter, flag in zip(self.parameters, self.requires_grad):
                parameter.requires_grad_(flag)
            return f"changed which parameters of {whose}network require gradients: work on a copy"
        if any(parameter.grad is not None for parameter in self.parameters):
            self.trained.network.zero_grad(set_to_none=True)
            return f"left gradients in {whose}network: use torch.autograd.grad, or work on a copy"
        return ""


def _same(now: torch.Tensor, then: torch.Tensor) -> bool:
    if now.shape != then.shape:
        return False
    # A diverged network holds NaN, which equals nothing, itself included.
    return bool(torch.equal(now, then)) or bool(torch.equal(now.nan_to_num(), then.nan_to_num()))


def _global_random_state() -> tuple[torch.Tensor, Any, Any]:
    return torch.get_rng_state(), numpy.random.get_state(), random.getstate()  # noqa: NPY002  watched, never drawn from


def _equal_random_state(now: tuple[torch.Tensor, Any, Any], then: tuple[torch.Tensor, Any, Any]) -> bool:
    same_numpy = now[1][2:] == then[1][2:] and bool((now[1][1] == then[1][1]).all())
    # Beside the main thread, which of Dask's draws from Python's generator itself, nobody can tell whose a draw was.
    same_python = now[2] == then[2] or threading.current_thread() is not threading.main_thread()
    return bool(torch.equal(now[0], then[0])) and same_numpy and same_python


def _restore_random_state(state: tuple[torch.Tensor, Any, Any]) -> None:
    torch.set_rng_state(state[0])
    numpy.random.set_state(state[1])  # noqa: NPY002  watched, never drawn from
    random.setstate(state[2])
