"""A zoo so small that it is trained and read in a second, and measures of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import Zoo, parse

GRID = """
name = "tiny"
description = "For tests"
seeds = [0]
[data]
name = "digits"
train_size = 32
test_size = 50
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
max_epochs = 3
[axes]
width = [4, 6]
[trajectory]
epochs = [1]
stored = STORED
"""

MEASURES = '''
"""Measures of every kind, for tests."""

import torch

from gapbench.measures import Undefined, measure


@measure(source="unpublished", sign=1)
def weight_sum(network) -> float:
    """Sum of all weights."""
    return float(sum(float(p.detach().double().sum()) for p in network.parameters()))


@measure(source="unpublished", sign=-1, control=True)
def drawn(rng) -> float:
    """One uniform draw."""
    return float(torch.rand(1, generator=rng))


@measure(source="unpublished", sign=1)
def distance_moved(initial, trajectory) -> float:
    """Squared distance from the initial weights after the first epoch."""
    return float(sum((trajectory.states[1][name] - initial[name]).double().square().sum() for name in initial))


@measure(source="unpublished", sign=1)
def change_of_labels(network, random_label_twin) -> float:
    """How much the sum of all weights differs from that of the random-label twin."""
    return weight_sum(network) - weight_sum(random_label_twin.network)


@measure(source="unpublished", sign=1)
def broken(network) -> float:
    """It always raises."""
    raise RuntimeError("it always raises")


@measure(source="unpublished", sign=1)
def without_value(network) -> float:
    """It never has a value."""
    raise Undefined("it never has a value")
'''

KEYS = ("weight_sum", "drawn", "distance_moved", "broken", "without_value")


@pytest.fixture
def keys() -> list[str]:
    """The measures in `measure_file`."""
    return list(KEYS)


@pytest.fixture
def measure_file(tmp_path: Path) -> Path:
    """A user's file of measures: one that works, one that draws, one along the path, one failing, one undefined."""
    path = tmp_path / "tiny_measures.py"
    path.write_text(MEASURES)
    return path


@pytest.fixture
def tiny_zoo() -> Zoo:
    """Four runs, two of them twins, whose trajectory is stored."""
    return parse(GRID.replace("STORED", "true"), "tiny.toml")


@pytest.fixture
def forgetful_zoo() -> Zoo:
    """The same four runs; their trajectory is not stored."""
    return parse(GRID.replace("STORED", "false"), "tiny.toml")


@pytest.fixture
def result() -> Callable[[Path], dict[str, Any]]:
    """Everything that a zoo's folder says, but for times and the history of how it came about."""

    def collect(path: Path) -> dict[str, Any]:
        store = Store(path)
        found = {}
        for run in store.runs():
            stored = store.stored(run)
            assert stored is not None
            contents = {name: store.content(stored, name) for name in sorted(stored.digests)}
            outcome = {name: value for name, value in vars(stored.outcome).items() if name != "seconds"}
            readings = {
                key: {name: value for name, value in row.items() if name != "seconds"}
                for key, row in store.readings(run).items()
            }
            found[run] = (contents, outcome, readings)
        return found

    return collect


@pytest.fixture
def rooted() -> bool:
    """Whether the tests run as root, for whom no file is read-only."""
    return os.geteuid() == 0
