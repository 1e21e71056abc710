"""What a zoo was made from beside its grid: the user's own data and networks, which may not change under it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.datasets.errors import InputError
from gapbench.evaluate.store import Store
from gapbench.models.spec import RunSpec

if TYPE_CHECKING:
    from gapbench.models.build import Architecture

FILE = "sources.json"


def check_sources(
    store: Store, specs: Sequence[RunSpec], architectures: Mapping[str, Architecture], data_dir: Path | None
) -> None:
    """Compare the user's own data and networks with those that the zoo was begun with, and remember new ones.

    Raises: InputError where one has changed: runs made from both would not be comparable.
    """
    found = {**_networks(specs, architectures), **_data(specs, data_dir)}
    if not found:
        return

    def merge(old: dict[str, Any]) -> dict[str, Any]:
        for name, digest in found.items():
            if old.get(name, digest) != digest:
                raise InputError(
                    f"{name} has changed since {store.path} was begun (SHA-256 {old[name][:8]}… to {digest[:8]}…): "
                    "put back what it was, or name another folder with --out"
                )
        return {**old, **found}

    store.update(FILE, merge)


def _networks(specs: Sequence[RunSpec], architectures: Mapping[str, Architecture]) -> dict[str, str]:
    from gapbench.models.build import ARCHITECTURES
    from gapbench.models.plugins import source_digest

    own = {spec.architecture for spec in specs} - set(ARCHITECTURES)
    return {f"network {name}": source_digest(architectures[name]) for name in sorted(own)}


def _data(specs: Sequence[RunSpec], data_dir: Path | None) -> dict[str, str]:
    from gapbench.datasets.files import locate_own
    from gapbench.datasets.load import resolved

    named = {spec.data.path: spec.data for spec in specs if spec.data.path is not None}
    return {
        f"data {path}": content_digest(locate_own(data, resolved(data_dir), "the data of this grid"))
        for path, data in sorted(named.items())
    }


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for part in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        total.update(f"{part.relative_to(path)}\0{content_digest(part)}\n".encode())
    return total.hexdigest()
