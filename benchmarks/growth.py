"""How a zoo grows: opening it, its table, its plan and its state at 100, 1,000 and 10,000 stored runs.

    python benchmarks/growth.py [--sizes 100 1000 10000] [--measures 50] [--folder DIR]

The runs are made up (tiny weights, readings drawn at random) and stored by the functions that store real ones. Printed:
seconds and peak memory of each step, in a fresh process each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy
import torch

from gapbench.evaluate import tensors
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.store import HISTORY, TEST, WEIGHTS, begin
from gapbench.evaluate.zoo import parse
from gapbench.measures.read import Reading
from gapbench.models.spec import RunSpec, run_id
from gapbench.models.trained import History, Outcome, TestResults

GRID = """
name = "grown"
seeds = {seeds}
[data]
name = "digits"
train_size = 64
test_size = 100
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
[axes]
width = [4, 8, 16, 32, 64]
weight_decay = [0.0, 1e-4]
dropout = [0.0, 0.1, 0.2, 0.3, 0.4]
"""
"""Fifty recipes, with their random-label twins: a hundred runs a seed."""

STEPS = {
    "compact": "from gapbench.evaluate.store import open_store; from gapbench.evaluate.compaction import compact; "
    "compact(open_store(Path(sys.argv[1])))",
    "open": "from gapbench.evaluate.store import open_store; from gapbench.evaluate.compaction import frames; "
    "frames(open_store(Path(sys.argv[1])))",
    "table": "from gapbench.evaluate.table import table; table(Path(sys.argv[1]))",
    "status": "from gapbench.evaluate.status import status; status(Path(sys.argv[1]))",
    "run, nothing to do": "from gapbench import api; api.run(Path(sys.argv[1]) / 'zoo.toml', out=sys.argv[1], "
    "only=['l2'], jobs=1, progress=False)",
    "leaderboard": "from gapbench import api; api.leaderboard(sys.argv[1], resamples=100, permutations=100)",
}


def grow(folder: Path, size: int, measures: int) -> None:
    """Store ``size`` made-up runs with readings of ``measures`` measures each."""
    seeds = list(range(size // 100))
    text = GRID.format(seeds=seeds)
    zoo = parse(text, "grown.toml")
    store = begin(folder, text, [run_id(spec) for spec in zoo.specs])
    rng = numpy.random.default_rng(0)
    keys = [f"measure_{number}" for number in range(measures - 1)] + ["l2"]
    l2 = _declared("l2")
    store.declare([l2 if key == "l2" else dataclasses.replace(l2, key=key, name=key) for key in keys])
    state = {"w": torch.zeros(2)}
    weights = tensors.weights_content(state, state)
    history = tensors.history_content(History(*(torch.zeros(2, dtype=torch.float64) for _ in range(3))))
    for spec in zoo.specs:
        _store(store, spec, rng, keys, l2, weights, history)


def _store(store, spec: RunSpec, rng, keys, l2: Declared, weights: bytes, history: bytes) -> None:  # type: ignore[no-untyped-def]
    errors = torch.from_numpy((rng.random(100) < 0.3).astype(numpy.float32))
    gap = float(errors.mean())
    outcome = Outcome(0.0, gap, 0.05, gap, 0.05, 0.01, 1.0, 0.1, 100, 9, 36, True, 0.1)
    folder = store.folder(run_id(spec))
    folder.mkdir(parents=True, exist_ok=True)
    store.write_spec(spec)
    contents = {WEIGHTS: weights, HISTORY: history, TEST: tensors.results_content(TestResults(errors, errors))}
    store.commit(spec, outcome, contents)
    readings = [Reading(key, l2.revision, l2.digest, gap + float(rng.normal()), None, "ok", "", 0.001) for key in keys]
    store.append_readings(run_id(spec), readings)


def _declared(key: str) -> Declared:
    from gapbench.evaluate.declared import declared
    from gapbench.measures import BUILT_IN

    entry = BUILT_IN.measures[key]
    return declared(entry, BUILT_IN.digest(entry), BUILT_IN.closure(entry))


def timed(step: str, folder: Path) -> tuple[float, float, float]:
    """Wall and processor seconds of a step without the imports of its process, and its peak memory in MB."""
    modules, _, call = STEPS[step].rpartition("; ")
    code = (
        f"import resource, sys, time; from pathlib import Path\n{modules}\nimport pandas, pyarrow.parquet\n"
        f"if 'api' in {modules!r}:\n    import gapbench.measures, gapbench.evaluate.execute\n"
        f"start, cpu = time.perf_counter(), time.process_time()\n{call}\n"
        "print(time.perf_counter() - start, time.process_time() - cpu, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step}: {done.stderr}")
    wall, cpu, peak = map(float, done.stdout.split()[-3:])
    return wall, cpu, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--measures", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp())
    for size in options.sizes:
        folder = root / f"grown-{size}"
        started = time.process_time()
        if not folder.exists():
            # What is made up need not survive a power cut.
            with patch("os.fsync"):
                grow(folder, size, options.measures)
        print(f"{size:,} runs made in {time.process_time() - started:.1f} processor seconds", flush=True)
        for name in ("outcomes.parquet", "readings.parquet"):
            (folder / name).unlink(missing_ok=True)
        # A leaderboard kept by an earlier call would be read, not computed.
        shutil.rmtree(folder / "leaderboards", ignore_errors=True)
        for step in ["open (not compacted)", *(["compact"] if "compact" not in options.steps else []), *options.steps]:
            wall, cpu, peak = timed(step.partition(" (")[0], folder)
            record = {"runs": size, "step": step, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "MB": round(peak)}
            print(json.dumps(record), flush=True)
    if options.folder is None:
        shutil.rmtree(root)
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
