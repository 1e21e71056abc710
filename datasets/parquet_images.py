"""Labelled images in a Parquet file of the Hugging Face layout: columns img {bytes, path} and label."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import stamp


class ParquetImages:
    """The encoded images of a file, and those decoded so far.

    Decoding 10,000 images takes seconds, so only the rows asked for are decoded, and each only once.
    """

    def __init__(self, path: Path, encoded: Any, labels: NDArray[numpy.int64], side: int) -> None:
        self.path = path
        self.labels = labels
        self._encoded = encoded
        self._decoded = numpy.empty((len(labels), 3, side, side), numpy.uint8)
        self._done = numpy.zeros(len(labels), bool)

    def images(self, rows: NDArray[numpy.int64]) -> NDArray[numpy.uint8]:
        """A fresh array (n, 3, side, side) of the images of these rows, in their order.

        Raises: InputError where an image cannot be decoded, or is not RGB of the expected size.
        """
        for row in rows[~self._done[rows]]:
            self._decoded[row] = self._decode(int(row))
            self._done[row] = True
        return self._decoded[rows]

    def _decode(self, row: int) -> NDArray[numpy.uint8]:
        from PIL import Image

        side = self._decoded.shape[-1]
        try:
            with Image.open(io.BytesIO(self._encoded[row].as_py() or b"")) as image:
                if image.mode != "RGB" or image.size != (side, side):
                    raise InputError(
                        f"{self.path}: the image of row {row:,} is {image.mode} of {image.size[0]}x{image.size[1]} "
                        f"pixels, not RGB of {side}x{side}"
                    )
                return numpy.asarray(image).transpose(2, 0, 1)
        except (OSError, SyntaxError) as error:
            raise InputError(
                f"{self.path}: the image of row {row:,} cannot be decoded ({error}); get the file again"
            ) from error


def read_images(path: Path, rows: int | None, classes: int, side: int) -> ParquetImages:
    """The images and labels of a Parquet file; read once a process, and again only when the file has changed.

    ``rows``: how many there must be. Images are decoded when asked for.

    Raises: InputError where the file cannot be read, lacks a column, has another number of rows, or has a label
    that is not an integer in [0, classes).
    """
    return _read_images(*stamp(path), rows, classes, side)


@lru_cache(maxsize=4)
def _read_images(path: Path, size: int, changed_ns: int, rows: int | None, classes: int, side: int) -> ParquetImages:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow, pyarrow)
            table = file.read(columns=["img", "label"])
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({error}): it is truncated or damaged; get it again"
        ) from error
    if rows is not None and len(table) != rows:
        raise InputError(f"{path} has {len(table):,} rows, and {rows:,} were expected; get it again")
    column = table["label"]
    if column.null_count:
        raise InputError(f"{path}: {column.null_count:,} labels are missing")
    labels = column.to_numpy().astype(numpy.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise InputError(f"{path}: labels run from {labels.min()} to {labels.max()}, not within 0 to {classes - 1}")
    labels.flags.writeable = False
    return ParquetImages(path, table["img"].combine_chunks().field("bytes"), labels, side)


def _check_columns(path: Path, schema: Any, pyarrow: Any) -> None:
    missing = [name for name in ("img", "label") if name not in schema.names]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}, only {', '.join(schema.names)}; "
            "the layout of the Hugging Face hub is img {bytes, path} and label"
        )
    image, label = schema.field("img").type, schema.field("label").type
    if not pyarrow.types.is_struct(image) or image.get_field_index("bytes") < 0:
        raise InputError(f"{path}: column img is {image}, not a struct with a field named bytes")
    if not pyarrow.types.is_integer(label):
        raise InputError(f"{path}: column label is {label}, not an integer")
