"""Files that survive a kill, a power cut and a full disk: atomic replacement, appended lines, digests."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gapbench.datasets.errors import InputError

_REASONS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the device reports an input/output error",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


_SEAL = "check sum"
"""No name of a measure, data set or network, which are the other keys in the zoo's own files."""


class StorageError(InputError):
    """The medium refuses to store (full, read-only, no permission): nothing more can be done in this folder."""


class Damaged(InputError):
    """A stored file was changed, truncated or lost; the message names it and says how to mend it."""


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into a `StorageError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(
            f"cannot write {path}: {reason}; what was stored before is intact: "
            "mend this, or choose another folder, and run the same command again to continue"
        ) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably.

    Raises: StorageError where the file system refuses.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with storing(folder):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader, or a power cut, sees the old content or the new one, never a part.

    Raises: StorageError where the file system refuses; the old content is then still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with storing(path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers left behind; only the one writer of a folder may do this."""
    with storing(folder):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_lines(path: Path, lines: list[str]) -> None:
    """Append lines in one write; a torn last line, left by a killed writer, is trimmed first.

    Raises: StorageError where the file system refuses; the file then ends where it ended before.
    """
    if not lines:
        return
    content = "".join(f"{line}\n" for line in lines).encode()
    with storing(path):
        created = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            end = _end_of_last_line(descriptor)
            os.ftruncate(descriptor, end)
            try:
                if os.pwrite(descriptor, content, end) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        if created:
            _sync_folder(path.parent)


def _end_of_last_line(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0) if size else b""
    return content.rfind(b"\n") + 1


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, none where the file is missing; a torn last line is ignored.

    Raises: Damaged where a line before the last is no record, with file and line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        # One call for all lines: ten times faster than one call a line.
        records: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        if len(records) == len(lines) and all(isinstance(record, dict) for record in records):
            return records
    except ValueError:
        pass
    for number, line in enumerate(lines, 1):
        try:
            valid = isinstance(json.loads(line), dict)
        except ValueError:
            valid = False
        if not valid:
            raise Damaged(
                f"{path}, line {number}, is damaged ({line[:40]!r}…): the disk or another program changed it; "
                "delete the line and run again, and what it held is read again"
            )
    return [json.loads(line) for line in lines]


def read_json(path: Path, remedy: str = "delete its folder and run again to make it anew") -> dict[str, Any] | None:
    """The record in a JSON file, `None` where the file is missing; ``remedy`` says how to mend one that is damaged.

    Raises: Damaged where the file is no JSON object.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({error}): {remedy}") from error
    if not isinstance(record, dict):
        raise Damaged(f"{path} is damaged (it holds no JSON object): {remedy}")
    return record


def check_sum(owner: str, record: Mapping[str, Any]) -> str:
    """A check sum of a record and of what it belongs to: 32 bits, against damage and files in the wrong place."""
    return f"{zlib.crc32(f'{owner}:{json.dumps(record, sort_keys=True)}'.encode()):08x}"


def sealed(owner: str, record: Mapping[str, Any]) -> bytes:
    """JSON for a file that people may read, with its check sum."""
    return as_json({**record, _SEAL: check_sum(owner, record)})


def read_sealed(path: Path, owner: str, remedy: str) -> dict[str, Any] | None:
    """The record in a file of `sealed`, `None` where it is missing; one of the first versions has no check sum.

    Raises: Damaged where the file is no JSON object, was changed, or is another's; ``remedy`` says how to mend that.
    """
    record = read_json(path, remedy)
    if record is not None and record.pop(_SEAL, None) not in (None, check_sum(owner, record)):
        raise Damaged(f"{path} is damaged (it was changed, or is another's): {remedy}")
    return record


def as_json(record: Any) -> bytes:
    """JSON for a file that people may read: two spaces, a newline at the end."""
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_checked(path: Path, expected: str) -> bytes:
    """The content of a file, once its SHA-256 digest has been found to be the expected one.

    Raises: Damaged where the file is missing, truncated or altered, with both digests and what to do.
    """
    remedy = f"delete the folder {path.parent} and run again: the run is then trained anew, to the same bits"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path} is missing though its run is finished; {remedy}") from error
    found = digest(content)
    if found != expected:
        raise Damaged(f"{path} is damaged: its SHA-256 is {found}, but {expected} was stored; {remedy}")
    return content


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the holder dies.

    Some cluster file systems have no locks. There the block runs unlocked: at worst two processes take the same dead
    claim and both train that run, to the same bits.
    """
    path = folder / ".lock"
    with storing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
        yield
    finally:
        os.close(descriptor)
