from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.idx import read_idx


def idx(array: NDArray[numpy.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


IMAGES = numpy.arange(5 * 4 * 3, dtype=numpy.uint8).reshape(5, 4, 3)


@given(arrays(numpy.uint8, array_shapes(max_dims=4, max_side=5)), st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: NDArray[numpy.uint8], zipped: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    read = read_idx(path)
    assert read.dtype == numpy.uint8
    assert read.shape == array.shape
    assert (read == array).all()


def test_the_array_is_read_only_and_read_once(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(idx(IMAGES))
    first = read_idx(path)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    assert read_idx(path) is first


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(idx(IMAGES))
    read_idx(path)
    path.write_bytes(idx(IMAGES + 1))
    os.utime(path, ns=(0, 0))
    assert (read_idx(path) == IMAGES + 1).all()


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_and_overlong_content_is_refused_with_the_sizes(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x"
    for content, word in ((idx(IMAGES)[:-1], "truncated"), (idx(IMAGES) + b"\0", "too long")):
        path.write_bytes(gzip.compress(content) if zipped else content)
        with pytest.raises(
            InputError, match=rf"x is {word}: its header says 5 items, 76 bytes in all, .* has {len(content)}"
        ):
            read_idx(path)


def test_a_truncated_or_damaged_gz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    whole = gzip.compress(idx(IMAGES))
    damaged = bytearray(whole)
    damaged[-6] ^= 1
    for content in (whole[:-9], bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.gz cannot be read .* truncated or damaged"):
            read_idx(path)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"PK\x03\x04", b"\0\0\x0d\x01\0\0\0\0", b"\0\0\x08\0\0"])
def test_what_is_not_idx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="not an IDX file of unsigned bytes"):
        read_idx(tmp_path / "x")


def test_a_header_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(idx(IMAGES)[:9])
    with pytest.raises(InputError, match="truncated"):
        read_idx(tmp_path / "x")


def test_the_digest_is_of_the_uncompressed_content(tmp_path: Path) -> None:
    digest = hashlib.sha256(idx(IMAGES)).hexdigest()
    for name, content in (("plain", idx(IMAGES)), ("x.gz", gzip.compress(idx(IMAGES)))):
        (tmp_path / name).write_bytes(content)
        assert (read_idx(tmp_path / name, digest) == IMAGES).all()


def test_an_altered_file_is_refused_by_name(tmp_path: Path) -> None:
    altered = IMAGES.copy()
    altered[2, 1, 1] ^= 1
    (tmp_path / "x").write_bytes(idx(altered))
    with pytest.raises(InputError, match=r"x is not the original file: the SHA-256"):
        read_idx(tmp_path / "x", hashlib.sha256(idx(IMAGES)).hexdigest())
