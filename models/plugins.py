"""Networks of the user's own: declared in a file, or by an installed package's entry point."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from gapbench.datasets.errors import InputError
from gapbench.models.build import ARCHITECTURES, Architecture
from gapbench.models.python_files import load_file

ENTRY_POINT_GROUP = "gapbench.networks"

_MARK = "__gapbench_architecture__"
_A = TypeVar("_A", bound=Callable[..., Any])


def architecture(**check: Any) -> Callable[[_A], _A]:
    """Declare a network: a class or a function that is called with a `RunSpec`, the shape of one input and the number
    of classes, and gives an ``nn.Module``. Its name is its name in a grid: ``architecture = "MyNetwork"``.

    ``check``: fields of the spec that `gapbench check` builds it with, by default width = 16 and depth = 2. Initial
    values are those that the constructor draws from PyTorch's global generator, which is seeded for each run.

    @gapbench.architecture(width=8)
    class MyNetwork(nn.Sequential):
        def __init__(self, spec, input_shape, classes):
            super().__init__(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))
    """

    def mark(declared: _A) -> _A:
        setattr(declared, _MARK, dict(check))
        return declared

    return mark


def load_architectures(files: Sequence[Path] = ()) -> Mapping[str, Architecture]:
    """The bundled architectures, those of installed packages, and those of these files, by name.

    Raises: InputError where a file is missing, does not import or declares none, or two architectures share a name.
    """
    found: dict[str, Architecture] = dict(ARCHITECTURES)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        loaded = point.load()
        named = declared_in(loaded) if isinstance(loaded, ModuleType) else {point.name: loaded}
        _add(found, named, f"the entry point {point.name}")
    for file in files:
        own = own_architectures(file)
        if not own:
            raise InputError(f"{file} declares no network: write @gapbench.architecture() above a class or function")
        _add(found, own, str(file))
    return MappingProxyType(found)


def own_architectures(file: Path) -> Mapping[str, Architecture]:
    """The architectures that a file declares, by name; none where it declares none.

    Raises: InputError where the file is missing or does not import.
    """
    return declared_in(load_file(Path(file), "networks"))


def declared_in(module: ModuleType) -> dict[str, Architecture]:
    """The architectures that a module itself declares, by name."""
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    return {value.__name__: value for value in own if _MARK in vars(value)}


def check_fields(own: Architecture) -> Mapping[str, Any]:
    """The fields of a spec that an architecture of the user's asks to be checked with."""
    fields: Mapping[str, Any] = getattr(own, _MARK, {})
    return fields


def source_digest(own: Architecture) -> str:
    """SHA-256 of the file that an architecture is written in, comments and layout left out."""
    file = inspect.getsourcefile(inspect.unwrap(own))
    text = "" if file is None else Path(file).read_text(encoding="utf-8")
    return hashlib.sha256(ast.unparse(ast.parse(text)).encode()).hexdigest()


def _add(found: dict[str, Architecture], own: Mapping[str, Architecture], where: str) -> None:
    for name, value in own.items():
        if name in found:
            raise InputError(f"{where} declares the network {name!r}, and there is one of that name: rename it")
        found[name] = value
