"""Coverage of the nominal 95 % intervals on synthetic zoos with recipe effects, and what the tests find where there
is nothing to find; run by hand.

    python benchmarks/coverage.py --zoos 2000 [--resamples 1000]
    python benchmarks/coverage.py --zoos 2000 --only nulls

A recipe has an effect on the gap and one on the measure, correlated by rho, a smaller one of its own at each label
noise, and every run has seed noise; the measure rises with the label noise by an amount that differs between recipes.
The truth is the mean score over the simulated zoos. Beside the interval of the package stand three others: "drawn" is
the percentile interval of --resamples drawn paired bootstraps; "runs" takes every run for a recipe of its own;
"uncorrected" leaves the pairs of recipes of granulated tau counted twice.

Nulls: families of ten measures that have nothing to do with the gap but for the label noise (which tau_b must not see
either). Printed: the share of zoos in which the first one's p is at most .05, that in which any of the ten is, and that
in which any is after Holm's adjustment. "runs" permutes single runs instead of whole recipes.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd

from gapbench.evaluate.estimates import estimates as drawn_estimates
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import PSI, CellPairs, granulated_estimates, granulated_replicates
from gapbench.evaluate.statistics.multiplicity import holm
from gapbench.evaluate.statistics.randomisation import auc_estimates
from gapbench.evaluate.statistics.rank import noise_strata, tau_estimates, tau_replicates, within_noise_replicates
from gapbench.evaluate.statistics.resampling import Estimate, null_band, permuted, resampled_counts
from gapbench.evaluate.statistics.spearman import spearman_estimates


def grid(values: tuple[int, ...], seeds: int, noises: tuple[float, ...] = (0.0, 0.5)) -> Design:
    axes = [f"axis{number}" for number in range(len(values))]
    rows = itertools.product(*map(range, values), noises, range(seeds))
    return Design.of(pd.DataFrame(rows, columns=[*axes, "label_noise", "seed"]), axes)


def simulate(
    design: Design, rho: float, main: float, outliers: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    recipe, cell, n = design.recipe, design.recipe * 2 + design.level, len(design)
    effect, slope = rng.standard_normal((2, design.recipes))
    other = rho * effect + np.sqrt(1 - rho**2) * rng.standard_normal(design.recipes)
    other = np.where(rng.random(design.recipes) < outliers, 3 * rng.standard_normal(design.recipes), other)
    small = 0.3 * rng.standard_normal((2, 2 * design.recipes))
    axes = main * (design.codes @ np.array([1, 0.8, 0.6, 0.4, 0.2, 0.1])[: design.codes.shape[1]])
    gap = effect[recipe] + axes + small[0, cell] + 2.0 * design.level + 0.3 * rng.standard_normal(n)
    measure = other[recipe] + axes + small[1, cell] + 0.3 * rng.standard_normal(n)
    return gap, measure + design.level * (0.5 + 0.7 * slope[recipe])


def drawn(
    measure: np.ndarray, gap: np.ndarray, design: Design, resamples: int, rng: np.random.Generator
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Point and percentile interval of each score of the leaderboard, and of the first axis."""
    counts = resampled_counts(design.recipes, resamples, rng)
    found = {}
    for score, estimate in drawn_estimates(measure[:, None], gap, design, counts)[0].items():
        if not score.startswith("psi_") or score == f"psi_{design.axes[0]}":
            low, high = np.nanquantile(estimate.resamples, [0.025, 0.975])
            found[score, "drawn"] = (estimate.point, float(low), float(high))
    return found


def estimates(measure: np.ndarray, gap: np.ndarray, design: Design) -> dict[tuple[str, str], Estimate]:
    x, everything, strata = measure[:, None], [np.arange(len(gap))], noise_strata(gap, design)
    by_axis = granulated_estimates(x, gap, CellPairs.of(design, gap))[0]
    granulated = by_axis[PSI]
    alone = replace(design, recipe=np.arange(len(design)), recipes=len(design))
    return {
        ("tau_b", "gapbench"): tau_estimates(x, gap, design, everything, "b")[0],
        ("tau_b", "runs"): tau_estimates(x, gap, alone, everything, "b")[0],
        ("tau_a", "gapbench"): tau_estimates(x, gap, design, everything, "a")[0],
        ("within_noise_tau", "gapbench"): tau_estimates(x, gap, design, strata, "b")[0],
        ("within_noise_tau", "runs"): tau_estimates(x, gap, alone, strata, "b")[0],
        ("spearman", "gapbench"): spearman_estimates(x, gap, design)[0],
        ("granulated_tau", "gapbench"): granulated,
        ("granulated_tau", "uncorrected"): replace(granulated, sparse=False),
        (f"psi_{design.axes[0]}", "gapbench"): by_axis[design.axes[0]],
        ("randomisation_auc", "gapbench"): auc_estimates(x, design)[0],
    }


def nulls(zoos: int, seed: int, permutations: int = 399, family: int = 10) -> None:
    rng, design = np.random.default_rng(seed), grid((2,) * 5, 2)
    alone = replace(
        design, recipe=np.arange(len(design)), recipes=len(design), replicate=np.zeros(len(design), np.int64)
    )
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for _ in range(zoos):
        gap = simulate(design, 0.0, 0.0, 0.0, rng)[0]
        measures = np.stack([simulate(design, 0.0, 0.0, 0.0, rng)[1] for _ in range(family)], axis=1)
        blind = rng.standard_normal((design.recipes, family))[design.recipe] + 0.3 * rng.standard_normal(measures.shape)
        strata, cells = noise_strata(gap, design), CellPairs.of(design, gap)
        within = permuted(gap, design, permutations, rng)
        wrong = np.stack([_shuffled(gap, alone, rng) for _ in range(permutations)], axis=1)
        shuffled = permuted(gap, design, permutations, rng, noises=True)
        observed = gap[:, None]
        cases = {
            ("within_noise_tau", "gapbench"): (within_noise_replicates, (measures, strata), within),
            ("within_noise_tau", "runs"): (within_noise_replicates, (measures, strata), wrong),
            ("granulated_tau", "gapbench"): (granulated_replicates, (measures, cells), within),
            ("tau_b", "gapbench"): (lambda x, y, _: tau_replicates(x, y).tau_b(), (blind, None), shuffled),
        }
        for key, (score, (values, extra), gaps) in cases.items():
            points, scores = score(values, observed, extra)[:, 0], score(values, gaps, extra)
            p = np.array([null_band(float(point), row).p for point, row in zip(points, scores)])
            found.setdefault(key, []).append(p)
    rows = []
    for (name, method), several in found.items():
        p = np.stack(several)
        rates = (p[:, 0] <= 0.05, p.min(axis=1) <= 0.05, [holm(one).min() <= 0.05 for one in p])
        first, any_of_ten, adjusted = (round(100 * float(np.mean(rate)), 1) for rate in rates)
        everyone = round(100 * float((p <= 0.05).mean()), 2)
        rows.append((name, method, first, everyone, any_of_ten, adjusted))
    columns = ["score", "method", "first %", "all %", "any of ten %", "any after Holm %"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False), flush=True)


def _shuffled(gap: np.ndarray, design: Design, rng: np.random.Generator) -> np.ndarray:
    """Single runs moved inside their label noise."""
    out = gap.copy()
    for level in np.unique(design.level):
        rows = np.flatnonzero(design.level == level)
        out[rows] = rng.permutation(gap[rows])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoos", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=0, help="drawn ones, for the percentile interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["intervals", "nulls"])
    arguments = parser.parse_args()
    if arguments.only != "intervals":
        nulls(arguments.zoos, arguments.seed)
    if arguments.only == "nulls":
        return
    rows = []
    cases = [((2,) * 5, 2, rho, 0.0, 0.0) for rho in (0.0, 0.6, 0.9, 0.98)]
    cases += [((2,) * 5, 3, rho, 0.0, 0.0) for rho in (0.0, 0.9)]
    cases += [((3, 2, 2, 2, 2, 2), 2, rho, 0.0, 0.0) for rho in (0.0, 0.9)]
    cases += [((2,) * 5, 2, 0.6, 1.0, 0.0), ((2,) * 5, 2, 0.95, 0.0, 0.05), ((2,) * 4, 2, 0.6, 0.0, 0.0)]
    for values, seeds, rho, axes, outliers in cases:
        design, rng = grid(values, seeds), np.random.default_rng(arguments.seed)
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for _ in range(arguments.zoos):
            gap, measure = simulate(design, rho, axes, outliers, rng)
            for key, estimate in estimates(measure, gap, design).items():
                interval = estimate.interval()
                found.setdefault(key, []).append((interval.point, interval.low, interval.high))
            if arguments.resamples:
                for key, bounds in drawn(measure, gap, design, arguments.resamples, rng).items():
                    found.setdefault(key, []).append(bounds)
        for (score, method), intervals in found.items():
            points, lows, highs = np.array(intervals).T
            truth = points.mean()
            rows.append(
                {
                    "recipes": design.recipes,
                    "seeds": seeds,
                    "rho": rho,
                    "main": axes,
                    "outliers": outliers,
                    "score": score,
                    "method": method,
                    "truth": round(truth, 3),
                    "coverage": round(100 * float(((lows <= truth) & (truth <= highs)).mean()), 1),
                    "width": round(float((highs - lows).mean()), 3),
                }
            )
        print(pd.DataFrame(rows[-len(found) :]).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
