"""Finding the user's data files, and saying so clearly when they are not there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec


def locate(data_dir: Path | None, folder: str, names: Sequence[str], source: str) -> Path:
    """The first of ``names`` that exists in ``data_dir/folder``; ``source`` says how to get the file.

    Raises: InputError where no data folder is given, or none of the files is there.
    """
    if data_dir is None:
        raise InputError(
            f"{folder} needs the file {' or '.join(names)}, and no data folder is given: set GAPBENCH_DATA or "
            f"--data-dir to the folder that holds {folder}/; {source}"
        )
    for name in names:
        if (data_dir / folder / name).is_file():
            return data_dir / folder / name
    raise InputError(
        f"{folder}: no file {' or '.join(names)} in {data_dir / folder}; {source}, put it there, or set "
        f"GAPBENCH_DATA or --data-dir to the folder that holds {folder}/"
    )


def locate_own(spec: DataSpec, data_dir: Path | None, what: str) -> Path:
    """The user's own file or folder ``spec.path``; a relative path is one in ``data_dir``, else in the working
    directory. ``what`` says what it should be.

    Raises: InputError where the spec has no path, or nothing is there.
    """
    if spec.path is None:
        raise InputError(f'{spec.name} needs the path of {what}: give path = "…" in [data]')
    path = (data_dir or Path()) / Path(spec.path).expanduser()
    if not path.exists():
        raise InputError(
            f"{spec.name}: there is no {path.absolute()} (path = {spec.path!r}, {what}); a relative path is sought in "
            "GAPBENCH_DATA or --data-dir where given, else in the working directory"
        )
    return path


def check_md5(path: Path, expected: str) -> None:
    """Compare a file with the MD5 digest that its publisher states; done once for a file that stays as it is.

    Raises: InputError where it differs.
    """
    _check_md5(*stamp(path), expected)


@lru_cache(maxsize=16)
def _check_md5(path: Path, size: int, changed_ns: int, expected: str) -> None:
    with path.open("rb") as file:
        # Against damage, not against an adversary: publishers of these data sets state no other digest.
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} ({size:,} bytes) is truncated or altered: its MD5 is {found}, and that of the published file "
            f"{expected}; get it again"
        )


def stamp(path: Path) -> tuple[Path, int, int]:
    """A file's absolute path, size in bytes and time of change in ns: the key under which its content is cached."""
    status = path.stat()
    return path.absolute(), status.st_size, status.st_mtime_ns
