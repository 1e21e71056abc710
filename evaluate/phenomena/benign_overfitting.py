"""The least-norm interpolant of noisy data is harmless where the covariance has a long flat tail, and only there.

Paper: Bartlett, Long, Lugosi & Tsigler 2020 (arXiv:1906.11300), theorem 4.

Claim: with k* the least k with r_k(Σ) ≥ b n, the excess risk of the least-norm interpolant is, up to constants, the
part of the signal that is not found plus σ² (k*/n + n/R_{k*}(Σ)): small only where r_k is large already for k far below
n, and R_k is large against n.

Rule: over designed spectra, every estimate interpolates its noisy targets (largest training residual below 1e-6); the
excess risk that the noise causes follows σ² (k*/n + n/R_{k*}), b = 1, with a Spearman correlation whose interval over
seeds lies above 0.8; ten spikes over a flat tail of 100 n have an excess risk whose interval lies below 0.2 σ², and the
isotropic one with little more dimensions than examples has one above σ². (r_k = Σ_{i>k} λ_i / λ_{k+1}, R_k = (Σ_{i>k}
λ_i)² / Σ_{i>k} λ_i².)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from gapbench.datasets.regression import LinearModel, linear_regression
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.intervals import mean_interval, share_interval, spearman_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, at_least, below, shown, verdict

Array = NDArray[numpy.float64]

NOISE_STD = 1.0
BENIGN, ISOTROPIC = "spikes and a tail of 100 n", "isotropic, 1.2 n"


@dataclass(frozen=True)
class Settings:
    """Examples, and seeds."""

    n: int
    seeds: int


def spectra(n: int) -> dict[str, Array]:
    """Eigenvalues by name, largest first: ten spikes over flat tails of several lengths, powers, and isotropic ones.

    The tails of the spiked spectra all have the trace 1, so that only their length differs.
    """
    spikes = numpy.full(10, 1.0)
    flat = {factor: numpy.r_[spikes, numpy.full(factor * n, 1 / (factor * n))] for factor in (2, 5, 20, 100)}
    powers = {exponent: numpy.arange(1, 40 * n + 1.0) ** -exponent for exponent in (0.5, 1.0, 1.5, 2.0)}
    return {
        **{f"spikes and a tail of {factor} n": values for factor, values in flat.items()},
        **{f"power {exponent:g}, 40 n": values for exponent, values in powers.items()},
        ISOTROPIC: numpy.ones(int(1.2 * n)),
        "isotropic, 3 n": numpy.ones(3 * n),
        "isotropic, 30 n": numpy.ones(30 * n),
    }


def effective_ranks(spectrum: Array, k: int) -> tuple[float, float]:
    """(r_k, R_k) = (Σ_{i>k} λ_i / λ_{k+1}, (Σ_{i>k} λ_i)² / Σ_{i>k} λ_i²) of eigenvalues in descending order."""
    tail = spectrum[k:]
    return float(tail.sum() / tail[0]), float(tail.sum() ** 2 / (tail**2).sum())


def theory(spectrum: Array, n: int, b: float = 1.0) -> tuple[int, float]:
    """(k*, k*/n + n/R_{k*}), k* the least k below n with r_k ≥ b n; (n, 1) at least where there is none.

    Where no k below n has so large an r_k, the theorem's lower bound says that the risk is at least a constant.
    """
    sums = spectrum[::-1].cumsum()[::-1]
    squares = (spectrum**2)[::-1].cumsum()[::-1]
    enough = numpy.flatnonzero(sums[:n] / spectrum[:n] >= b * n)
    if not len(enough):
        return n, 1.0 + float(n * squares[min(n, len(spectrum) - 1)] / sums[min(n, len(spectrum) - 1)] ** 2)
    k = int(enough[0])
    return k, float(k / n + n * squares[k] / sums[k] ** 2)


def cells(settings: Settings) -> list[Cell]:
    """A cell a spectrum and seed."""
    return [
        Cell({"spectrum": name, "seed": seed}, work=float(len(values) * settings.n))
        for name, values in spectra(settings.n).items()
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """The least-norm interpolant β̂ = Xᵀ (X Xᵀ)⁻¹ y, of targets and of their noise alone; risks are exact sums."""
    n, spectrum = settings.n, spectra(settings.n)[cell.where["spectrum"]]
    rng = bench.rng(cell.where["spectrum"], cell.where["seed"])
    # The signal lies on the ten largest eigenvalues, and is of the size of the noise.
    coefficients = numpy.zeros(len(spectrum))
    coefficients[:10] = rng.standard_normal(10) / numpy.sqrt(10 * spectrum[:10])
    law = LinearModel(spectrum, coefficients, NOISE_STD)
    sample = linear_regression(law, n, rng)
    noise = sample.targets - sample.inputs @ coefficients
    gram = cho_factor(sample.inputs @ sample.inputs.T, lower=True)
    estimate = sample.inputs.T @ cho_solve(gram, sample.targets)
    from_noise = sample.inputs.T @ cho_solve(gram, noise)
    k, predicted = theory(spectrum, n)
    r, R = effective_ranks(spectrum, k) if k < len(spectrum) else (0.0, 0.0)
    yield {
        "n": n,
        "excess": law.excess_risk(estimate),
        "noise_excess": float(spectrum @ from_noise**2),
        "theory": predicted,
        "k_star": k,
        "r_k": r,
        "R_k": R,
        "residual": float(numpy.abs(sample.inputs @ estimate - sample.targets).max()),
    }


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    interpolated = table["residual"] < 1e-6
    benign = mean_interval(table.loc[table["spectrum"] == BENIGN, "noise_excess"])
    isotropic = mean_interval(table.loc[table["spectrum"] == ISOTROPIC, "noise_excess"])
    return verdict(
        [
            at_least(
                "interpolation", "estimates that interpolate", share_interval(int(interpolated.sum()), len(table)), 1.0
            ),
            above(
                "theory", "Spearman of excess and k*/n + n/R", spearman_interval(table, "theory", "noise_excess"), 0.8
            ),
            below("benign", f"excess over σ², {BENIGN}", benign, 0.2),
            above("not benign", f"excess over σ², {ISOTROPIC}", isotropic, 1.0),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The theory's rate and the measured excess, for each spectrum."""
    found = []
    for name, rows in table.groupby("spectrum", sort=False):
        rate, k, n = (rows[column].iloc[0] for column in ("theory", "k_star", "n"))
        published = f"{rate:.2g} times a constant (k* = {k:g})" if k < n else "at least a constant (no k* below n)"
        ours = shown(mean_interval(rows["noise_excess"]))
        found.append(Beside(f"excess over σ², {name}", published, "theorem 4", ours))
    return found


BENIGN_OVERFITTING = Phenomenon(
    name="benign_overfitting",
    revision=2,
    source="bartlett2020, theorem 4",
    quick=Settings(n=100, seeds=10),
    full=Settings(n=1000, seeds=20),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Excess risk from noise against the theory's rate",
            "theory",
            "noise_excess",
            "k*/n + n/R",
            "excess risk over σ²",
            kind="points",
            log="xy",
        ),
        Panel(
            "Excess risk from noise by spectrum",
            "noise_excess",
            "spectrum",
            "excess risk over σ²",
            "",
            kind="bars",
            log="x",
        ),
    ),
)
