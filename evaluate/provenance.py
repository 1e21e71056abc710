"""What a zoo was made with: versions and platform, without the names of machines or people."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.evaluate.store import Store

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

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


def provenance(folder: Path, table: Table) -> dict[str, Any]:
    """What is needed to make the numbers of a stored zoo again, and to tell whether they are the same.

    The environments that it was made in (from provenance.json) and the present one where it is none of them, the seeds,
    and SHA-256 digests of the grid, of the outcomes and of the readings, each in a canonical text of its numbers.
    """
    known = Store(folder).record("provenance.json").get("environments", [])
    now = environment()
    found: dict[str, Any] = {"zoo": folder.name, "runs": len(table.runs), "readings": len(table.readings)}
    for at, made in enumerate(known):
        found["made with" if len(known) == 1 else f"made with ({at + 1} of {len(known)})"] = made
    if now not in known:
        found["scored with"] = now
    seeds = {name: sorted({int(seed) for seed in table.runs[name]}) for name in _SEEDS if name in table.runs}
    outcomes = table.runs.sort_index()[["train_error", "test_error", "clean_test_error", "epochs", "steps"]]
    readings = table.readings.sort_values(["run", "measure"])[["run", "measure", "revision", "value", "status"]]
    return {
        **found,
        "seeds": seeds,
        "digests": {
            "grid (zoo.toml)": hashlib.sha256((folder / "zoo.toml").read_bytes()).hexdigest(),
            "outcomes": hashlib.sha256(outcomes.to_csv().encode()).hexdigest(),
            "readings": hashlib.sha256(readings.to_csv(index=False).encode()).hexdigest(),
        },
    }


_SEEDS = ("root_seed", "data_seed", "seed")
