from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapbench.datasets.errors import InputError
from gapbench.datasets.parquet_images import ParquetImages, read_images

SIDE = 4
PIXELS = numpy.random.default_rng(0).integers(256, size=(6, SIDE, SIDE, 3)).astype(numpy.uint8)
LABELS = [0, 1, 2, 2, 1, 0]


def png(pixels: NDArray[numpy.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, images: list[bytes | None], labels: list[Any], **kwargs: Any) -> Path:
    rows = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
    pyarrow.parquet.write_table(pyarrow.table({"img": rows, "label": labels}), path, **kwargs)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "train.parquet", [png(pixels) for pixels in PIXELS], LABELS, row_group_size=4)


def read(path: Path, rows: int | None = 6) -> ParquetImages:
    return read_images(path, rows, classes=3, side=SIDE)


def test_images_and_labels_come_in_the_order_asked_for(file: Path) -> None:
    pool = read(file)
    assert pool.labels.tolist() == LABELS
    rows = numpy.array([5, 0, 5, 3])
    assert (pool.images(rows) == PIXELS[rows].transpose(0, 3, 1, 2)).all()


def test_the_cache_cannot_be_corrupted(file: Path) -> None:
    pool = read(file)
    pool.images(numpy.arange(6))[:] = 0
    assert (pool.images(numpy.arange(6)) == PIXELS.transpose(0, 3, 1, 2)).all()
    assert read(file) is pool
    with pytest.raises(ValueError, match="read-only"):
        pool.labels[0] = 1


def test_only_the_rows_asked_for_are_decoded(tmp_path: Path) -> None:
    pool = read(write(tmp_path / "x", [png(PIXELS[0]), b"not an image", None], [0, 1, 2]), rows=3)
    assert (pool.images(numpy.array([0]))[0] == PIXELS[0].transpose(2, 0, 1)).all()
    for row in (1, 2):
        with pytest.raises(InputError, match=rf"x: the image of row {row} cannot be decoded"):
            pool.images(numpy.array([row]))


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    pool = read(write(tmp_path / "x", [png(PIXELS[0])[:-30]], [0]), rows=1)
    with pytest.raises(InputError, match="row 0 cannot be decoded"):
        pool.images(numpy.array([0]))


@pytest.mark.parametrize(("pixels", "words"), [(PIXELS[0, :, :, 0], "L of 4x4"), (PIXELS[0, :3], "RGB of 4x3")])
def test_another_size_or_mode_is_refused(tmp_path: Path, pixels: NDArray[numpy.uint8], words: str) -> None:
    pool = read(write(tmp_path / "x", [png(pixels)], [0]), rows=1)
    with pytest.raises(InputError, match=rf"row 0 is {words} pixels, not RGB of 4x4"):
        pool.images(numpy.array([0]))


def test_the_number_of_rows_is_checked(file: Path) -> None:
    with pytest.raises(InputError, match=r"train\.parquet has 6 rows, and 50,000 were expected"):
        read(file, 50_000)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0, 0], [0, -1, 0, 0, 0, 0]])
def test_labels_out_of_range_are_refused(tmp_path: Path, labels: list[int]) -> None:
    with pytest.raises(InputError, match="labels run from"):
        read(write(tmp_path / "x", [b""] * 6, labels))


def test_missing_and_non_integer_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 labels are missing"):
        read(write(tmp_path / "x", [b""] * 2, [0, None]), rows=2)
    with pytest.raises(InputError, match="column label is double"):
        read(write(tmp_path / "y", [b""] * 2, [0.0, 1.0]), rows=2)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""], "label": [0]}), tmp_path / "x")
    with pytest.raises(InputError, match="no column 'img', only image, label"):
        read(tmp_path / "x")
    pyarrow.parquet.write_table(pyarrow.table({"img": [b""], "label": [0]}), tmp_path / "y")
    with pytest.raises(InputError, match="column img is binary"):
        read(tmp_path / "y")


def test_a_truncated_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"train\.parquet cannot be read as Parquet"):
        read(file)
