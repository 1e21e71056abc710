"""Memory: how much there is, how much a worker took, and how many workers fit."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from gapbench.evaluate import files
from gapbench.evaluate.store import Store

RECORD = "memory.jsonl"
UNKNOWN_WORKER_BYTES = 1_500_000_000
"""What a worker is taken to need before any was measured: PyTorch, a data set, and a kernel of a thousand examples."""
RESERVE = 0.1
"""The share of the memory that is left to everything else."""
_RECORDS_READ = 200


def available_bytes() -> int | None:
    """The memory that new processes can take: what the system and the limits of this container leave.

    `None` where the system does not say.
    """
    found = [amount for amount in (_system_bytes(), *_container_bytes()) if amount is not None]
    return min(found) if found else None


def _system_bytes() -> int | None:
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container_bytes() -> list[int | None]:
    """What control groups leave, version 2 and version 1."""
    root = Path("/sys/fs/cgroup")
    pairs = (
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    )
    return [_left(limit, used) for limit, used in pairs]


def _left(limit: Path, used: Path) -> int | None:
    try:
        most, now = limit.read_text().strip(), used.read_text().strip()
    except OSError:
        return None
    return max(int(most) - int(now), 0) if most.isdigit() and now.isdigit() else None


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def record(store: Store, run: str) -> None:
    """Append this process's peak to a run's folder."""
    row = {"peak_bytes": peak_bytes()}
    files.append_lines(store.folder(run) / RECORD, [json.dumps({**row, "check": files.check_sum(run, row)})])


def check(folder: Path, run: str) -> None:
    """Raises: Damaged where a line of a run's record is damaged."""
    for number, row in enumerate(files.read_lines(folder / RECORD), 1):
        if row.pop("check", None) not in (None, files.check_sum(run, row)):
            raise files.Damaged(
                f"{folder / RECORD}, line {number}, is damaged: delete the line; it is told by `plan` only"
            )


def worker_bytes(store: Store) -> int | None:
    """The most that a worker took on any of the runs looked at, `None` where none was measured."""
    peaks: list[int] = []
    for _, folder in store.folders():
        if len(peaks) >= _RECORDS_READ:
            break
        peaks += [int(row["peak_bytes"]) for row in files.read_lines(folder / RECORD)]
    return max(peaks, default=None)


def jobs_that_fit(cores: int, each: int | None, available: int | None) -> int:
    """One worker a core, or fewer where so many of ``each`` bytes do not fit into what is available; at least one."""
    if available is None:
        return cores
    return max(1, min(cores, int((1 - RESERVE) * available // (each or UNKNOWN_WORKER_BYTES))))
