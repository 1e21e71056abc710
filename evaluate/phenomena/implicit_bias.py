"""Gradient descent chooses among solutions: the maximum margin direction, and matrices of low nuclear norm.

Paper: Soudry, Hoffer, Nacson, Gunasekar & Srebro 2018 (arXiv:1710.10345); Gunasekar, Woodworth, Bhojanapalli, Neyshabur
& Srebro 2017 (arXiv:1705.09280).

Claim: on separable data the direction of gradient descent on the logistic loss converges to the maximum margin
direction, with an angle that falls like 1/log t; gradient descent from small values on a full-rank factorisation of a
matrix is conjectured to converge to the solution of least nuclear norm (theirs is symmetric, U Uᵀ; here it is U Vᵀ).

Rule: (1) the angle to the maximum margin direction at the end is below 10 degrees, smaller than at a hundredth of the
steps, and smaller than the angle to the mean difference of the classes, all intervals over seeds (the two comparisons:
paired differences); (2) matrix completion: started small, the nuclear norm is within 5 % of the least one that fits the
entries seen (by a convex program solved here), below that of a start of unit size, and the error on unseen entries is
below a tenth of that of the start of unit size.

Tried: the 5 % of the rule do not tell the solution of least norm from the true matrix, whose norm is hardly larger.
What descent finds errs far less on unseen entries than the solution of least norm: it prefers low rank, as Arora et al.
2019 (arXiv:1905.13655) and Razin & Cohen 2020 (arXiv:2005.06398) say against the conjecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.svm import SVC

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.intervals import log_slope, mean_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, below, shown, verdict, within

Array = NDArray[numpy.float64]

MARGIN, MATRIX = "maximum margin", "nuclear norm"
SMALL, LARGE = 1e-3, 1.0


@dataclass(frozen=True)
class Settings:
    """Points and dimensions of the separable data, steps; side, rank, share of entries seen and steps of the matrix."""

    points: int
    dimension: int
    steps: int
    side: int
    rank: int
    observed: float
    matrix_steps: int
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a part, seed and start."""
    margin = [Cell({"part": MARGIN, "seed": seed}, work=settings.steps / 1e5) for seed in range(settings.seeds)]
    size = settings.matrix_steps / 1e4 * (settings.side / 20) ** 2
    matrix = [
        Cell({"part": MATRIX, "start": start, "seed": seed}, work=size)
        for seed in range(settings.seeds)
        for start in (SMALL, LARGE)
    ]
    return [*margin, *matrix]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """One descent on separable points, or one on a factorised matrix."""
    if cell.where["part"] == MARGIN:
        yield from separable(settings, bench.rng(MARGIN, cell.where["seed"]))
    else:
        yield completion(settings, bench.rng(MATRIX, cell.where["seed"]), cell.where["start"])


def separable(settings: Settings, rng: numpy.random.Generator) -> Iterator[Row]:
    """Logistic regression without bias, full-batch gradient descent from zero, on separable Gaussian points.

    The step is 1 / L, L = ‖X‖₂² / (4 n): the loss then falls at every step.
    """
    direction = rng.standard_normal(settings.dimension)
    x = rng.standard_normal((settings.points, settings.dimension))
    signs = numpy.sign(x @ direction)
    x = x + 0.3 * signs[:, None] * direction / numpy.linalg.norm(direction)
    signed = x * signs[:, None]
    best, mean = max_margin(x, signs), signed.mean(axis=0)
    rate = 4 * settings.points / numpy.linalg.norm(x, 2) ** 2
    w = numpy.zeros(settings.dimension)
    marks = set(numpy.unique(numpy.geomspace(10, settings.steps, 25).astype(int)).tolist()) | {settings.steps // 100}
    for step in range(1, settings.steps + 1):
        w += rate / settings.points * (expit(-(signed @ w)) @ signed)
        if step in marks:
            yield {
                "step": step,
                "angle": angle(w, best),
                "angle_to_means": angle(w, mean),
                "loss": float(numpy.logaddexp(0, -(signed @ w)).mean()),
                "margin": float((signed @ w).min() / numpy.linalg.norm(w)),
                "largest_margin": float((signed @ best).min() / numpy.linalg.norm(best)),
            }


def max_margin(x: Array, signs: Array) -> Array:
    """The direction of largest margin through the origin: a hard-margin SVM without bias, by mirrored points.

    A point and its mirror image of the other class have the same margin for every w, and make the bias 0.
    """
    mirrored = SVC(kernel="linear", C=1e8, tol=1e-8).fit(numpy.r_[x, -x], numpy.r_[signs, -signs])
    found: Array = mirrored.coef_[0]
    return found


def angle(first: Array, second: Array) -> float:
    """The angle between two vectors, in degrees."""
    cosine = first @ second / (numpy.linalg.norm(first) * numpy.linalg.norm(second))
    return float(numpy.degrees(numpy.arccos(numpy.clip(cosine, -1, 1))))


def completion(settings: Settings, rng: numpy.random.Generator, start: float) -> Row:
    """Fit the seen entries of a low-rank matrix by gradient descent on U Vᵀ, square factors of the size ``start``."""
    side, rank = settings.side, settings.rank
    truth = rng.standard_normal((side, rank)) @ rng.standard_normal((rank, side)) / numpy.sqrt(rank)
    seen = rng.random((side, side)) < settings.observed
    u, v = (start * rng.standard_normal((side, side)) / numpy.sqrt(side) for _ in range(2))
    rate = 0.2 / numpy.linalg.norm(truth, 2)
    for _ in range(settings.matrix_steps):
        residual = numpy.where(seen, u @ v.T - truth, 0.0)
        u, v = u - rate * residual @ v, v - rate * residual.T @ u
    found = u @ v.T
    least = least_nuclear_norm(truth, seen)
    return {
        "nuclear_norm": _nuclear(found),
        "least_nuclear_norm": _nuclear(least),
        "true_nuclear_norm": _nuclear(truth),
        "seen_error": _relative(found, truth, seen),
        "unseen_error": _relative(found, truth, ~seen),
        "least_unseen_error": _relative(least, truth, ~seen),
        "least_seen_error": _relative(least, truth, seen),
    }


def least_nuclear_norm(truth: Array, seen: NDArray[numpy.bool_], steps: int = 3000) -> Array:
    """The matrix of least nuclear norm that agrees with the seen entries, by Douglas–Rachford splitting.

    Formula: x = soft(z, 1) of the singular values; z ← z + P(2x − z) − x, with P writing the seen entries.
    """
    z = numpy.where(seen, truth, 0.0)
    for _ in range(steps):
        u, s, vt = numpy.linalg.svd(z)
        x = (u * numpy.maximum(s - 1.0, 0)) @ vt
        z = z + numpy.where(seen, truth, 2 * x - z) - x
    found: Array = numpy.where(seen, truth, x)
    return found


def _nuclear(matrix: Array) -> float:
    return float(numpy.linalg.svd(matrix, compute_uv=False).sum())


def _relative(found: Array, truth: Array, where: NDArray[numpy.bool_]) -> float:
    return float(numpy.linalg.norm((found - truth)[where]) / numpy.linalg.norm(truth[where]))


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    margin = chosen(table, {"part": MARGIN})
    steps = margin["step"].max()
    last = margin[margin["step"] == steps].set_index("seed")
    before = margin[margin["step"] == steps // 100].set_index("seed")
    small, large = (chosen(table, {"part": MATRIX, "start": start}).set_index("seed") for start in (SMALL, LARGE))
    ratio = small["nuclear_norm"] / small["least_nuclear_norm"]
    return verdict(
        [
            below(MARGIN, "angle to the maximum margin at the end, degrees", mean_interval(last["angle"]), 10),
            above(
                MARGIN, "fall of the angle over the last two decades", mean_interval(before["angle"] - last["angle"]), 0
            ),
            above(
                MARGIN,
                "angle to the means less angle to the maximum margin",
                mean_interval(last["angle_to_means"] - last["angle"]),
                0,
            ),
            within(MATRIX, "nuclear norm over the least one, small start", mean_interval(ratio), 0.95, 1.05),
            above(
                MATRIX,
                "nuclear norm from a unit start less that from a small one",
                mean_interval(large["nuclear_norm"] - small["nuclear_norm"]),
                0,
            ),
            below(
                MATRIX,
                "unseen error from a small start over that from a unit one",
                mean_interval(small["unseen_error"] / large["unseen_error"]),
                0.1,
            ),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The rate of the angle, and the nuclear norms."""
    margin = chosen(table, {"part": MARGIN})
    slopes = [
        log_slope(numpy.log(rows["step"]), rows["angle"]) for _, rows in margin[margin["step"] >= 100].groupby("seed")
    ]
    small = chosen(table, {"part": MATRIX, "start": SMALL})
    return [
        Beside(
            "exponent of the angle in log t",
            "−1 (asymptotically)",
            "Soudry et al., theorem 3",
            shown(mean_interval(slopes)),
        ),
        Beside(
            "nuclear norm over the least one, small start",
            "1 (conjectured limit of small starts)",
            "Gunasekar et al., section 2",
            shown(mean_interval(small["nuclear_norm"] / small["least_nuclear_norm"])),
        ),
        Beside(
            "unseen error of descent; of the least-norm solution",
            "equal, were the conjecture true",
            "Gunasekar et al., section 2",
            f"{shown(mean_interval(small['unseen_error']))}; {shown(mean_interval(small['least_unseen_error']))}",
        ),
    ]


IMPLICIT_BIAS = Phenomenon(
    name="implicit_bias",
    source="soudry2018; gunasekar2017",
    quick=Settings(40, 5, 100_000, 20, 2, 0.5, 10_000, 8),
    full=Settings(200, 20, 10_000_000, 100, 3, 0.3, 100_000, 20),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Angle to the maximum margin direction",
            "step",
            "angle",
            "steps of gradient descent",
            "angle (degrees)",
            where={"part": MARGIN},
            log="xy",
        ),
        Panel(
            "Nuclear norm of the solution",
            "start",
            "nuclear_norm",
            "size of the start",
            "nuclear norm",
            where={"part": MATRIX},
            kind="bars",
        ),
        Panel(
            "Error on entries that were not seen",
            "start",
            "unseen_error",
            "size of the start",
            "relative error",
            where={"part": MATRIX},
            kind="bars",
            log="y",
        ),
    ),
)
