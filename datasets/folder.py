"""The user's own images, in a folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import locate_own, stamp
from gapbench.datasets.sampling import partition, subset
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff")
_GREY = ("1", "L")
_COLOURED = ("P", "RGB")

Images = tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]


def folder(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """Images (n, channels, height, width) in a folder a class: ``path``/CLASS/…, or ``path``/train/CLASS/… and
    ``path``/test/CLASS/….

    A relative path is one in ``data_dir`` where that is given, else in the working directory. Classes are numbered in
    the order of their names. All images have one size; where every one is grey there is one channel, else three.
    Without a folder test the sample is split by the seed. Standardised a channel by the mean and the standard deviation
    of the training sample.

    Raises: InputError where the path is missing, a folder has no image, images differ in size, or one is damaged.
    """
    path = locate_own(spec, data_dir, "a folder with a folder of images a class")
    if not path.is_dir():
        raise InputError(f"folder: {path} is a file, not a folder with a folder of images a class")
    if (path / "train").is_dir():
        classes = _classes(path / "train")
        pool, tested = read_folder(path / "train", classes), read_folder(path / "test", classes)
        _check_alike(path, pool[0], tested[0])
        train = subset("folder: train_size", len(pool[1]), spec.train_size, generator(spec.seed, spec.name, "train"))
        test = subset("folder: test_size", len(tested[1]), spec.test_size, generator(spec.seed, spec.name, "test"))
    else:
        classes = _classes(path)
        pool = tested = read_folder(path, classes)
        stream = generator(spec.seed, spec.name, "split")
        train, test = partition("folder", len(pool[1]), spec.train_size, spec.test_size, stream)
    pixels = pool[0][train.numpy()].astype(numpy.float64)
    mean, std = pixels.mean(axis=(0, 2, 3), keepdims=True), pixels.std(axis=(0, 2, 3), keepdims=True)

    def split(images: Images, rows: torch.Tensor) -> Split:
        # A channel that never changes has deviation 0, and stays 0.
        inputs = ((images[0][rows.numpy()] - mean) / numpy.where(std > 0, std, 1.0)).astype(numpy.float32)
        return Split(torch.from_numpy(inputs), torch.from_numpy(images[1][rows.numpy()]), len(classes))

    return split(pool, train), split(tested, test)


def read_folder(path: Path, classes: Sequence[str]) -> Images:
    """The images (n, c, h, w) in the folders of these classes, and their labels; read once while no file changes."""
    strange = [name for name in _classes(path) if name not in classes]
    if strange:
        raise InputError(f"{path} has a class {strange[0]!r} that train has not; it has {', '.join(classes)}")
    found = [(label, file) for label, name in enumerate(classes) for file in _files(path / name)]
    if not found:
        raise InputError(f"{path}: there is no image in the folders of its classes ({', '.join(SUFFIXES)})")
    return _read(tuple((label, *stamp(file)) for label, file in found))


def _classes(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"folder: there is no {path}; the images are sought in train/CLASS/ and test/CLASS/")
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"{path} has no folder in it: put the images of each class into a folder of their own")
    return names


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))


@lru_cache(maxsize=4)
def _read(stamped: tuple[tuple[int, Path, int, int], ...]) -> Images:
    first = stamped[0][1]
    images = [_image(file) for _, file, _, _ in stamped]
    size = images[0].shape[1:]
    for image, (_, file, _, _) in zip(images, stamped, strict=True):
        if image.shape[1:] != size:
            raise InputError(
                f"{file} has {image.shape[2]}x{image.shape[1]} pixels, and {first} {size[1]}x{size[0]}: "
                "give all images one size"
            )
    channels = max(len(image) for image in images)
    array = numpy.stack([numpy.broadcast_to(image, (channels, *size)) for image in images])
    labels = numpy.array([label for label, *_ in stamped], dtype=numpy.int64)
    array.flags.writeable = labels.flags.writeable = False
    return array, labels


def _image(file: Path) -> NDArray[numpy.uint8]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode not in (*_GREY, *_COLOURED):
                raise InputError(
                    f"{file} has pixels of mode {image.mode!r}; convert it to grey (L) or colour (RGB) without "
                    "transparency"
                )
            grey = image.mode in _GREY
            pixels = numpy.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{file} cannot be decoded ({error}): it is truncated or damaged; get it again") from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _check_alike(path: Path, train: NDArray[numpy.uint8], test: NDArray[numpy.uint8]) -> None:
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"{path}: an image of train has (channels, height, width) {train.shape[1:]}, and one of test "
            f"{test.shape[1:]}: give all images one size, and grey or colour"
        )
