"""Images: digits (bundled with scikit-learn), MNIST (IDX files), CIFAR-10 (Parquet files, or the published batches).

Inputs are (n, channels, height, width), scaled to [0, 1] and then standardised by constants that no test image
enters: see each data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gapbench.datasets.cifar import PICKLED, find_batches, read_batches
from gapbench.datasets.files import locate
from gapbench.datasets.idx import read_idx
from gapbench.datasets.parquet_images import read_images
from gapbench.datasets.sampling import partition, subset
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split

MNIST_SHA256: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
)
"""The four files of the original distribution, and the digests of their uncompressed content."""

MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR10_ROWS: Mapping[str, int] = MappingProxyType({"train": 50_000, "test": 10_000})


def digits(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """scikit-learn's 1,797 digits, (n, 1, 8, 8): a random training sample, and the rest, or test_size of it, as test.

    Standardised by one mean and one standard deviation, those of all pixels of the training sample.
    """
    images, labels = _digits()
    train, test = partition(
        spec.name, len(labels), spec.train_size, spec.test_size, generator(spec.seed, spec.name, "split")
    )
    # Integer sums: the same mean and deviation, to the bit, on every machine and in every order of the examples.
    pixels = images[train.numpy()].astype(numpy.int64)
    count, total, squares = pixels.size, int(pixels.sum()), int((pixels**2).sum())
    mean, std = total / count, (count * squares - total**2) ** 0.5 / count

    def split(rows: Tensor) -> Split:
        inputs = torch.from_numpy(((images[rows.numpy()] - mean) / std).astype(numpy.float32))
        return Split(inputs, torch.from_numpy(labels[rows.numpy()]), 10)

    return split(train), split(test)


def mnist(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """MNIST, (n, 1, 28, 28), from its four IDX files, plain or .gz, in ``data_dir``/mnist; the digests are checked.

    A random subset of the 60,000 training images; all test images, in their order, or a random test_size of them.
    Standardised by the mean .1307 and the standard deviation .3081 of the original training set.
    """

    def split(part: str, prefix: str, size: int | None) -> Split:
        images, labels = (_mnist_file(data_dir, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        rows = subset(f"mnist: {part}_size", len(labels), size, generator(spec.seed, spec.name, part)).numpy()
        inputs = standardised(images[rows][:, None], MNIST_MEAN, MNIST_STD)
        return Split(inputs, torch.from_numpy(labels[rows].astype(numpy.int64)), 10)

    return split("train", "train", spec.train_size), split("test", "t10k", spec.test_size)


def cifar10(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """CIFAR-10, (n, 3, 32, 32): ``data_dir``/cifar10/{train,test}.parquet in the layout of the Hugging Face hub, else
    the published batches, pickled (as torchvision downloads them) or binary, in the folders that they unpack to.

    A random subset of the 50,000 training images; all test images, in the file's order, or a random test_size of
    them. Standardised a channel by the mean (.4914, .4822, .4465) and the standard deviation (.2470, .2435, .2616) of
    the original training set. Several encodings are in circulation, so the check is of structure, not of a digest.
    """

    def split(part: str, size: int | None) -> Split:
        images, labels = _cifar10_pool(data_dir, part)
        rows = subset(f"cifar10: {part}_size", len(labels), size, generator(spec.seed, spec.name, part)).numpy()
        return Split(standardised(images(rows), CIFAR10_MEAN, CIFAR10_STD), torch.from_numpy(labels[rows]), 10)

    return split("train", spec.train_size), split("test", spec.test_size)


def _cifar10_pool(
    data_dir: Path | None, part: str
) -> tuple[Callable[[NDArray[numpy.int64]], NDArray[numpy.uint8]], NDArray[numpy.int64]]:
    """What gives the images of rows, and the labels of all rows."""
    name = f"{part}.parquet"
    if data_dir is None or not (data_dir / "cifar10" / name).is_file():
        batches = find_batches(data_dir, part)
        if batches is not None:
            images, labels = read_batches(batches)
            return images.__getitem__, labels
    source = (
        f"get cifar10 as torchvision downloads it (a folder {PICKLED}), or in Parquet from the Hugging Face hub, its "
        "files renamed train.parquet and test.parquet"
    )
    pool = read_images(locate(data_dir, "cifar10", [name], source), CIFAR10_ROWS[part], classes=10, side=32)
    return pool.images, pool.labels


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images, labels = bundle.images.astype(numpy.uint8)[:, None], bundle.target.astype(numpy.int64)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def _mnist_file(data_dir: Path | None, name: str) -> NDArray[numpy.uint8]:
    path = locate(
        data_dir, "mnist", [name, f"{name}.gz"], "get MNIST's four IDX files (train and t10k, images and labels)"
    )
    return read_idx(path, MNIST_SHA256[name])


def standardised(
    images: NDArray[numpy.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "n c h w"]:
    """Images of bytes as (pixel / 255 − mean) / std, a mean and a standard deviation a channel."""
    inputs = torch.from_numpy(images).float().div_(255)
    return inputs.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
