"""Seconds of every registered measure and quantity on two networks, and whether all of them keep to their budget.

    python benchmarks/readings.py [--quick] [--network cnn] [--only 'hessian_*']

The networks: an MLP 64-160-160-160-10 on 96 digits (budget 2 s), and a CNN of convolutions 32-64-64 with batch norm,
pooling and a global average on 1000 CIFAR-10 images (budget 60 s); 2 GiB each. Each is trained in a process of its
own, then read in one with one thread, which hands out memory as the workers of `gapbench run` do: the MLP twice, of
which the second counts, for a zoo's workers are warm; the CNN once. A quantity is counted once, under its own name,
and not in the measures that need it. Seconds are of the processor, which other processes on the machine lengthen less
than those of the clock; before and after, those of a fixed product of matrices are printed, with which seconds of
different runs can be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from side_by_side import arguments, begin, sample

from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.measures.registry import Registry
from gapbench.models.allocation import ask_for_huge_pages, keep_freed_memory
from gapbench.models.build import ARCHITECTURES
from gapbench.models.spec import RunSpec
from gapbench.models.train import train
from gapbench.models.trained import Trained

BUDGET = {"mlp": 2.0, "cnn": 60.0}
MEMORY_GIB = 2.0


def cnn(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Convolutions of half the width, the width and the width; 32-64-64 at 64."""
    blocks: list[nn.Module] = []
    channels = input_shape[0]
    for width, pools in ((spec.width // 2, True), (spec.width, True), (spec.width, False)):
        blocks += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
        blocks += [nn.MaxPool2d(2)] if pools else []
        blocks += [nn.ReLU()]
        channels = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def make(name: str, options: argparse.Namespace) -> Trained:
    """The trained network with all that a measure may ask for, second runs included where the registry knows them."""
    if name == "mlp":
        data = DataSpec("digits", 96, test_size=200)
        spec = RunSpec(data, "mlp", width=160, depth=3, learning_rate=0.05, batch_size=32, max_epochs=100)
    else:
        images, width = (1000, 64) if name == "cnn" else (200, 16)
        data = DataSpec("cifar10", 100 if options.quick else images, test_size=200)
        spec = RunSpec(
            data, "cnn", width=width, depth=3, learning_rate=0.05, batch_size=16, norm="batch", max_epochs=40
        )
    size = data.train_size + 200
    both = sample(data.name, size, options.seed, options.data_dir)
    parts = [slice(data.train_size), slice(data.train_size, size)]
    own, test = (Split(both.inputs[part], both.labels[part], both.classes) for part in parts)

    def run(seed: int, labels: Any = own.labels) -> Trained:
        split = dataclasses.replace(own, labels=labels)
        one = dataclasses.replace(spec, seed=seed)
        return train(
            one,
            (split, test),
            trajectory_epochs=(0, 1, 2, 5, 10),
            checkpoints=name == "mlp",
            architectures={**ARCHITECTURES, "cnn": cnn},
        )[0]

    return dataclasses.replace(
        run(options.seed),
        seed_twins=(run(options.seed + 1), run(options.seed + 2)),
        random_label_twin=run(options.seed, own.labels.roll(1)),
        unlabelled_test_inputs=test.inputs,
    )


def timed(registry: Registry, quantities: Counter[str], measures: Counter[str]) -> Registry:
    """The same registry, whose functions note the processor seconds that they take."""

    def noting(name: str, function: Callable[..., Any], seconds: Counter[str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*needs: Any, **knobs: Any) -> Any:
            started = time.process_time()
            try:
                return function(*needs, **knobs)
            finally:
                seconds[name] += time.process_time() - started

        return call

    return Registry(
        {k: dataclasses.replace(e, function=noting(k, e.function, measures)) for k, e in registry.measures.items()},
        {k: dataclasses.replace(e, function=noting(k, e.function, quantities)) for k, e in registry.quantities.items()},
    )


def yardstick() -> float:
    """Seconds of the processor that a product of two matrices of 1000 x 1000 takes in float64."""
    matrix = torch.ones(1000, 1000, dtype=torch.float64)
    started = time.process_time()
    for _ in range(10):
        matrix @ matrix
    return (time.process_time() - started) / 10


def gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def report(name: str, options: argparse.Namespace) -> bool:
    """Read one network and print its tables; whether it kept to its budget."""
    # What loading a data set and training leave in memory is not a reading's.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as child:
        trained = child.submit(make, name, options).result()
    keep_freed_memory()
    before, idle = gib(), yardstick()
    first = 0.0
    for _ in range(2 if name == "mlp" else 1):
        quantities: Counter[str] = Counter()
        own: Counter[str] = Counter()
        registry = timed(BUILT_IN, quantities, own)
        chosen = [entry for key, entry in registry.measures.items() if fnmatch(key, options.only)]
        started, clock = time.process_time(), time.perf_counter()
        readings = read(chosen, registry, trained, seed=options.seed)
        total, wall = time.process_time() - started, time.perf_counter() - clock
        first = first or total
    print(f"\n## {name}: {len(chosen)} measures, {len(quantities)} quantities, {len(trained.train)} examples")
    table("quantity", quantities, options.rows)
    table("measure, without quantities", own, options.rows)
    families: Counter[str] = Counter()
    for entry in chosen:
        families[entry.family] += own[entry.key]
    table("family, without quantities", families, len(families))
    statuses = Counter(reading.status for reading in readings)
    print("status: " + ", ".join(f"{count} {status} ({count / len(chosen):.0%})" for status, count in statuses.items()))
    for reading in readings:
        if reading.status != "ok" or reading.reason:
            print(f"  {reading.status:<10} {reading.measure}: {reading.reason}")
    print(f"yardstick: a product of 1000 x 1000 in float64 takes {idle:.4f} s before and {yardstick():.4f} s after")
    peak = gib()
    kept = options.quick or (total < BUDGET[name] and peak < MEMORY_GIB)
    print(
        f"total {total:.2f} s of processor ({wall:.2f} s by the clock; first time {first:.2f}); "
        f"budget {BUDGET[name]:.0f} s: "
        f"{'kept' if total < BUDGET[name] else 'MISSED'}; of it {sum(quantities.values()):.2f} s quantities, "
        f"{total - sum(quantities.values()) - sum(own.values()):.2f} s comparing the network before and after\n"
        f"peak memory {peak:.2f} GiB, {before:.2f} before reading; budget {MEMORY_GIB:.0f} GiB: "
        f"{'kept' if peak < MEMORY_GIB else 'MISSED'}",
        flush=True,
    )
    if name == "mlp":
        others = [entry for entry in BUILT_IN.measures.values() if entry.family != "reservoir"]
        started = time.process_time()
        read(others, BUILT_IN, trained, seed=options.seed)
        print(f"the {len(others)} that do not follow the path of training: {time.process_time() - started:.2f} s")
    return kept


def table(title: str, seconds: Counter[str], rows: int) -> None:
    total = sum(seconds.values())
    print(f"{title}: {total:.3f} s")
    for name, one in seconds.most_common(rows):
        print(f"  {one:9.4f} s  {one / max(total, 1e-9):5.1%}  {name}")
    if len(seconds) > rows:
        print(f"  … and {len(seconds) - rows} more (--rows shows them)")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=tuple(BUDGET), help="default: each in a process of its own")
    parser.add_argument("--only", default="*", help="measures whose key matches this pattern (default: all)")
    parser.add_argument("--rows", type=int, default=20, help="rows of a table that are shown (default 20)")
    options = parser.parse_args()
    if options.network is None:
        again = [sys.executable, __file__, *sys.argv[1:], "--network"]
        sys.exit(max([subprocess.run([*again, name]).returncode for name in BUDGET]))
    begin(options)
    ask_for_huge_pages()
    sys.exit(0 if report(options.network, options) else 1)


if __name__ == "__main__":
    main()
