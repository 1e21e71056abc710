"""Coverage of the nominal 95 % intervals on synthetic zoos with recipe effects; run by hand.

    python benchmarks/coverage.py --zoos 2000

A recipe has an effect on the gap and one on the measure, correlated by rho, a smaller one of its own at each label
noise, and every run has seed noise; the measure rises with the label noise by an amount that differs between recipes.
The truth is the mean score over the simulated zoos. Beside the interval of the package stand two that are wrong: "runs"
takes every run for a recipe of its own, "uncorrected" leaves the pairs of recipes of granulated tau counted twice.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import PSI, CellPairs, granulated_estimates
from gapbench.evaluate.statistics.randomisation import auc_estimates
from gapbench.evaluate.statistics.rank import noise_strata, tau_estimates
from gapbench.evaluate.statistics.resampling import Estimate

SCORES = ("tau_b", "tau_a", "within_noise_tau", "granulated_tau", "randomisation_auc")


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


def estimates(measure: np.ndarray, gap: np.ndarray, design: Design) -> dict[tuple[str, str], Estimate]:
    x, everything, strata = measure[:, None], [np.arange(len(gap))], noise_strata(gap, design)
    granulated = granulated_estimates(x, gap, CellPairs.of(design, gap))[0][PSI]
    alone = replace(design, recipe=np.arange(len(design)), recipes=len(design))
    return {
        ("tau_b", "gapbench"): tau_estimates(x, gap, design, everything, "b")[0],
        ("tau_b", "runs"): tau_estimates(x, gap, alone, everything, "b")[0],
        ("tau_a", "gapbench"): tau_estimates(x, gap, design, everything, "a")[0],
        ("within_noise_tau", "gapbench"): tau_estimates(x, gap, design, strata, "b")[0],
        ("within_noise_tau", "runs"): tau_estimates(x, gap, alone, strata, "b")[0],
        ("granulated_tau", "gapbench"): granulated,
        ("granulated_tau", "uncorrected"): replace(granulated, sparse=False),
        ("randomisation_auc", "gapbench"): auc_estimates(x, design)[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoos", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
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
        print(pd.DataFrame(rows).tail(8).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
