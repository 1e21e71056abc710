"""Interpolating all of MNIST with a Gaussian kernel and no regularisation generalises, and the norm does not say why.

Paper: Zhang, Bengio, Hardt, Recht & Vinyals 2017 (arXiv:1611.03530), section 5; Belkin, Ma & Mandal 2018
(arXiv:1802.01396).

Claim: the interpolant of least norm, α = K⁻¹ Y, of the full MNIST with a Gaussian kernel has a test error of 1.2 %
without regularisation or preprocessing; features that are better (wavelets) halve the error while the norm of the
solution grows, so the norm does not predict generalization.

Rule: every fit has training error 0; the exponent of the test error in n has an interval below 0; the power law of each
seed, extrapolated to n = 60,000 (or measured there), has an interval below 2 %; at the largest n, the error on
pixels less that on wavelet features has an interval above 0, and the norm on wavelet features over that on pixels
one above 1 (paired over seeds). The bandwidth is fixed beforehand: half the median distance between training examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.intervals import (
    geometric_mean_interval,
    mean_interval,
    share_interval,
    slope_interval,
)
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, at_least, below, shown, verdict
from gapbench.evaluate.statistics.interval import Interval

Array = NDArray[numpy.floating[Any]]

PIXELS, WAVELETS = "pixels", "wavelets"
WHOLE = 60_000
FLOAT64_EXAMPLES = 12_000
"""Larger Gram matrices are in float32 and factored in place: 14.4 GB for all of MNIST."""


@dataclass(frozen=True)
class Settings:
    """The images, sample sizes and seeds; all test images are used unless ``test_size`` says less."""

    data: str
    sizes: tuple[int, ...]
    seeds: int
    test_size: int | None = None


def wavelets(images: Tensor) -> Tensor:
    """The sizes of 8 orientations and 2 scales of Gabor wavelets, and the image, averaged over blocks of 4: (n, 17, …).

    A first-order scattering: |x ∗ ψ| ∗ φ, at every second position. Inputs (n, 1, h, w).
    """
    side, waves = 11, []
    y, x = torch.meshgrid(torch.arange(side) - side // 2, torch.arange(side) - side // 2, indexing="ij")
    for scale in (1.0, 2.0):
        for number in range(8):
            turn = math.pi * number / 8
            along = x * math.cos(turn) + y * math.sin(turn)
            window = torch.exp(-(x**2 + y**2) / (2 * (1.6 * scale) ** 2))
            wave = torch.stack([torch.cos(along * 1.6 / scale), torch.sin(along * 1.6 / scale)]) * window
            wave -= wave.mean(dim=(1, 2), keepdim=True)
            waves.append(wave / wave.norm())
    kernels = torch.cat(waves)[:, None]
    found = []
    for batch in torch.split(images, 500):
        response = conv2d(batch, kernels, stride=2, padding=side // 2)
        response = response.view(len(batch), -1, 2, *response.shape[2:]).norm(dim=2)
        found.append(torch.cat([avg_pool2d(response, 2), avg_pool2d(batch, 4)], dim=1))
    return torch.cat(found)


def gaussian(x: Array, y: Array, bandwidth: float) -> Array:
    """exp(−‖x_i − y_j‖² / (2 σ²)), made in one array."""
    gram = x @ y.T
    gram *= -2
    gram += (x**2).sum(axis=1)[:, None]
    gram += (y**2).sum(axis=1)
    numpy.maximum(gram, 0, out=gram)
    gram *= -1 / (2 * bandwidth**2)
    return numpy.exp(gram, out=gram)


def half_median_distance(x: Array) -> float:
    """Half the median distance between the first 500 examples."""
    few = torch.from_numpy(x[:500])
    return float(torch.pdist(few.double()).median()) / 2


def cells(settings: Settings) -> list[Cell]:
    """A cell a sample size, kind of features and seed."""
    return [
        Cell({"n": n, "features": features, "seed": seed}, work=n * 1e4 * 1.6e3 + n**3 / 3)
        for n in settings.sizes
        for features in (PIXELS, WAVELETS)
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Solve K α = Y, one-hot Y, by Cholesky; the squared norm of the solution is tr(Yᵀ α)."""
    n = cell.where["n"]
    seed = bench.derived("data", cell.where["seed"])
    train, test = bench.load(DataSpec(settings.data, n, seed=seed, test_size=settings.test_size))
    dtype = numpy.float64 if n <= FLOAT64_EXAMPLES else numpy.float32

    def features(images: Tensor) -> Array:
        made = wavelets(images) if cell.where["features"] == WAVELETS else images
        found: Array = made.flatten(1).numpy().astype(dtype)
        return found

    x = features(train.inputs)
    bandwidth = half_median_distance(x)
    targets = numpy.eye(train.classes, dtype=dtype)[train.labels.numpy()]
    # LAPACK works column by column: of a symmetric matrix the transpose is the same one, and needs no second copy.
    gram = gaussian(x, x, bandwidth).T
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    solution = cho_solve(factor, targets, check_finite=False)
    norm = math.sqrt(float((targets * solution).sum()))
    del gram, factor

    def wrong(images: Tensor, labels: Tensor) -> float:
        batches = torch.split(images, 1000)
        guesses = [(gaussian(features(batch), x, bandwidth) @ solution).argmax(axis=1) for batch in batches]
        return float((numpy.concatenate(guesses) != labels.numpy()).mean())

    yield {
        "train_error": wrong(train.inputs, train.labels),
        "test_error": wrong(test.inputs, test.labels),
        "norm": norm,
        "bandwidth": bandwidth,
    }


def extrapolated(table: pandas.DataFrame, to: int = WHOLE) -> Interval:
    """The test error at ``to`` examples: as measured where it was, else by the power law of each seed."""
    measured = table[table["n"] == to]
    if len(measured):
        return mean_interval(measured["test_error"])
    found = []
    for _, rows in table.groupby("seed"):
        slope, height = numpy.polyfit(numpy.log(rows["n"].astype(float)), numpy.log(rows["test_error"]), 1)
        found.append(math.exp(height + slope * math.log(to)))
    return geometric_mean_interval(found)


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    pixels = chosen(table, {"features": PIXELS})
    largest = table[table["n"] == table["n"].max()].pivot_table(index="seed", columns="features")
    exact = table["train_error"] == 0
    return verdict(
        [
            at_least("interpolation", "fits with training error 0", share_interval(int(exact.sum()), len(exact)), 1.0),
            below("generalization", "exponent of the test error in n", slope_interval(pixels, "n", "test_error"), 0),
            below("generalization", "test error at n = 60,000", extrapolated(pixels), 0.02),
            above(
                "norm",
                "error on pixels less that on wavelets",
                mean_interval(largest["test_error"][PIXELS] - largest["test_error"][WAVELETS]),
                0,
            ),
            above(
                "norm",
                "norm on wavelets over that on pixels",
                geometric_mean_interval(largest["norm"][WAVELETS] / largest["norm"][PIXELS]),
                1,
            ),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """Errors and norms on all of MNIST, and ours at the largest n."""
    largest = table[table["n"] == table["n"].max()]
    n = f"{int(table['n'].max()):,}"
    pixels, better = (chosen(largest, {"features": kind}) for kind in (PIXELS, WAVELETS))
    how = "measured" if (table["n"] == WHOLE).any() else f"extrapolated from n ≤ {n}"
    whole = {kind: shown(extrapolated(chosen(table, {"features": kind}))) for kind in (PIXELS, WAVELETS)}
    return [
        Beside("test error at n = 60,000, pixels", "1.2 %", "Zhang et al., section 5", f"{whole[PIXELS]} ({how})"),
        Beside("the same, wavelets", "0.6 %", "Zhang et al., section 5, as recalled", f"{whole[WAVELETS]} ({how})"),
        Beside(
            "norm, pixels; wavelets",
            "220; 390 (n = 60,000)",
            "Zhang et al., section 5, as recalled",
            f"{shown(mean_interval(pixels['norm']))}; {shown(mean_interval(better['norm']))} (n = {n})",
        ),
    ]


MINIMUM_NORM_KERNEL = Phenomenon(
    name="minimum_norm_kernel",
    source="zhang2017, section 5; belkin2018",
    quick=Settings("mnist", (1000, 2000, 4000, 8000), 3, 3000),
    full=Settings("mnist", (1000, 2000, 4000, 8000, 16_000, 30_000, 60_000), 3),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Test error of the interpolant",
            "n",
            "test_error",
            "training examples n",
            "test error",
            hue="features",
            log="xy",
            published=((60_000, 0.012, "published, pixels"),),
        ),
        Panel(
            "Norm of the interpolant",
            "n",
            "norm",
            "training examples n",
            "norm ‖f‖",
            hue="features",
            log="xy",
            published=((60_000, 220, "published, pixels"), (60_000, 390, "wavelets")),
        ),
    ),
)
