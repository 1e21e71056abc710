"""From a grid in TOML to the runs of a zoo, each true-label run with its random-label twin.

name = "example"
description = "What it is for"
seeds = [0, 1]            # replicates of every configuration; [0] if left out
twins = true              # add the random-label twin of every run with true labels, where the grid lacks it

[data]                    # fixed fields of DataSpec
name = "digits"
train_size = 256

[run]                     # fixed fields of RunSpec
architecture = "mlp"

[axes]                    # lists: fields of RunSpec or DataSpec; "dataset" is the data set's name
width = [32, 128]
label_noise = [0.0, 1.0]

[trajectory]              # state dicts to keep along the path; recomputed when needed unless stored
epochs = [1]
checkpoints = true        # and checkpoints along the whole path, about 20 to 1,000 steps
stored = true

[[grids]]                 # optional: a union of grids, each of which adds to, or replaces in, the tables above
axes.depth = [1, 3]
seeds = [0]               # and may have seeds of its own
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from gapbench.datasets.errors import InputError, unknown
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.fields import check_value, data_fields, missing, run_fields
from gapbench.models.spec import RunSpec, run_id, twin

_TABLES = ("data", "run", "axes")
_TOP = ("name", "description", "seeds", "twins", "trajectory", "grids", *_TABLES)


@dataclass(frozen=True)
class Zoo:
    """The runs of a zoo, and what its grid says of them.

    ``axes``: the values of every axis as given, over all grids; ``trajectory_epochs``: the epochs whose state dicts a
    measure may see; ``trajectory_checkpoints``: whether it may also see checkpoints along the whole path; both are kept
    on disk where ``trajectory_stored``.
    """

    name: str
    description: str
    specs: tuple[RunSpec, ...]
    axes: Mapping[str, tuple[Any, ...]]
    source_text: str
    trajectory_epochs: tuple[int, ...] = ()
    trajectory_checkpoints: bool = False
    trajectory_stored: bool = False


def bundled() -> tuple[str, ...]:
    """The names of the zoos that come with gapbench."""
    folder = resources.files("gapbench.evaluate") / "zoos"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_zoo(name_or_path: str | Path, root_seed: int = 0) -> Zoo:
    """The zoo of a bundled name, or of a TOML file.

    ``root_seed`` becomes the ``root_seed`` of every `RunSpec` and the ``seed`` of every `DataSpec`.

    Raises: InputError where there is no such zoo, the TOML is wrong, a name is unknown, a value has the wrong type or
    stands twice, or the grid is empty.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise InputError(f"there is no grid {path}: give a TOML file, or one of {', '.join(bundled())}")
        return parse(path.read_text(), str(path), root_seed)
    if str(name_or_path) not in bundled():
        raise InputError(f"{unknown('zoo', str(name_or_path), bundled())} (or give the path of a TOML file)")
    source = resources.files("gapbench.evaluate") / "zoos" / f"{name_or_path}.toml"
    return parse(source.read_text(), f"{name_or_path}.toml", root_seed)


def parse(text: str, origin: str, root_seed: int = 0) -> Zoo:
    """The zoo of a grid in TOML; ``origin`` names it in errors."""
    try:
        grid = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found.group(1)) if found else len(text.splitlines())
        raise InputError(f"{origin}, line {line}: this is not TOML: {error}") from error
    try:
        return _zoo(grid, text, Path(origin).stem, root_seed)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from error


def shard(specs: tuple[RunSpec, ...], part: str) -> tuple[RunSpec, ...]:
    """The runs of one part of a zoo: "3/16" is the third of sixteen; the parts are disjoint and make the whole.

    Raises: InputError where ``part`` is not of that form.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    index, parts = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not 1 <= index <= parts:
        raise InputError(f"shard {part!r} is not of the form 3/16: the third of sixteen parts")
    # In the order of the ids, which are hashes, slow configurations spread over the parts.
    chosen = set(sorted(run_id(spec) for spec in specs)[index - 1 :: parts])
    return tuple(spec for spec in specs if run_id(spec) in chosen)


def _zoo(grid: dict[str, Any], text: str, stem: str, root_seed: int) -> Zoo:
    _check_names(grid, _TOP, "key")
    seeds = _values("seeds", grid.get("seeds", [0]), "int")
    twins = check_value("twins", grid.get("twins", True), "bool")
    trajectory = _table(grid, "trajectory")
    _check_names(trajectory, ("epochs", "checkpoints", "stored"), "key of [trajectory]")
    epochs = _values("trajectory.epochs", trajectory.get("epochs", []), "int", may_be_empty=True)
    specs: dict[str, RunSpec] = {}
    axes: dict[str, list[Any]] = {}
    for tables, own_seeds in _grids(grid):
        fixed = {**_fixed(tables["data"], data_fields(), "data"), **_fixed(tables["run"], run_fields(), "run")}
        varied = _axes(tables["axes"], fixed)
        for name, values in varied.items():
            axes.setdefault(name, []).extend(value for value in values if value not in axes.get(name, []))
        for spec in _product(fixed, varied, seeds if own_seeds is None else own_seeds, root_seed):
            specs.setdefault(run_id(spec), spec)
            if twins and spec.data.label_noise == 0.0 and not spec.adopted:
                specs.setdefault(run_id(twin(spec)), twin(spec))
    return Zoo(
        name=check_value("name", grid.get("name", stem), "str"),
        description=check_value("description", grid.get("description", ""), "str"),
        specs=tuple(specs.values()),
        axes={name: tuple(values) for name, values in axes.items()},
        source_text=text,
        trajectory_epochs=tuple(sorted(epochs)),
        trajectory_checkpoints=check_value("trajectory.checkpoints", trajectory.get("checkpoints", False), "bool"),
        trajectory_stored=check_value("trajectory.stored", trajectory.get("stored", False), "bool"),
    )


def _grids(grid: dict[str, Any]) -> Iterator[tuple[dict[str, dict[str, Any]], tuple[int, ...] | None]]:
    shared = {name: _table(grid, name) for name in _TABLES}
    grids = grid.get("grids", [{}])
    if not isinstance(grids, list) or not all(isinstance(part, dict) for part in grids):
        raise InputError("grids must be tables: write [[grids]] above each")
    if not grids:
        raise InputError("grids is empty: there is nothing to train")
    for part in grids:
        _check_names(part, (*_TABLES, "seeds"), "key of [[grids]]")
        own_seeds = _values("seeds of [[grids]]", part["seeds"], "int", "seeds") if "seeds" in part else None
        own = {name: _table(part, name) for name in _TABLES}
        # A grid that fixes a shared axis, or varies a shared value, replaces it.
        moved = {name: {*own["data"], *own["run"], *own["axes"]} for name in _TABLES}
        tables = {
            name: {**{key: v for key, v in shared[name].items() if key not in moved[name]}, **own[name]}
            for name in _TABLES
        }
        yield tables, own_seeds


def _table(grid: dict[str, Any], name: str) -> dict[str, Any]:
    table = grid.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{name} is {table!r}, but must be a table: write [{name}] above its values")
    if name == "data" and "name" in table:
        # Beside the fields of a run, "name" would be ambiguous: it is the data set's.
        return {"dataset": table["name"], **{key: value for key, value in table.items() if key != "name"}}
    return table


def _check_names(table: Mapping[str, Any], known: tuple[str, ...], kind: str) -> None:
    for name in table:
        if name not in known:
            raise unknown(kind, name, known)


def _fixed(table: dict[str, Any], types: Mapping[str, str], where: str) -> dict[str, Any]:
    _check_names(table, tuple(types), f"field of [{where}]")
    return {name: check_value(name, value, types[name]) for name, value in table.items()}


def _axes(table: dict[str, Any], fixed: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    types = {**run_fields(), **data_fields()}
    varied = {}
    for name, values in table.items():
        if name == "seed":
            raise InputError('the axis "seed" has a key of its own: write seeds = [0, 1] at the top')
        if name not in types:
            raise unknown("axis", name, types)
        if name in fixed:
            raise InputError(f"{name} is both fixed ({fixed[name]!r}) and an axis ({values!r}): keep one")
        varied[name] = _values(f"axis {name}", values, types[name], name)
    return varied


def _values(shown: str, values: Any, kind: str, field: str = "", *, may_be_empty: bool = False) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise InputError(f"{shown} is {values!r}, but must be a list: write [{values!r}]")
    if not values and not may_be_empty:
        raise InputError(f"{shown} is empty, so the grid is: give it a value or delete it")
    checked = tuple(check_value(field or shown, value, kind) for value in values)
    for position, value in enumerate(checked):
        if value in checked[:position]:
            raise InputError(f"{shown} has the value {value!r} twice: delete one")
    return checked


def _product(
    fixed: dict[str, Any], varied: dict[str, tuple[Any, ...]], seeds: tuple[int, ...], root_seed: int
) -> Iterator[RunSpec]:
    lacking = missing({*fixed, *varied})
    if lacking:
        raise InputError(f"the grid lacks {', '.join(lacking)}: give each in [data], [run] or [axes]")
    for combination in itertools.product(*varied.values()):
        chosen = {**fixed, **dict(zip(varied, combination))}
        data = {name: chosen.pop(name) for name in data_fields() if name in chosen}
        data["name"] = data.pop("dataset")
        for seed in seeds:
            yield RunSpec(data=DataSpec(**data, seed=root_seed), **chosen, seed=seed, root_seed=root_seed)
