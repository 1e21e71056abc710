"""How fast the statistics are, against scipy where it has the same; run by hand, one thread unless said.

    OMP_NUM_THREADS=1 python benchmarks/rank_statistics.py [--models 1000 10000] [--only NAME ...]

points: tau_a and tau_b of 120 measures. resamples: paired bootstraps of tau_b, a few of both kinds alternated, per
measure and resample, with the agreement of the two. information: conditional information of 60 measures, seven axes.
leaderboard: the whole leaderboard of 120 measures with 1,000 paired resamples and 1,000 permutations of every score
(use as many threads as there are cores). Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from gapbench.evaluate.declared import Declared
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.statistics.conditional_information import informations
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.resampled_tau import kendall_tau, resampled_tau

MEASURES = 120


def timed(call: Callable[[], object]) -> float:
    """Seconds of processor time: on a machine with other work, the clock on the wall counts that too."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def data(models: int, measures: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    gap = rng.standard_normal(models)
    return gap[:, None] + rng.uniform(0.3, 5, measures) * rng.standard_normal((models, measures)), gap


def points(models: int) -> None:
    measures, gap = data(models, MEASURES, np.random.default_rng(0))
    print(f"points: {MEASURES} measures x {models} models: {timed(lambda: kendall_tau(measures, gap)):.2f} s")


def resamples(models: int) -> None:
    rng = np.random.default_rng(0)
    chosen, drawn = 4, 256
    measures, gap = data(models, chosen, rng)
    counts = rng.multinomial(models, np.full(models, 1 / models), size=drawn)
    few = range(0, drawn, 16)

    def scipy_loop() -> np.ndarray:
        rows = [np.repeat(np.arange(models), counts[one]) for one in few]
        return np.array([[kendalltau(measures[r, at], gap[r]).statistic for r in rows] for at in range(chosen)])

    ours, theirs = [], []
    for _ in range(3):
        ours.append(timed(lambda: resampled_tau(measures, gap, counts)) / (chosen * drawn))
        theirs.append(timed(scipy_loop) / (chosen * len(few)))
    apart = np.abs(resampled_tau(measures, gap, counts).tau_b()[:, ::16] - scipy_loop()).max()
    ratios = np.array(theirs) / np.array(ours)
    print(
        f"resamples: {models} models: {1e6 * np.median(ours):.0f} us a measure and resample, scipy "
        f"{1e6 * np.median(theirs):.0f} us; ratios {np.round(ratios, 1)}; largest difference {apart:.1e}; "
        f"{MEASURES} measures x 1000 resamples: {MEASURES * 1000 * np.median(ours):.0f} s"
    )


def information(models: int) -> None:
    axes = list("abcdefg")
    grid = list(itertools.product(range(3), repeat=len(axes)))
    rows = [grid[at % len(grid)] for at in range(models)]
    measures, gap = data(models, 60, np.random.default_rng(0))
    design = Design.of(pd.DataFrame(rows, columns=axes), axes)
    seconds = timed(lambda: informations(measures, gap, design))
    print(f"information: 60 measures x {models} models, 29 sets of axes: {seconds:.1f} s")


def whole(models: int) -> None:
    rng = np.random.default_rng(0)
    grid = itertools.product(range(3), range(3), range(3), range(2), range(3), (0.0, 0.5), range(max(1, models // 324)))
    axes = ("a", "b", "c", "d", "e")
    runs = pd.DataFrame(list(grid), columns=[*axes, "label_noise", "seed"])
    runs.index = pd.Index([f"run{at}" for at in range(len(runs))], name="run_id")
    measures, gap = data(len(runs), MEASURES, rng)
    runs["error_gap"] = 0.1 * gap + runs["label_noise"]
    runs["converged"] = True
    names = [f"measure{at}" for at in range(MEASURES)]
    values = pd.DataFrame(measures, runs.index, names).rename_axis(columns="measure")
    readings = values.stack().rename("value").reset_index().rename(columns={"run_id": "run"})
    table = SimpleNamespace(
        runs=runs,
        values=values,
        readings=readings.assign(status="ok", seconds=0.1),
        measures={name: Declared(name, name, "f", "s", 1, 1, "") for name in names},
        axes=axes,
        test_errors=None,
    )
    begun = time.perf_counter()
    seconds = timed(lambda: leaderboard(table))  # type: ignore[arg-type]
    wall = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"leaderboard: {MEASURES} measures x {len(runs)} models: {seconds:.0f} s, {wall:.0f} s on the clock, "
        f"peak {memory:.1f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[1000, 10000])
    jobs = {"points": points, "resamples": resamples, "information": information, "leaderboard": whole}
    parser.add_argument("--only", nargs="+", choices=list(jobs), default=["points", "resamples", "information"])
    arguments = parser.parse_args()
    for name, models in itertools.product(arguments.only, arguments.models):
        jobs[name](models)


if __name__ == "__main__":
    main()
