"""The fields of a run that a grid can set, their types and their ranges."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec
from gapbench.models.spec import RunSpec

# What is allowed, in words and as a test; what depends on the network or the data set is checked there.
_RANGES: Mapping[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "at least 1": (
        lambda v: v >= 1,
        ("width", "batch_size", "max_epochs", "train_size", "test_size", "dimension", "degree"),
    ),
    "at least 2": (lambda v: v >= 2, ("classes",)),
    "at least 0": (
        lambda v: v >= 0,
        (
            "depth",
            "weight_decay",
            "gate_ridge",
            "patience",
            "output_scale",
            "seeds",
            "stop_loss_nats",
            "stop_margin",
            "trajectory.epochs",
        ),
    ),
    "above 0": (lambda v: v > 0, ("learning_rate", "initial_scale", "sam_radius")),
    "at least 0 and at most 1": (lambda v: 0 <= v <= 1, ("label_noise",)),
    "at least 0 and below 1": (lambda v: 0 <= v < 1, ("momentum", "dropout")),
}
_EXPECTED = {"int": "a whole number", "float": "a number", "str": "a text in quotes", "bool": "true or false"}


def run_fields() -> dict[str, str]:
    """The names and types of what a grid can set of a `RunSpec`."""
    return {f.name: _kind(f) for f in dataclasses.fields(RunSpec) if f.name not in ("data", "seed", "root_seed")}


def data_fields() -> dict[str, str]:
    """The names and types of what a grid can set of a `DataSpec`; its name is called "dataset"."""
    fields = {f.name: _kind(f) for f in dataclasses.fields(DataSpec) if f.name not in ("name", "seed")}
    return {"dataset": "str", **fields}


def missing(given: Collection[str]) -> list[str]:
    """The fields without a default that are not given."""
    required = [
        f.name for spec in (DataSpec, RunSpec) for f in dataclasses.fields(spec) if f.default is dataclasses.MISSING
    ]
    names = ["dataset" if name == "name" else name for name in required if name != "data"]
    return [name for name in names if name not in given]


def check_value(name: str, value: Any, kind: str) -> Any:
    """The value, a whole number becoming a float where one is expected.

    Raises: InputError where it has another type, is not finite, or is out of range.
    """
    fits: Mapping[str, bool] = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
    }
    if not fits[kind]:
        raise InputError(f"{name} has the value {value!r} ({type(value).__name__}), but must be {_EXPECTED[kind]}")
    if kind in ("int", "float"):
        _check_range(name, value)
    return float(value) if kind == "float" else value


def _check_range(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"{name} has the value {value!r}, but must be finite")
    for words, (inside, names) in _RANGES.items():
        if name in names and not inside(value):
            raise InputError(f"{name} has the value {value!r}, but must be {words}")


def _kind(field: dataclasses.Field[Any]) -> str:
    return str(field.type).removesuffix(" | None")
