"""Ten readings of every sampled measure, and whether they differ by what their standard errors say; run by hand.

    python benchmarks/repeatability.py [--network "small cnn"] [--seeds 10] [--only 'hessian_*']

One network is read with several seeds of the random draws: those of readings.py, or its CNN of a quarter of the
channels, 8-16-16, on 200 images. Only measures that draw at random, or whose quantities do, are read. For each of them
that differs between seeds, the standard deviation over the readings is set beside the root mean square of the reported
standard errors; it should be at most twice as large. Over ten readings a standard deviation is itself known to a
quarter of it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from readings import make
from side_by_side import arguments, begin

from gapbench.measures import BUILT_IN
from gapbench.measures.read import Reading, read

ALLOWED = 2.0


def report(name: str, options: argparse.Namespace) -> bool:
    """Read one network with each seed and print the sampled measures; whether all keep to `ALLOWED`."""
    trained = make(name, options)
    entries = BUILT_IN.measures.items()
    chosen = [
        entry
        for key, entry in entries
        if fnmatch(key, options.only) and not entry.control and "rng" in BUILT_IN.closure(entry)
    ]
    found: defaultdict[str, list[Reading]] = defaultdict(list)
    for seed in range(options.seeds):
        for reading in read(chosen, BUILT_IN, trained, seed=seed):
            found[reading.measure].append(reading)
        print(f"seed {seed} read", file=sys.stderr, flush=True)
    print(f"\n## {name}, {options.seeds} seeds, {len(trained.train)} examples")
    print(f"{'measure':<55} {'mean':>11} {'deviation':>10} {'reported':>10} {'ratio':>6}")
    kept, fixed = True, 0
    for key, readings in found.items():
        values = [reading.value for reading in readings if reading.value is not None]
        if len(values) < 2 or len(set(values)) == 1:
            fixed += 1
            continue
        spread, reported = stdev(values), math.sqrt(fmean((reading.standard_error or 0.0) ** 2 for reading in readings))
        ratio = spread / reported if reported else math.inf
        # Rounding, not sampling: threads and memory layouts do not change it between seeds, so it should not occur.
        negligible = spread <= 1e-9 * abs(fmean(values))
        good = negligible or ratio <= ALLOWED
        kept &= good
        print(
            f"{key:<55} {fmean(values):11.4g} {spread:10.3g} {reported:10.3g} {ratio:6.2f}{'' if good else '  ABOVE'}"
            f"{'' if len(values) == len(readings) else f'  defined in {len(values)}'}",
            flush=True,
        )
    print(f"{fixed} of {len(found)} of these measures do not differ between seeds, or are undefined")
    return kept


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=("mlp", "small cnn", "cnn"), default="mlp")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="*", help="measures whose key matches this pattern (default: all)")
    options = parser.parse_args()
    begin(options)
    sys.exit(0 if report(options.network, options) else 1)


if __name__ == "__main__":
    main()
