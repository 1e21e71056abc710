"""What the tests of the phenomena share: planted tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """The module of planted tables; the tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("planted_phenomena", Path(__file__).parent / "planted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
