"""Street View House Numbers (Netzer et al. 2011), cropped digits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy
import torch
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import check_md5, locate, stamp
from gapbench.datasets.sampling import subset
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.datasets.vision import standardised

SVHN_MD5: Mapping[str, str] = MappingProxyType(
    {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    }
)
"""The two published files and their digests."""

SVHN_MEAN, SVHN_STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


def svhn(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """SVHN, (n, 3, 32, 32), from ``data_dir``/svhn/{train,test}_32x32.mat; the digests are checked.

    A random subset of the 73,257 training images; all 26,032 test images, in their order, or a random test_size of
    them. The digit 0, labelled 10 in the files, is class 0. Standardised a channel by the mean (.4377, .4438, .4728)
    and the standard deviation (.1980, .2010, .1970) of the training set.
    """

    def split(part: str, size: int | None) -> Split:
        path = locate(data_dir, "svhn", [f"{part}_32x32.mat"], "get the cropped digits of SVHN in MATLAB's format")
        check_md5(path, SVHN_MD5[path.name])
        images, labels = read_svhn(path)
        rows = subset(f"{spec.name}: {part}_size", len(labels), size, generator(spec.seed, spec.name, part)).numpy()
        inputs = standardised(numpy.ascontiguousarray(images[rows]), SVHN_MEAN, SVHN_STD)
        return Split(inputs, torch.from_numpy(labels[rows]), 10)

    return split("train", spec.train_size), split("test", spec.test_size)


def read_svhn(path: Path) -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]:
    """Images (n, 3, 32, 32) and labels (n,) from 0 to 9 of a file of cropped digits, read once a process.

    Raises: InputError where it is damaged or has other arrays.
    """
    return _read_svhn(*stamp(path))


@lru_cache(maxsize=2)
def _read_svhn(path: Path, size: int, changed_ns: int) -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]:
    from scipy.io import loadmat

    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], arrays["y"].astype(numpy.int64).ravel()
    except KeyError as error:
        raise InputError(f"{path} has no array {error}: it is not a file of SVHN's cropped digits") from error
    except Exception as error:  # the parser raises what a damaged file makes it trip over
        raise InputError(f"{path} cannot be read as a MATLAB file ({error}): get it again") from error
    if images.shape != (32, 32, 3, len(labels)) or images.dtype != numpy.uint8:
        raise InputError(
            f"{path}: X is {images.dtype} of shape {images.shape} for {len(labels):,} labels, not bytes of shape "
            f"(32, 32, 3, {len(labels)})"
        )
    if len(labels) and not (labels.min() >= 1 and labels.max() <= 10):
        raise InputError(f"{path}: labels run from {labels.min()} to {labels.max()}, not within 1 to 10")
    return images.transpose(3, 2, 0, 1), labels % 10
