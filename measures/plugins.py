"""The registry as a user sees it: the built-in measures, those of installed packages, and those of his own files."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from gapbench.datasets.errors import InputError
from gapbench.measures import BUILT_IN
from gapbench.measures.registry import Measure, Quantity, Registry, build, collect, entries

ENTRY_POINT_GROUP = "gapbench.measures"


def load_registry(files: Sequence[Path] = ()) -> Registry:
    """The built-in entries, those of installed packages, and those of these files.

    Raises: InputError where a file is missing, does not import or declares nothing, or two entries share a name.
    """
    items: list[Measure | Quantity] = [*BUILT_IN.measures.values(), *BUILT_IN.quantities.values()]
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        loaded = point.load()
        items += collect(loaded, point.name) if isinstance(loaded, ModuleType) else entries(loaded, point.name)
    for file in files:
        items += _from_file(Path(file))
    return build(items)


def own_keys(file: Path) -> list[str]:
    """The keys of the measures that a file declares."""
    return [entry.key for entry in _from_file(Path(file)) if isinstance(entry, Measure)]


def _from_file(file: Path) -> list[Measure | Quantity]:
    module = load_file(file)
    found = collect(module, family=file.stem)
    if not found:
        raise InputError(f"{file} declares no measure: decorate a function with @gapbench.measures.measure(...)")
    return found


def load_file(file: Path) -> ModuleType:
    """A Python file as a module, under a name of its own.

    Raises: InputError where the file is missing or raises while it is imported.
    """
    if not file.is_file():
        raise InputError(f"no such file of measures: {file}")
    name = f"gapbench_file_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{file}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise InputError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module
