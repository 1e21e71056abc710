"""The claim on a run's folder: one writer a run, across processes and machines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.evaluate.files import locked, storing

if TYPE_CHECKING:
    from gapbench.evaluate.store import Store

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0
"""A claim of another machine is dead after twelve missed heartbeats …"""
CONFIRMATION_SECONDS = 2 * HEARTBEAT_SECONDS
"""… if it also misses two more while it is watched, so that a clock that jumps cannot expire a living claim."""
UNSIGNED_SECONDS = 1.0
"""A claim without an owner's name is dead after this long: its maker was killed between creating and signing it."""


@dataclass(frozen=True)
class Claim:
    """The right to write in a run's folder, until released or lost."""

    path: Path
    token: str

    def held(self) -> bool:
        """Whether the claim is still this one: a machine that slept for minutes may have lost it to another."""
        return _owner(self.path).get("token") == self.token


@contextlib.contextmanager
def claimed(folder: Path, lock_folder: Path) -> Iterator[Claim | None]:
    """Claim a run's folder while the block runs; `None` where a living process holds it.

    A claim is a file created exclusively, with host, process and start time, whose modification time is refreshed by
    a thread. It is expired at once where its process on this machine is dead, and otherwise by missed heartbeats.

    Raises: StorageError where the file system refuses.
    """
    claim = _take(folder / "claim", lock_folder)
    if claim is None:
        yield None
        return
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(claim, stop), name="claim heartbeat", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        stop.set()
        thread.join()
        if claim.held():
            with storing(claim.path):
                claim.path.unlink(missing_ok=True)


def holder(folder: Path) -> str:
    """Who holds the claim on a run's folder, in words."""
    owner = _owner(folder / "claim")
    return f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"


@dataclass(frozen=True)
class Holder:
    """Who holds the claim on a run: in words, for how many seconds, and whether that process is known to live.

    ``alive``: of a process on this machine, whether it runs; of another machine's, whether its heartbeat is recent.
    """

    run: str
    owner: str
    seconds: float
    alive: bool


def holders(store: Store) -> list[Holder]:
    """The holders of all claims in a zoo, those longest at it first."""
    found = []
    now = time.time()
    for run, folder in store.folders():
        path = folder / "claim"
        beat = _modified(path)
        if beat is None:
            continue
        owner = _owner(path)
        if owner and all(owner.get(name) == value for name, value in _machine().items()):
            alive = _started(owner["pid"]) == owner["started"]
        else:
            alive = abs(now - beat) < EXPIRY_SECONDS
        found.append(Holder(run, holder(folder), max(now - owner.get("since", beat), 0.0), alive))
    return sorted(found, key=lambda one: -one.seconds)


def _take(path: Path, lock_folder: Path) -> Claim | None:
    claim = _create(path)
    if claim is not None:
        return claim
    dead = _dead_owner(path, lock_folder)
    if dead is None:
        return None
    with locked(lock_folder):
        # Another taker may have been faster: only the claim that was found dead may be removed.
        if _owner(path) == dead:
            with storing(path):
                path.unlink(missing_ok=True)
        return _create(path)


def _create(path: Path) -> Claim | None:
    token = secrets.token_hex(8)
    record = {**_machine(), "pid": os.getpid(), "started": _started(os.getpid()), "token": token, "since": time.time()}
    with storing(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        try:
            content = json.dumps(record).encode()
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
    return Claim(path, token)


def _owner(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _dead_owner(path: Path, lock_folder: Path) -> dict[str, Any] | None:
    """The owner's record if the claim is dead ({} where it is unsigned), `None` if it lives or is gone."""
    owner = _owner(path)
    if not owner:
        time.sleep(UNSIGNED_SECONDS)
        return {} if path.exists() and not _owner(path) else None
    if all(owner.get(name) == value for name, value in _machine().items()):
        return owner if _started(owner["pid"]) != owner["started"] else None
    beat = _modified(path)
    # A heartbeat in the future is one from before the clock was set back: it, too, has to be seen to beat.
    if beat is None or abs(_file_system_time(lock_folder) - beat) < EXPIRY_SECONDS:
        return None
    time.sleep(CONFIRMATION_SECONDS)
    return owner if _modified(path) == beat and _owner(path) == owner else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps the heartbeats: the file server's, which may differ from this machine's."""
    probe = folder / ".lock"
    with storing(probe):
        probe.touch()
        return probe.stat().st_mtime


def _beat(claim: Claim, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        # A beat that the file system refuses is a missed beat; the next one may pass.
        with contextlib.suppress(OSError):
            if not claim.held():
                return
            os.utime(claim.path)


def _machine() -> dict[str, str]:
    """What must be equal for process ids to be comparable: host, boot, and the process namespace (containers)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": os.readlink(namespace) if namespace.is_symlink() else "",
    }


def _started(pid: int) -> str | None:
    """When a process began, as the system writes it; `None` where there is none. Process ids are used again."""
    if Path("/proc/self/stat").exists():
        try:
            # The name, in brackets, may hold spaces and brackets of its own.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None
