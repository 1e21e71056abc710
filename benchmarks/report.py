"""How long a report takes and how large its page is, on a synthetic zoo; run by hand.

    OMP_NUM_THREADS=1 python benchmarks/report.py --out report.html [--measures 120] [--models 1000] [--assess]

Seconds are of the processor: of the leaderboard (1,000 resamples and permutations), of the assessment (with --assess;
minutes), and of the page. One measure in seven is undefined on some runs, so that the coverage differs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from gapbench.evaluate.assessment import assessment
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.progress import stepping
from gapbench.evaluate.table import Table
from gapbench.reports.html import report

Result = TypeVar("Result")
AXES = ("width", "depth", "learning_rate", "batch_size", "weight_decay")
VALUES = ((64, 256), (2, 4), (0.01, 0.1), (32, 128), (0.0, 5e-4))
DOCUMENTATION = "What it is, in a line.\n\nFormula: ``sum_i ||W_i||^2``, a second line that says when it is undefined."


def zoo(measures: int, models: int) -> Table:
    rng = np.random.default_rng(0)
    seeds = max(1, round(models / (3 * 2 ** len(AXES))))
    grid = itertools.product(*VALUES, (0.0, 0.5, 1.0), range(seeds))
    runs = pd.DataFrame(list(grid), columns=[*AXES, "label_noise", "seed"])
    runs.index = pd.Index([f"{at:020x}" for at in range(len(runs))], name="run_id")
    quality = runs.groupby(list(AXES)).ngroup().map(dict(enumerate(rng.standard_normal(2 ** len(AXES)))))
    runs["train_error"], runs["converged"], runs["test_size"], runs["epochs"], runs["steps"] = (
        0.0,
        True,
        10_000,
        50,
        900,
    )
    runs["test_error"] = 0.1 + 0.02 * quality + 0.7 * runs["label_noise"] + 0.01 * rng.standard_normal(len(runs))
    runs["clean_test_error"] = runs["error_gap"] = runs["test_error"]
    columns, declared = {}, {}
    for at in range(measures):
        key = f"measure_{at:03d}_of_the_zoo"
        noise = rng.uniform(0.05, 1) * rng.standard_normal(len(runs))
        columns[key] = np.exp(5 * (runs["error_gap"] + noise)) if at % 3 else runs["error_gap"] + noise
        if at % 7 == 5:
            columns[key] = np.where(rng.random(len(runs)) < 0.2, np.nan, columns[key])
        declared[key] = Declared(key, key, "norms", "jiang2020", 1, 1, "", documentation=DOCUMENTATION)
    values = pd.DataFrame(columns, runs.index).rename_axis(columns="measure")
    readings = values.reset_index().melt("run_id", value_name="value").rename(columns={"run_id": "run"})
    known = readings["value"].notna()
    readings["status"], readings["reason"] = np.where(known, "ok", "undefined"), np.where(known, "", "no margin")
    readings["revision"], readings["standard_error"], readings["seconds"] = 1, 0.0, 0.1
    return Table(runs, values, readings, declared, AXES, None)


def timed(what: str, call: Callable[[], Result]) -> Result:
    begun = time.process_time()
    result = call()
    print(f"{what}: {time.process_time() - begun:.1f} s", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--measures", type=int, default=120)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--assess", action="store_true")
    arguments = parser.parse_args()
    table = zoo(arguments.measures, arguments.models)
    print(f"{arguments.measures} measures x {len(table.runs)} models")
    frame = timed("leaderboard", lambda: leaderboard(table))
    further = None
    if arguments.assess:
        with stepping("assessing measures") as step:
            further = timed("assessment", lambda: assessment(table, progress=step))
    path = timed("page", lambda: report(table, frame, assessment=further, provenance={}, out=arguments.out))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
