"""The user's own arrays, from an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import stamp
from gapbench.datasets.sampling import partition, subset
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split

Inputs = NDArray[numpy.float32]
Labels = NDArray[numpy.int64]


def npz(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """The arrays x_train (n, …), y_train (n,) and, if there, x_test, y_test of the file ``spec.path``, as they are.

    A relative path is one in ``data_dir`` where that is given, else in the working directory. Without test arrays the
    sample is split by the seed. Inputs become float32 and are not standardised. The number of classes is
    ``spec.classes``, or one more than the largest label.

    Raises: InputError where the path is missing, or the file or its arrays are not of this form.
    """
    if spec.path is None:
        raise InputError('npz needs the path of a file with the arrays x_train and y_train: give path = "….npz"')
    path = (data_dir or Path()) / Path(spec.path).expanduser()
    if not path.is_file():
        raise InputError(
            f"npz: no file {path.absolute()} (path = {spec.path!r}); a relative path is sought in GAPBENCH_DATA or "
            "--data-dir where given, else in the working directory"
        )
    samples = _read_npz(*stamp(path))
    (x_train, y_train), (x_test, y_test) = samples["train"], samples.get("test", samples["train"])
    classes = _classes(path, spec, max(int(y_train.max()), int(y_test.max())), len(y_train))
    if "test" in samples:
        train = subset("npz: train_size", len(y_train), spec.train_size, generator(spec.seed, spec.name, "train"))
        test = subset("npz: test_size", len(y_test), spec.test_size, generator(spec.seed, spec.name, "test"))
    else:
        stream = generator(spec.seed, spec.name, "split")
        train, test = partition("npz", len(y_train), spec.train_size, spec.test_size, stream)

    def split(inputs: Inputs, labels: Labels, rows: torch.Tensor) -> Split:
        return Split(torch.from_numpy(inputs[rows.numpy()]), torch.from_numpy(labels[rows.numpy()]), classes)

    return split(x_train, y_train, train), split(x_test, y_test, test)


def _classes(path: Path, spec: DataSpec, largest: int, examples: int) -> int:
    if spec.classes is not None and largest >= spec.classes:
        raise InputError(f"{path}: label {largest} is not below classes = {spec.classes}")
    if spec.classes is None and not 1 <= largest < examples:
        raise InputError(
            f"{path}: the largest label is {largest:,}, which would make {largest + 1:,} class(es) of {examples:,} "
            "training examples; number the classes 0, 1, …, or give classes"
        )
    return spec.classes or largest + 1


@lru_cache(maxsize=4)
def _read_npz(path: Path, size: int, changed_ns: int) -> dict[str, tuple[Inputs, Labels]]:
    wanted = ["x_train", "y_train", "x_test", "y_test"]
    try:
        # Never allow_pickle: unpickling runs code of the file's choosing.
        file = numpy.load(path, allow_pickle=False)
        if not isinstance(file, numpy.lib.npyio.NpzFile):
            raise InputError(f"{path} is a single array, not an .npz file; write it with numpy.savez")
        with file:
            arrays = {key: numpy.asarray(file[key]) for key in wanted if key in file.files}
            found = ", ".join(file.files) or "nothing"
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read as .npz without pickle ({error}); write it with numpy.savez"
        ) from error
    parts = ["train", "test"] if {"x_test", "y_test"} & set(arrays) else ["train"]
    missing = [key for part in parts for key in (f"x_{part}", f"y_{part}") if key not in arrays]
    if missing:
        raise InputError(f"{path} has no array {' or '.join(missing)}; it has {found}")
    samples = {part: _sample(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in parts}
    shapes = [inputs.shape[1:] for inputs, _ in samples.values()]
    if shapes[0] != shapes[-1]:
        raise InputError(f"{path}: an example of x_train has shape {shapes[0]}, and one of x_test {shapes[-1]}")
    return samples


def _sample(path: Path, part: str, x: NDArray[Any], y: NDArray[Any]) -> tuple[Inputs, Labels]:
    if x.ndim < 2 or x.dtype.kind not in "fiu":
        raise InputError(f"{path}: x_{part} is {x.dtype} of shape {x.shape}, not real numbers of shape (n, …)")
    if y.dtype.kind not in "iu":
        raise InputError(f"{path}: y_{part} is {y.dtype}, not integer class labels 0, 1, …; convert with .astype(int)")
    if y.shape != x.shape[:1] or not len(y):
        raise InputError(
            f"{path}: y_{part} has shape {y.shape} where x_{part} has {x.shape}; one label an example, at least one"
        )
    if int(y.min()) < 0 or int(y.max()) > numpy.iinfo(numpy.int64).max:
        raise InputError(f"{path}: y_{part} runs from {y.min()} to {y.max()}; labels are 0, 1, …")
    with numpy.errstate(over="ignore"):
        inputs = x.astype(numpy.float32)
    strange = ~numpy.isfinite(inputs)
    if strange.any():
        where = tuple(int(axis[0]) for axis in strange.nonzero())
        raise InputError(
            f"{path}: {int(strange.sum()):,} values of x_{part} are not finite float32 numbers, the first {x[where]}"
        )
    labels = y.astype(numpy.int64)
    inputs.flags.writeable = labels.flags.writeable = False
    return inputs, labels
