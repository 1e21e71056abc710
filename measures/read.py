"""Read measures of a trained network: resolve what they need, compute each shared quantity once, guard the network."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gapbench.datasets.seeds import generator
from gapbench.measures.guard import Guard, second_runs
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


Step = Callable[[int, int], None]
"""Told, after each measure, how many have been read, and of how many."""


def read(
    measures: Sequence[Measure], registry: Registry, trained: Trained, *, seed: int = 0, step: Step | None = None
) -> list[Reading]:
    """The readings of these measures on one network, in the order given.

    Each quantity is computed once, and dropped after its last use. Every function gets its own generator, derived
    from ``seed`` and its name, so a value does not depend on what else is read. A function that changes the network,
    its training sample, those of its second runs, or the global generators fails by name, and the change is undone:
    modes and generators are compared after every function, tensors at the end, and if one has changed, everything is
    read again with all compared after every function.
    """
    readings = {
        entry.key: _reading(entry, registry.digest(entry), result, seconds)
        for entry, result, seconds in _results(measures, registry, trained, seed, step)
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
    measures: Sequence[Measure], registry: Registry, trained: Trained, seed: int, step: Step | None = None
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
    for root, runs in second_runs(trained).items():
        if any(map(_diverged, runs)):
            values[root] = _Absent("undefined", f"the weights of its {root} are not finite: that training diverged")
    with Guard(trained) as guard:
        found = []
        for result in _evaluated(measures, registry, dict(values), guard.brief_offence, seed):
            found.append(result)
            if step is not None:
                step(len(found), len(measures))
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
    except OverflowError as error:
        result = _Absent("undefined", f"a number beyond those of double precision ({error})")
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
