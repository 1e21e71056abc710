"""CIFAR-10 (Krizhevsky 2009) as its author publishes it: batches, pickled (as torchvision downloads them) or binary."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import check_md5, stamp

BATCHES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
)
"""The files of each part, in the order of their images; the binary ones end in .bin."""

PICKLED, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
"""The folders that the published archives unpack to."""

BATCH_MD5: Mapping[str, str] = MappingProxyType(
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }
)
"""The digests of the pickled files; the publisher states none of the binary ones."""

BATCH_ROWS = 10_000
_PIXELS = 3 * 32 * 32

Pool = tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]


def find_batches(data_dir: Path | None, part: str) -> tuple[Path, ...] | None:
    """The files of "train" or "test", pickled or binary, in ``data_dir`` or in its folder cifar10; `None` without them.

    Raises: InputError where some of the files of a part are there and others are missing.
    """
    for root in () if data_dir is None else (data_dir / "cifar10", data_dir):
        for folder, ending in ((PICKLED, ""), (BINARY, ".bin")):
            paths = tuple(root / folder / f"{name}{ending}" for name in BATCHES[part])
            missing = [path for path in paths if not path.is_file()]
            if not missing:
                return paths
            if len(missing) < len(paths):
                raise InputError(f"cifar10: {missing[0]} is missing: unpack the published archive again")
    return None


def read_batches(paths: tuple[Path, ...]) -> Pool:
    """Images (n, 3, 32, 32) and labels (n,) of these files, one after another; read once a process.

    A pickled file is compared with its published digest, and read without running anything that it may hold.
    Raises: InputError where a file is damaged, or is none of CIFAR-10's.
    """
    for path in paths:
        if not path.suffix:
            check_md5(path, BATCH_MD5[path.name])
    return _read_batches(tuple(stamp(path) for path in paths))


@lru_cache(maxsize=2)
def _read_batches(stamps: tuple[tuple[Path, int, int], ...]) -> Pool:
    pools = [_binary(path) if path.suffix else _pickled(path) for path, *_ in stamps]
    images = numpy.concatenate([pixels for pixels, _ in pools]).reshape(-1, 3, 32, 32)
    labels = numpy.concatenate([values for _, values in pools])
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def _binary(path: Path) -> Pool:
    """Records of one byte for the label and 3,072 for the image."""
    content = numpy.fromfile(path, numpy.uint8)
    if len(content) != BATCH_ROWS * (1 + _PIXELS):
        raise InputError(
            f"{path} has {len(content):,} bytes, not the {BATCH_ROWS * (1 + _PIXELS):,} of {BATCH_ROWS:,} images of "
            "CIFAR-10: it is truncated, or another file; get it again"
        )
    records = content.reshape(BATCH_ROWS, 1 + _PIXELS)
    return records[:, 1:], _labels(path, records[:, 0])


def _pickled(path: Path) -> Pool:
    try:
        with path.open("rb") as file:
            record = _Arrays(file, encoding="latin1").load()
        pixels, labels = record["data"], record["labels"]
    except Exception as error:
        raise InputError(f"{path} cannot be read as a batch of CIFAR-10 ({error}): get it again") from error
    if not isinstance(pixels, numpy.ndarray) or pixels.dtype != numpy.uint8 or pixels.shape != (BATCH_ROWS, _PIXELS):
        raise InputError(f"{path}: its data are not bytes of shape {(BATCH_ROWS, _PIXELS)}; get it again")
    return pixels, _labels(path, labels)


def _labels(path: Path, values: Any) -> NDArray[numpy.int64]:
    try:
        labels = numpy.asarray(values).astype(numpy.int64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its labels are no integers ({error})") from error
    if labels.shape != (BATCH_ROWS,) or labels.min() < 0 or labels.max() > 9:
        raise InputError(f"{path}: its labels are not {BATCH_ROWS:,} integers from 0 to 9")
    return labels


class _Arrays(pickle.Unpickler):
    """An unpickler that makes arrays of numbers, and knows no other name that a file could call."""

    def find_class(self, module: str, name: str) -> Any:
        """What a file may name: NumPy's constructors, as its versions call them."""
        if (module, name) in _CONSTRUCTORS:
            return _CONSTRUCTORS[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, and no batch of images needs that")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_RECONSTRUCT = numpy.empty(0).__reduce__()[0]
_CONSTRUCTORS: Mapping[tuple[str, str], Any] = MappingProxyType(
    {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): numpy.ndarray,
        ("numpy", "dtype"): numpy.dtype,
        # How Python 3 writes bytes for Python 2.
        ("_codecs", "encode"): _encode,
    }
)
