"""A convolutional filter is learned from fewer examples than its fully connected twin.

Paper: Du, Wang, Zhai, Balakrishnan, Salakhutdinov & Singh 2018 (arXiv:1805.07883), theorems 1 and 2.

Claim: the root of the excess risk of a learned filter of m weights, whose outputs are added up over all patches,
falls as √(m/n), with fewer samples than a fully connected linear predictor of the same d inputs, which needs √(d/n).

Rule: least squares, exact risks: the exponent of the root excess risk in n, fitted to each seed, has an interval within
[−0.6, −0.4]; where n ≥ 2d, the fully connected twin's root excess risk over that of the filter has an interval above 1,
and so has, at the smallest n, that of the least-norm fully connected predictor. The teacher is a filter, so both
contain the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.intervals import geometric_mean_interval, slope_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, shown, verdict, within

Array = NDArray[numpy.float64]


@dataclass(frozen=True)
class Settings:
    """Inputs d, filter weights m, stride, sample sizes, seeds; noise is of unit variance."""

    inputs: int
    filter: int
    stride: int
    sizes: tuple[int, ...]
    seeds: int


def pooling(inputs: int, filter: int, stride: int) -> NDArray[numpy.float64]:
    """The matrix A (d, m) with x ↦ Aᵀ x = Σ_l P_l x, P_l the l-th patch: a filter w has the output wᵀ Aᵀ x."""
    matrix = numpy.zeros((inputs, filter))
    for start in range(0, inputs - filter + 1, stride):
        matrix[numpy.arange(start, start + filter), numpy.arange(filter)] += 1.0
    return matrix


def cells(settings: Settings) -> list[Cell]:
    """A cell a sample size and seed."""
    return [Cell({"n": n, "seed": seed}, work=float(n)) for n in settings.sizes for seed in range(settings.seeds)]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Both least-squares fits to one sample of Gaussian inputs; the excess risk is ‖û − u‖², u the input weights."""
    n, d, m = cell.where["n"], settings.inputs, settings.filter
    rng = bench.rng(cell.where["seed"])
    patches = pooling(d, m, settings.stride)
    truth = rng.standard_normal(m) / numpy.sqrt(m)
    x = rng.standard_normal((n, d))
    y = x @ patches @ truth + rng.standard_normal(n)
    filters = numpy.linalg.lstsq(x @ patches, y)[0]
    connected = numpy.linalg.lstsq(x, y)[0]
    for network, weights in (("filter", patches @ filters), ("fully connected", connected)):
        yield {
            "network": network,
            "inputs": d,
            "weights": m if network == "filter" else d,
            "root_excess": float(numpy.linalg.norm(weights - patches @ truth)),
        }


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    filters = table[table["network"] == "filter"]
    wide = table.pivot_table(index=["n", "seed"], columns="network", values="root_excess").reset_index()
    ratio = wide["fully connected"] / wide["filter"]
    enough = wide["n"] >= 2 * table["inputs"].iloc[0]
    few = wide["n"] == wide["n"].min()
    return verdict(
        [
            within(
                "rate", "exponent of the root excess risk in n", slope_interval(filters, "n", "root_excess"), -0.6, -0.4
            ),
            above(
                "twin", "root excess of the twin over the filter's, n ≥ 2d", geometric_mean_interval(ratio[enough]), 1.0
            ),
            above("twin", "the same at the smallest n", geometric_mean_interval(ratio[few]), 1.0),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The exponent, and how much worse the twin is with many examples."""
    filters = table[table["network"] == "filter"]
    wide = table.pivot_table(index=["n", "seed"], columns="network", values="root_excess").reset_index()
    last = wide[wide["n"] == wide["n"].max()]
    d, m = int(table["weights"].max()), int(table["weights"].min())
    return [
        Beside(
            "exponent of the root excess risk in n",
            "−1/2",
            "theorem 1",
            shown(slope_interval(filters, "n", "root_excess")),
        ),
        Beside(
            f"twin over filter at the largest n, d = {d}, m = {m}",
            f"√(d/m) = {(d / m) ** 0.5:.3g} up to constants",
            "theorems 1 and 2",
            shown(geometric_mean_interval(last["fully connected"] / last["filter"])),
        ),
    ]


SAMPLE_COMPLEXITY = Phenomenon(
    name="sample_complexity",
    source="du2018, theorem 1",
    quick=Settings(64, 8, 2, (16, 32, 128, 256, 512, 1024, 2048, 4096), 20),
    full=Settings(256, 16, 4, (32, 128, 512, 1024, 2048, 4096, 8192, 16384, 32768), 100),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Root excess risk",
            "n",
            "root_excess",
            "examples n",
            "√E(ŷ − y)²",
            hue="network",
            log="xy",
        ),
    ),
)
