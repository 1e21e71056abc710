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

Tried: on pixels, n = 60,000 and one seed of the full settings: training error 0, test error 1.23 %, norm 151 (9 minutes
of two cores, 17 GB). On wavelets the matrix of as many is not positive definite in float32, and float64 takes 29 GB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, one_hot

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.memory import available_bytes
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

Floats = Float[Tensor, "_ _"]

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


def gaussian(x: Floats, y: Floats, bandwidth: float) -> Floats:
    """exp(−‖x_i − y_j‖² / (2 σ²)), made in one array."""
    gram: Tensor = x @ y.T
    gram.mul_(-2).add_(x.square().sum(dim=1)[:, None]).add_(y.square().sum(dim=1)).clamp_(min=0)
    gram.mul_(-1 / (2 * bandwidth**2)).exp_()
    return gram


def half_median_distance(x: Floats) -> float:
    """Half the median distance between the first 500 examples."""
    return float(torch.pdist(x[:500].double()).median()) / 2


def values(x: Floats, solution: Floats, inputs: Floats, bandwidth: float) -> Floats:
    """Σ_i k(·, x_i) α_i at some inputs, in the precision of the solution."""
    centres = x.to(solution.dtype)
    batches = torch.split(inputs.to(solution.dtype), 1000)
    found: Tensor = torch.cat([gaussian(batch, centres, bandwidth) @ solution for batch in batches])
    return found


def interpolant(x: Floats, targets: Floats, bandwidth: float) -> Floats:
    """α = K⁻¹ Y by Cholesky, float64; K has the precision of x, and is factored in its own memory.

    In float32 it is refined once: α + K⁻¹ (Y − K α), with the residual in float64; where K is not positive definite
    in float32 it is made in float64. Raises: InputError where it is not positive definite there either, or the memory
    is too small for it.
    """
    # LAPACK works column by column: of a symmetric matrix the transpose is the same one, and needs no second copy.
    factor, failed = gaussian(x, x, bandwidth).T, torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(factor, out=(factor, failed))
    if failed:
        what = f"the Gram matrix of {len(x):,} examples is not positive definite in {x.dtype} (row {int(failed):,})"
        if x.dtype == torch.float64:
            raise InputError(f"{what}: are examples repeated? Without a ridge they cannot be interpolated")
        del factor
        free, needed = available_bytes(), 8 * len(x) ** 2
        if free is not None and free < needed:
            raise InputError(
                f"{what}, and in float64 it takes {needed / 1e9:.0f} GB, of which {free / 1e9:.0f} are free: take a "
                "smaller n (--only n=N), or a bigger machine"
            )
        return interpolant(x.double(), targets, bandwidth)

    def solved(right: Floats) -> Floats:
        half = torch.linalg.solve_triangular(factor, right.to(x.dtype), upper=False)
        found: Tensor = torch.linalg.solve_triangular(factor.T, half, upper=True)
        return found.double()

    solution = solved(targets)
    if x.dtype == torch.float32:
        solution += solved(targets - values(x, solution, x, bandwidth))
    return solution


def cells(settings: Settings) -> list[Cell]:
    """A cell a sample size, kind of features and seed."""
    return [
        Cell({"n": n, "features": features, "seed": seed}, work=n * 1e4 * 1.6e3 + n**3 / 3)
        for n in settings.sizes
        for features in (PIXELS, WAVELETS)
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Solve K α = Y, one-hot Y; the squared norm of the solution is tr(Yᵀ α)."""
    n = cell.where["n"]
    seed = bench.derived("data", cell.where["seed"])
    train, test = bench.load(DataSpec(settings.data, n, seed=seed, test_size=settings.test_size))

    def features(images: Tensor) -> Floats:
        made = wavelets(images) if cell.where["features"] == WAVELETS else images
        return made.flatten(1).to(torch.float64 if n <= FLOAT64_EXAMPLES else torch.float32)

    x = features(train.inputs)
    bandwidth = half_median_distance(x)
    targets = one_hot(train.labels, train.classes).double()
    solution = interpolant(x, targets, bandwidth)
    fitted, found = (values(x, solution, inputs, bandwidth) for inputs in (x, features(test.inputs)))
    yield {
        "train_error": float((fitted.argmax(dim=1) != train.labels).double().mean()),
        "test_error": float((found.argmax(dim=1) != test.labels).double().mean()),
        "norm": math.sqrt(float((targets * solution).sum())),
        "residual": float((fitted - targets).abs().max()),
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
