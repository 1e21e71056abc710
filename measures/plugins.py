"""The registry as a user sees it: the built-in measures, those of installed packages, and those of his own files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from gapbench.datasets.errors import InputError
from gapbench.measures import BUILT_IN
from gapbench.measures.registry import Measure, Quantity, Registry, build, collect, entries
from gapbench.models.python_files import load_file

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
    """The keys of the measures that a file declares; none where it declares none."""
    found = collect(load_file(Path(file), "measures"), family=file.stem)
    return [entry.key for entry in found if isinstance(entry, Measure)]


def _from_file(file: Path) -> list[Measure | Quantity]:
    module = load_file(file, "measures")
    found = collect(module, family=file.stem)
    if not found:
        raise InputError(f"{file} declares no measure: decorate a function with @gapbench.measures.measure(...)")
    return found
