"""A Python file of the user's as a module."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gapbench.datasets.errors import InputError


def load_file(file: Path, holds: str) -> ModuleType:
    """A Python file as a module, under a name of its own; ``holds`` says what the file holds, for the message.

    Raises: InputError where the file is missing or raises while it is imported.
    """
    if not file.is_file():
        raise InputError(f"no such file of {holds}: {file}")
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
