"""A two-layer ReLU network with 2n + d weights fits any labels of n points in d dimensions, by construction.

Paper: Zhang, Bengio, Hardt, Recht & Vinyals 2017 (arXiv:1611.03530), Theorem 1 and its proof.

Claim: there is a two-layer network with ReLU activations and 2n + d weights that can represent any function on a sample
of size n in d dimensions.

Rule: the network is built, not trained, for random labels in ten classes on Gaussian points. Seen where in every
cell its weights number exactly 2n + d, its training error is exactly 0, and its outputs are within 1e-6 of the
labels, with cells up to n = 2,000 and d = 50.

Construction: c(x) = Σ_j w_j relu(a·x − b_j). A random a in R^d makes the projections z_i = a·x_i different; sorted,
with b_1 < z_1 < b_2 < z_2 < …, the matrix A_ij = relu(z_i − b_j) is lower triangular with a positive diagonal, so
A w = y has one solution. Each b_j stands a tenth of the way from z_{j−1} to z_j: half way, forward substitution would
multiply rounding errors at every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.intervals import share_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, at_least, verdict

Array = NDArray[numpy.float64]

TOLERANCE = 1e-6
CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """Sample sizes, dimensions, seeds."""

    sizes: tuple[int, ...]
    dimensions: tuple[int, ...]
    seeds: int


@dataclass(frozen=True)
class Interpolant:
    """c(x) = Σ_j w_j relu(a·x − b_j): a (d,), b (n,), w (n,)."""

    a: Array
    b: Array
    w: Array

    @property
    def weights(self) -> int:
        """How many numbers it has."""
        return self.a.size + self.b.size + self.w.size

    def __call__(self, x: Float[numpy.ndarray, "m d"]) -> Array:
        """The outputs (m,)."""
        z = x @ self.a
        hidden = numpy.maximum(z[:, None] - self.b, 0.0)
        found: Array = hidden @ self.w
        return found


def interpolant(x: Float[numpy.ndarray, "n d"], y: Float[numpy.ndarray, " n"], a: Array) -> Interpolant:
    """The network of Theorem 1 for inputs x, labels y and the direction a.

    Raises: ValueError where two projections a·x_i coincide.
    """
    z = x @ a
    order = numpy.argsort(z)
    z, y = z[order], y[order]
    gaps = numpy.diff(z)
    if (gaps <= 0).any():
        raise ValueError("two points have the same projection: take another direction a")
    b = numpy.concatenate([[z[0] - 1.0], z[:-1] + gaps / 10])
    matrix = numpy.maximum(z[:, None] - b, 0.0)
    return Interpolant(a, b, solve_triangular(matrix, y, lower=True, check_finite=False))


def cells(settings: Settings) -> list[Cell]:
    """A cell a sample size, dimension and seed."""
    return [
        Cell({"n": n, "d": d, "seed": seed}, work=float(n * n))
        for n in settings.sizes
        for d in settings.dimensions
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Build the network and look at its outputs on its own sample."""
    n, d = cell.where["n"], cell.where["d"]
    rng = bench.rng(n, d, cell.where["seed"])
    x, y = rng.standard_normal((n, d)), rng.integers(CLASSES, size=n).astype(float)
    network = interpolant(x, y, rng.standard_normal(d))
    outputs = network(x)
    yield {
        "weights": network.weights,
        "theorem": 2 * n + d,
        "train_error": float((numpy.rint(outputs) != y).mean()),
        "residual": float(numpy.abs(outputs - y).max()),
        "largest_weight": float(numpy.abs(network.w).max()),
    }


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    counts = {
        "cells with exactly 2n + d weights": table["weights"] == table["theorem"],
        "cells with training error exactly 0": table["train_error"] == 0,
        f"cells with every output within {TOLERANCE:g} of its label": table["residual"] < TOLERANCE,
        "cells that reach n = 2,000 and d = 50 (one is enough)": _reaches(table),
    }
    return verdict(
        at_least("construction", what, share_interval(int(right.sum()), len(right)), 1.0)
        for what, right in counts.items()
    )


def _reaches(table: pandas.DataFrame) -> pandas.Series:
    return pandas.Series([bool(((table["n"] >= 2000) & (table["d"] >= 50)).any())])


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The count of the theorem and of the largest network built."""
    largest = table.sort_values(["n", "d"]).iloc[-1]
    n, d = int(largest["n"]), int(largest["d"])
    return [
        Beside(
            f"weights at n = {n:,}, d = {d}", f"2n + d = {2 * n + d:,}", "Theorem 1", f"{int(largest['weights']):,}"
        ),
        Beside("training error on random labels", "0", "Theorem 1", f"{table['train_error'].max():g} in all cells"),
    ]


EXPRESSIVITY = Phenomenon(
    name="expressivity",
    source="zhang2017, theorem 1",
    quick=Settings((10, 50, 200, 1000, 2000), (1, 10, 50), 3),
    full=Settings((10, 100, 1000, 10_000, 30_000), (1, 50, 784, 3072), 5),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Weights of the network that was built",
            "n",
            "weights",
            "sample size n",
            "weights",
            hue="d",
            log="xy",
            reference="theorem",
        ),
        Panel(
            "Largest distance of an output from its label",
            "n",
            "residual",
            "sample size n",
            "largest |c(x) − y|",
            hue="d",
            log="xy",
            horizontals=((TOLERANCE, "needed"),),
        ),
    ),
)
