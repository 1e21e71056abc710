"""`DATASETS`, and `load`: from a `DataSpec` to a training and a test sample."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gapbench.datasets.corrupt import PIXELS, noisy_labels
from gapbench.datasets.errors import InputError, unknown
from gapbench.datasets.fashion import fashion_mnist
from gapbench.datasets.folder import folder
from gapbench.datasets.law import check_label_noise
from gapbench.datasets.modular import modular_addition, modular_division
from gapbench.datasets.parity import parity
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.datasets.svhn import svhn
from gapbench.datasets.synthetic import gaussian_mixture, teacher
from gapbench.datasets.table import table
from gapbench.datasets.tabular import npz
from gapbench.datasets.vision import cifar10, digits, mnist


@dataclass(frozen=True)
class Dataset:
    """A data set as registered.

    ``sample``: from a spec and the data folder to the training and test samples, before label noise and pixel
    randomisation. ``options``: which of the optional fields of a spec (path, dimension, classes, …) it takes.
    """

    sample: Callable[[DataSpec, Path | None], tuple[Split, Split]]
    options: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        """The first line of its loader's docstring."""
        return (self.sample.__doc__ or "").partition("\n")[0]


DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        "digits": Dataset(digits),
        "gaussian_mixture": Dataset(gaussian_mixture, frozenset({"dimension", "classes"})),
        "teacher": Dataset(teacher, frozenset({"dimension", "classes"})),
        "modular_addition": Dataset(modular_addition, frozenset({"classes"})),
        "modular_division": Dataset(modular_division, frozenset({"classes"})),
        "mnist": Dataset(mnist),
        "cifar10": Dataset(cifar10),
        "npz": Dataset(npz, frozenset({"path", "classes"})),
        "fashion_mnist": Dataset(fashion_mnist),
        "folder": Dataset(folder, frozenset({"path"})),
        "parity": Dataset(parity, frozenset({"dimension", "degree"})),
        "svhn": Dataset(svhn),
        "table": Dataset(table, frozenset({"path", "label_column"})),
    }
)


def load(spec: DataSpec, data_dir: str | Path | None = None) -> tuple[Split, Split]:
    """The training sample, with its pixel randomisation and noisy labels, and the test sample, with its true labels.

    The test sample has the same pixel randomisation; the training law of its labels is applied without a draw by
    `noisy_law_errors` and `noisy_law_losses`. The sample, the pixels and the label noise come from separate streams of
    ``spec.seed``: changing one changes neither of the others. ``data_dir``: the folder of the files, by default the
    environment variable GAPBENCH_DATA. The tensors are fresh: changing them changes no later load.

    Raises: InputError where the spec is wrong, or a file is missing, truncated or altered.
    """
    check(spec)
    train, test = DATASETS[spec.name].sample(spec, resolved(data_dir))
    train_inputs, test_inputs = PIXELS[spec.pixels](train.inputs, test.inputs, spec.seed)
    labels = noisy_labels(train.labels, spec.label_noise, train.classes, generator(spec.seed, "label_noise"))
    return Split(train_inputs, labels, train.classes), dataclasses.replace(test, inputs=test_inputs)


def resolved(data_dir: str | Path | None) -> Path | None:
    """The folder of the files: the one given, or else the environment variable GAPBENCH_DATA."""
    chosen = data_dir if data_dir is not None else os.environ.get("GAPBENCH_DATA") or None
    return None if chosen is None else Path(chosen).expanduser()


def check(spec: DataSpec) -> None:
    """Check all of a spec that can be checked without reading a file.

    Raises: InputError where a name is unknown, a number is out of range, or an option does not belong to the data set.
    """
    if spec.name not in DATASETS:
        raise unknown("data set", spec.name, DATASETS)
    if spec.pixels not in PIXELS:
        raise unknown("pixel randomisation", spec.pixels, PIXELS)
    check_label_noise(spec.label_noise)
    for field, least in (("train_size", 1), ("test_size", 1), ("dimension", 1), ("classes", 2), ("degree", 1)):
        value = getattr(spec, field)
        if value is not None and (not isinstance(value, int) or value < least):
            raise InputError(f"{spec.name}: {field} is {value!r}; give a whole number of at least {least}")
    for option in ("path", "dimension", "classes", "degree", "label_column"):
        if getattr(spec, option) is not None and option not in DATASETS[spec.name].options:
            raise InputError(f"{spec.name} has no option {option} (given: {getattr(spec, option)!r}); leave it out")
