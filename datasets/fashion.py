"""Fashion-MNIST (Xiao et al. 2017), in the format of MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy
import torch
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import check_md5, locate
from gapbench.datasets.idx import read_idx
from gapbench.datasets.sampling import subset
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.datasets.vision import standardised

FASHION_MNIST_MD5: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }
)
"""The four published files and their digests."""

FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2860,), (0.3530,)
_ROWS = {"train": 60_000, "t10k": 10_000}


def fashion_mnist(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """Fashion-MNIST, (n, 1, 28, 28), from its four IDX files in ``data_dir``/fashion_mnist.

    Of .gz files the published digests are checked; of plain ones the sizes. A random subset of the 60,000 training
    images; all test images, in their order, or a random test_size of them. Standardised by the mean .2860 and the
    standard deviation .3530 of the training set.
    """

    def split(part: str, prefix: str, size: int | None) -> Split:
        images, labels = (_file(data_dir, prefix, kind) for kind in ("images-idx3", "labels-idx1"))
        rows = subset(f"{spec.name}: {part}_size", len(labels), size, generator(spec.seed, spec.name, part)).numpy()
        inputs = standardised(images[rows][:, None], FASHION_MNIST_MEAN, FASHION_MNIST_STD)
        return Split(inputs, torch.from_numpy(labels[rows].astype(numpy.int64)), 10)

    return split("train", "train", spec.train_size), split("test", "t10k", spec.test_size)


def _file(data_dir: Path | None, prefix: str, kind: str) -> NDArray[numpy.uint8]:
    name = f"{prefix}-{kind}-ubyte"
    source = "get Fashion-MNIST's four IDX files (train and t10k, images and labels)"
    path = locate(data_dir, "fashion_mnist", [f"{name}.gz", name], source)
    if path.suffix == ".gz":
        check_md5(path, FASHION_MNIST_MD5[path.name])
    array = read_idx(path)
    expected = (_ROWS[prefix], 28, 28) if kind.startswith("images") else (_ROWS[prefix],)
    if array.shape != expected:
        raise InputError(f"{path} holds an array of shape {array.shape}, not {expected}: it is another file")
    return array
