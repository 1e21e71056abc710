"""The IDX format of MNIST: two zero bytes, a type byte, the number of dimensions, the dimensions, the values."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from functools import lru_cache
from pathlib import Path

import numpy
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import stamp

_UNSIGNED_BYTE = 8
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, sha256: str | None = None) -> NDArray[numpy.uint8]:
    """The array of an IDX file of unsigned bytes, plain or gzipped, read-only.

    It is read once a process, and again only when the file's size or time of change differs. ``sha256`` is that of
    the uncompressed content.

    Raises: InputError where the file is damaged, is not IDX, does not have the size its header says, or does not
    have the digest.
    """
    return _read_idx(*stamp(path), sha256)


@lru_cache(maxsize=8)
def _read_idx(path: Path, size: int, changed_ns: int, sha256: str | None) -> NDArray[numpy.uint8]:
    content = _content(path)
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or content[3] == 0:
        raise InputError(
            f"{path} is not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise InputError(
            f"{path} is {'truncated' if len(content) < expected else 'too long'}: its header says {shape[0]:,} items, "
            f"{expected:,} bytes in all, and the uncompressed file has {len(content):,}; get it again"
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(
            f"{path} is not the original file: the SHA-256 of its uncompressed content is {found}, and that of the "
            f"original {sha256}; get it again"
        )
    return numpy.frombuffer(content, numpy.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): it is truncated or damaged; get it again") from error
