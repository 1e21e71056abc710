"""What a caller's words stand for: zoos by name or path, measures by pattern, and how many workers there are."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from gapbench.datasets.errors import InputError, unknown

ZOOS = Path("zoos")
"""Where zoos are kept unless told otherwise, relative to the working directory."""


def locate(zoo: str | Path) -> Path:
    """The folder of a stored zoo: a path, or a name under ./zoos.

    Raises: InputError where there is none, with those that there are.
    """
    for folder in (Path(zoo), ZOOS / zoo):
        if (folder / "zoo.toml").is_file():
            return folder
    there = sorted(path.parent.name for path in ZOOS.glob("*/zoo.toml"))
    known = (
        f"here are: {', '.join(there)}"
        if there
        else f"there is none in ./{ZOOS} yet; make one with: gapbench run {zoo}"
    )
    raise InputError(f"no stored zoo {str(zoo)!r}; {known}")


def matching(known: Collection[str], pattern: str) -> list[str]:
    """The keys that a name or a glob stands for; a plain name stands for its variants too.

    Raises: InputError where there is none, with the closest.
    """
    from fnmatch import fnmatchcase

    # A variant's key has brackets, which fnmatch would read as a set of characters.
    found = [key for key in known if key == pattern or fnmatchcase(key.partition("[")[0], pattern)]
    if not found:
        raise unknown("measure", pattern, known)
    return found


def cores() -> int:
    """The number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(folder: Path) -> int:
    """One worker a core, fewer where the memory that workers on this zoo took so far does not fit so often."""
    from gapbench.evaluate import memory
    from gapbench.evaluate.store import Store

    return memory.jobs_that_fit(cores(), memory.worker_bytes(Store(folder)), memory.available_bytes())


def folder_of(name: str, out: str | Path | None) -> Path:
    """The folder of a zoo of this name: ``out``, or its place under ./zoos."""
    return Path(out) if out is not None else ZOOS / name


def paths(files: Collection[str | Path]) -> list[Path]:
    """These files, as paths."""
    return [Path(file) for file in files]


def keys_of(only: Sequence[str], files: Collection[str | Path], cost: str | None) -> list[str] | None:
    """The keys of the measures that match a pattern of ``only`` and cost at most ``cost``; None for all.

    Raises: InputError where a pattern matches none, or there is no such cost.
    """
    if not only and cost is None:
        return None
    from gapbench.measures.plugins import load_registry
    from gapbench.measures.registry import COSTS

    registry = load_registry(paths(files))
    keys = list(dict.fromkeys(key for pattern in only or ("*",) for key in matching(registry.measures, pattern)))
    if cost is None:
        return keys
    if cost not in COSTS:
        raise unknown("cost", cost, COSTS)
    most = COSTS.index(cost)
    return [key for key in keys if COSTS.index(registry.cost(registry.measures[key])) <= most]
