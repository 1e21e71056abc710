"""Read measures of a trained network: resolve what they need, compute each shared quantity once, guard the network."""

from __future__ import annotations

import copy
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from gapbench.datasets.seeds import generator
from gapbench.measures.registry import ROOTS, Estimate, LayerSum, Measure, Quantity, Registry, Undefined
from gapbench.models.trained import Trained


@dataclass(frozen=True)
class Reading:
    """One measure's value on one network, or why there is none.

    ``status`` is "ok", "undefined" (the measure has no value here) or "failed" (it raised, returned a value that is
    not finite, or broke its contract). ``seconds`` is its own time plus that of the shared quantities it was the
    first to need, so seconds add up. ``second_runs``: the ids of the second runs it was made from, where they have any.
    """

    measure: str
    revision: int
    digest: str
    value: float | None
    standard_error: float | None
    status: str
    reason: str
    seconds: float
    second_runs: str = ""


@dataclass(frozen=True)
class LayerReading:
    """The term that one weight layer, by its name, adds to one measure's value on one network."""

    measure: str
    layer: str
    value: float


@dataclass(frozen=True)
class _Absent:
    """Stands for a quantity without a value; keeps the message, not the exception, whose traceback pins tensors."""

    status: str
    reason: str


_MISSING = {
    "history": "the history of this run was not kept",
    "trajectory": "the trajectory of this run was not kept",
    "seed_twins": "this run has no seed twin (the same recipe and data, another seed)",
    "random_label_twin": "this run has no random-label twin (the same recipe and seed, label noise 1)",
    "unlabelled_test_inputs": "no test inputs were given",
}
"""Why a root that a run may lack is absent."""


def read(measures: Sequence[Measure], registry: Registry, trained: Trained, *, seed: int = 0) -> list[Reading]:
    """The readings of these measures on one network, in the order given.

    Each quantity is computed once, and dropped after its last use. Every function gets its own generator, derived
    from ``seed`` and its name, so a value does not depend on what else is read. A function that changes the network,
    its training sample, those of its second runs, or the global generators fails by name, and the change is undone:
    modes and generators are compared after every function, tensors at the end, and if one has changed, everything is
    read again with all compared after every function.
    """
    readings = {
        entry.key: _reading(entry, registry.digest(entry), result, seconds)
        for entry, result, seconds in _results(measures, registry, trained, seed)
    }
    return [readings[entry.key] for entry in measures]


def read_layers(
    measures: Sequence[Measure], registry: Registry, trained: Trained, *, seed: int = 0
) -> list[LayerReading]:
    """The terms, by layer, of those of these measures whose value is a sum or a mean over the weight layers.

    In the order of the measures and, within each, of the forward pass. A measure without a value (`read` says why) or
    without terms has no rows. Guarded as `read` is.
    """
    naming = Measure("layer_names", "", lambda layers: layers, ("layers",), "unpublished", 1)
    results = {entry.key: result for entry, result, _ in _results([*measures, naming], registry, trained, seed)}
    layers = results[naming.key]
    sums = {key: result for key, result in results.items() if isinstance(result, LayerSum) and math.isfinite(result)}
    return [
        LayerReading(entry.key, layers[place].name, term)
        for entry in measures
        if entry.key in sums and not isinstance(layers, _Absent)
        for place, term in zip(sums[entry.key].layers, sums[entry.key].terms, strict=True)
    ]


def _results(
    measures: Sequence[Measure], registry: Registry, trained: Trained, seed: int
) -> Iterator[tuple[Measure, Any, float]]:
    """What each measure returned, or its absence, and the seconds that it took."""
    values: dict[str, Any] = {root: getattr(trained, root) for root in ROOTS if root != "rng"}
    for root, reason in _MISSING.items():
        if values[root] is None:
            values[root] = _Absent("undefined", reason)
    if not trained.initial:
        values["initial"] = _Absent("undefined", "the initial weights of this network are not known")
    if trained.history is not None and not bool(torch.isfinite(trained.history.loss_nats).all()):
        values["history"] = _Absent("undefined", "the training loss is not finite: this training diverged")
    if _diverged(trained):
        values["network"] = _Absent("undefined", "the network's weights are not finite: its training diverged")
    for root, runs in _second_runs(trained).items():
        if any(map(_diverged, runs)):
            values[root] = _Absent("undefined", f"the weights of its {root} are not finite: that training diverged")
    guard = _Guard(trained)
    found = list(_evaluated(measures, registry, dict(values), guard.brief_offence, seed))
    if guard.offence():
        while guard.offence():
            pass  # each call undoes one change
        found = list(_evaluated(measures, registry, values, guard.offence, seed))
    yield from found


def _evaluated(
    measures: Sequence[Measure], registry: Registry, values: dict[str, Any], offence: Callable[[], str], seed: int
) -> Iterator[tuple[Measure, Any, float]]:
    order = sorted(measures, key=lambda m: _large_first(m, registry))
    uses = Counter(need for m in order for need in _demand(m, registry))
    for entry in order:
        started = time.perf_counter()
        for name in _evaluation_order(entry, registry):
            if name not in values:
                values[name] = _evaluate(registry.quantities[name], values, offence, seed)
        result = _evaluate(entry, values, offence, seed)
        yield entry, result, time.perf_counter() - started
        for need in _demand(entry, registry):
            uses[need] -= 1
            if uses[need] == 0:
                values.pop(need, None)


def _second_runs(trained: Trained) -> dict[str, tuple[Trained, ...]]:
    twin = trained.random_label_twin
    return {"seed_twins": trained.seed_twins or (), "random_label_twin": () if twin is None else (twin,)}


def _diverged(trained: Trained) -> bool:
    return not all(bool(torch.isfinite(tensor).all()) for tensor in trained.network.state_dict().values())


def _demand(entry: Measure, registry: Registry) -> tuple[str, ...]:
    return tuple(name for name in registry.closure(entry) if name in registry.quantities)


def _large_first(entry: Measure, registry: Registry) -> tuple[str, ...]:
    return tuple(name for name in _demand(entry, registry) if registry.quantities[name].large)


def _evaluation_order(entry: Measure, registry: Registry) -> list[str]:
    ordered: list[str] = []

    def visit(needs: Iterable[str]) -> None:
        for name in needs:
            if name in registry.quantities and name not in ordered:
                visit(registry.quantities[name].needs)
                ordered.append(name)

    visit(entry.needs)
    return ordered


def _evaluate(entry: Measure | Quantity, values: Mapping[str, Any], offence: Callable[[], str], seed: int) -> Any:
    arguments = []
    for need in entry.needs:
        value = generator(seed, "read", entry.name) if need == "rng" else values[need]
        if isinstance(value, _Absent):
            return value
        arguments.append(value)
    knobs = entry.knobs if isinstance(entry, Measure) else {}
    result: Any
    try:
        result = entry.function(*arguments, **knobs)
    except Undefined as reason:
        result = _Absent("undefined", str(reason))
    except Exception as error:  # noqa: BLE001  a reading records the failure of any code that a user may register
        result = _Absent("failed", f"{entry.name} raised {type(error).__name__}: {error}")
    offended = offence()
    return _Absent("failed", f"{entry.name} {offended}") if offended else result


def _reading(entry: Measure, digest: str, result: Any, seconds: float) -> Reading:
    if isinstance(result, _Absent):
        return Reading(entry.key, entry.revision, digest, None, None, result.status, result.reason, seconds)
    estimate = result if isinstance(result, Estimate) else Estimate(_number(result), 0.0)
    value, error = _number(estimate.value), _number(estimate.standard_error)
    if not (math.isfinite(value) and math.isfinite(error)):
        shown = f"{estimate.value!r} with standard error {error!r}" if isinstance(result, Estimate) else repr(result)
        reason = f"{entry.name} returned {shown}, not a finite number"
        return Reading(entry.key, entry.revision, digest, None, None, "failed", reason, seconds)
    reason = "" if estimate.converged else "the estimator stopped at its cap before it converged"
    return Reading(entry.key, entry.revision, digest, value, error, "ok", reason, seconds)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


class _Guard:
    """Notices, and undoes, a change of the network, its sample, its second runs, or a global generator."""

    def __init__(self, trained: Trained) -> None:
        twins = [twin for runs in _second_runs(trained).values() for twin in runs]
        self.runs = [_Watched(trained, "the "), *(_Watched(twin, "a second run's ") for twin in twins)]
        # Twins may share their sample: each tensor is kept once.
        self.data: dict[int, tuple[str, torch.Tensor, torch.Tensor]] = {}
        for run in (trained, *twins):
            self._keep("training inputs", run.train.inputs)
            self._keep("training labels", run.train.labels)
        if trained.unlabelled_test_inputs is not None:
            self._keep("test inputs", trained.unlabelled_test_inputs)
        self.random = _global_random_state()

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
