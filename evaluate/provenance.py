"""What a zoo was made with: versions and platform, without the names of machines or people."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("gapbench", "torch", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "safetensors", "joblib")


def environment() -> dict[str, Any]:
    """Python, platform and package versions, one entry each; threads are those of one worker."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "torch_threads": 1,
        **packages,
    }
