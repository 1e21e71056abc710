"""Finding the user's data files, and saying so clearly when they are not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gapbench.datasets.errors import InputError


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


def stamp(path: Path) -> tuple[Path, int, int]:
    """A file's absolute path, size in bytes and time of change in ns: the key under which its content is cached."""
    status = path.stat()
    return path.absolute(), status.st_size, status.st_mtime_ns
