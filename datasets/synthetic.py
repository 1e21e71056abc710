"""Data sets drawn from a known law, whose test set can be of any size.

The law (the means, the teacher) is fixed by the dimension and the number of classes; `DataSpec.seed` draws the sample
from it, as it does from a pool of images. Of the same seed, a smaller sample is the beginning of a larger one.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from jaxtyping import Float, Int
from numpy.random import Generator, default_rng
from torch import Tensor

from gapbench.datasets.seeds import derive_seed
from gapbench.datasets.spec import DataSpec, Split

DIMENSION = 20
CLASSES = 10
TEST_SIZE = 10_000
RADIUS = 3.0
TEACHER_WIDTH = 100
_ROWS_A_BATCH = 65_536


def gaussian_mixture(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """Classes of equal probability, each a Gaussian of unit covariance about its `mixture_means`; inputs (n, d)."""
    dimension, classes = spec.dimension or DIMENSION, spec.classes or CLASSES
    means = mixture_means(dimension, classes)

    def sample(part: str, size: int) -> Split:
        labels = torch.from_numpy(_stream(spec.seed, spec.name, part, "labels").integers(classes, size=size))
        noise = _normals(_stream(spec.seed, spec.name, part, "inputs"), size, dimension)
        return Split(means[labels].float() + noise, labels, classes)

    return sample("train", spec.train_size), sample("test", spec.test_size or TEST_SIZE)


def mixture_means(dimension: int, classes: int) -> Float[Tensor, "c d"]:
    """The class means: ``classes`` independent uniform points of the sphere of radius 3 in ``dimension`` dimensions.

    At the defaults (d = 20, C = 10) the Bayes classifier, the nearest mean, errs on 12 % of examples.
    """
    stream = _stream(0, "gaussian_mixture", "means", dimension, classes)
    directions = torch.from_numpy(stream.standard_normal((classes, dimension)))
    return RADIUS * torch.nn.functional.normalize(directions, dim=1)


def teacher(spec: DataSpec, data_dir: Path | None = None) -> tuple[Split, Split]:
    """Standard Gaussian inputs (n, d), labelled by the argmax of a random two-layer ReLU network; no label is noisy."""
    dimension, classes = spec.dimension or DIMENSION, spec.classes or CLASSES

    def sample(part: str, size: int) -> Split:
        inputs = _normals(_stream(spec.seed, spec.name, part, "inputs"), size, dimension)
        return Split(inputs, teacher_labels(inputs, classes), classes)

    return sample("train", spec.train_size), sample("test", spec.test_size or TEST_SIZE)


def teacher_labels(inputs: Float[Tensor, "n d"], classes: int) -> Int[Tensor, " n"]:
    """argmax_c of V (relu(W x) - E relu(W x)), in double precision.

    W (100, d) has entries N(0, 1/d), V (classes, 100) entries N(0, 1). The subtracted expectation over standard
    Gaussian inputs, |w_j| / sqrt(2 pi) for hidden unit j, makes every logit's mean zero: without it a few classes
    take nearly all examples.
    """
    dimension = inputs.shape[1]
    stream = _stream(0, "teacher", "weights", dimension, classes)
    hidden = torch.from_numpy(stream.standard_normal((TEACHER_WIDTH, dimension))) / dimension**0.5
    output = torch.from_numpy(stream.standard_normal((classes, TEACHER_WIDTH)))
    expectation = hidden.norm(dim=1) / (2 * torch.pi) ** 0.5
    batches = [inputs[at : at + _ROWS_A_BATCH] for at in range(0, len(inputs), _ROWS_A_BATCH)]
    return torch.cat([((torch.relu(x.double() @ hidden.T) - expectation) @ output.T).argmax(dim=1) for x in batches])


def _stream(root: int, *names: str | int) -> Generator:
    # numpy's, not torch's: torch draws normals in blocks, so the end of a small sample would not begin a larger one.
    return default_rng(derive_seed(root, *names))


def _normals(stream: Generator, size: int, dimension: int) -> Float[Tensor, "n d"]:
    return torch.from_numpy(stream.standard_normal((size, dimension), dtype=numpy.float32))
