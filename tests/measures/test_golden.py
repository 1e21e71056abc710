"""Golden values: what every measure reads on stored networks changes only together with its revision.

``./run python tests/measures/test_golden.py`` writes them anew: the networks where they are missing, and the values of
measures that are new, gone, or of another revision. A value that moved without a new revision is never overwritten.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import Reading, read
from gapbench.models.build import build
from gapbench.models.spec import RunSpec
from gapbench.models.train import train
from gapbench.models.trained import History, Trained, Trajectory

FOLDER = Path(__file__).parent / "golden"
VALUES = FOLDER / "values.json"

RELATIVE = 5e-5
"""Values agree to this across processors: ascents in single precision end 8e-6 apart on two generations of one make."""

_PLAIN = RunSpec(
    DataSpec("digits", train_size=40), "mlp", width=16, depth=2, learning_rate=0.05, batch_size=8, max_epochs=3000
)
SPECS = {
    "mlp": _PLAIN,
    "mlp_random_labels": replace(
        _PLAIN, data=replace(_PLAIN.data, label_noise=1.0), learning_rate=0.01, width=32, batch_size=20
    ),
    "cnn_batch_norm": replace(_PLAIN, architecture="cnn", width=8, norm="batch"),
}


def stored(name: str) -> Trained:
    """A network as it was written, with its sample, training curve and path."""
    tensors = safetensors.torch.load_file(FOLDER / f"{name}.safetensors")
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, entry = key.partition(".")
        parts.setdefault(part, {})[entry] = tensor.clone()
    sample = Split(parts["train"]["inputs"], parts["train"]["labels"], 10)
    network = build(SPECS[name], tuple(sample.inputs.shape[1:]), 10, torch.Generator())
    names = list(network.state_dict())
    initial, final, first = ({key: parts[part][key] for key in names} for part in ("initial", "final", "epoch1"))
    network.load_state_dict(final)
    network.eval()
    return Trained(network, initial, sample, History(**parts["history"]), Trajectory({1: first}))


def write_network(name: str) -> None:
    trained, outcome, _ = train(SPECS[name], load(SPECS[name].data), trajectory_epochs=(1,))
    assert outcome.train_error == 0
    assert trained.trajectory is not None
    assert trained.history is not None
    curve = {field: column for field, column in vars(trained.history).items() if column is not None}
    parts: dict[str, Any] = {
        "initial": trained.initial,
        "final": trained.network.state_dict(),
        "epoch1": trained.trajectory.states[1],
        "history": curve,
        "train": {"inputs": trained.train.inputs, "labels": trained.train.labels},
    }
    tensors = {f"{part}.{key}": tensor.contiguous() for part, state in parts.items() for key, tensor in state.items()}
    safetensors.torch.save_file(tensors, FOLDER / f"{name}.safetensors")


def readings_of(trained: Trained) -> dict[str, Reading]:
    return {reading.measure: reading for reading in read(list(BUILT_IN.measures.values()), BUILT_IN, trained)}


def record(reading: Reading) -> dict[str, Any]:
    return {key: getattr(reading, key) for key in ("revision", "value", "standard_error", "status", "reason")}


def golden() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    return found


def differs(reading: Reading, known: dict[str, Any]) -> str:
    """How a reading differs from its golden value; empty where it does not. A sampled value may move by its error."""
    if reading.status != known["status"]:
        return f"was {known['status']} ({known['value']}), is {reading.status} ({reading.reason})"
    if reading.value is None:
        return ""
    tolerance = max(RELATIVE * abs(known["value"]), known["standard_error"], 1e-12)
    if math.isclose(reading.value, known["value"], rel_tol=0, abs_tol=tolerance):
        return ""
    return f"was {known['value']!r} ± {known['standard_error']:.2g}, is {reading.value!r}"


@pytest.fixture(scope="module", params=list(SPECS))
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Reading], dict[str, dict[str, Any]]]:
    return readings_of(stored(request.param)), golden()[request.param]


def test_values_change_only_with_the_revision(case: Any) -> None:
    readings, known = case
    same = [key for key in readings if key in known and readings[key].revision == known[key]["revision"]]
    assert len(same) > 100
    moved = {key: text for key in same if (text := differs(readings[key], known[key]))}
    assert not moved, f"mend these, or raise their revision and write the golden values anew: {moved}"


def test_every_measure_has_a_golden_value_of_its_revision(case: Any) -> None:
    readings, known = case
    stale = {key for key in {*readings, *known} if key not in readings or key not in known}
    stale |= {key for key in set(readings) & set(known) if readings[key].revision != known[key]["revision"]}
    assert not stale, f"./run python tests/measures/test_golden.py writes the golden values of: {sorted(stale)}"


def test_no_reading_fails(case: Any) -> None:
    assert {key: reading.reason for key, reading in case[0].items() if reading.status == "failed"} == {}


def test_a_value_that_moved_is_seen(case: Any) -> None:
    """The positive control: a thousandth of a value beyond its error, or another status, is a difference."""
    readings, _ = case
    for reading in readings.values():
        if reading.value is None:
            assert differs(replace(reading, value=1.0, status="ok"), record(reading))
        else:
            moved = reading.value * 1.001 + 2 * (reading.standard_error or 0.0) + 1e-9
            assert differs(replace(reading, value=moved), record(reading))


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    old, new = golden(), {}
    for name in SPECS:
        if not (FOLDER / f"{name}.safetensors").exists():
            write_network(name)
        known, readings = old.get(name, {}), readings_of(stored(name))
        new[name] = {
            key: known[key] if key in known and known[key]["revision"] == reading.revision else record(reading)
            for key, reading in readings.items()
        }
        print(f"{name}: {len(new[name])} values, {sum(new[name][key] != known.get(key) for key in new[name])} new")
    VALUES.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
