"""The sigma search beside the published one: seconds, spread over seeds, and the drop in accuracy it really has.

    python benchmarks/perturbation.py [--quick] [--network "tiny MLP"] [--seeds 8]

Each search is run with several seeds, the two in turn. The relative standard deviation of sigma over seeds is printed
beside the standard error that gapbench reports, and the drop in accuracy at the mean sigma under fresh explicit draws
of noise on all weights, which is to be .10.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from statistics import fmean, median, stdev

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from published_search import published_sigma
from side_by_side import Timings, alternate, arguments, begin, trained

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.perturbation import MAGNITUDE_FLOOR, sigma, sigma_magnitude
from gapbench.measures.weight_noise import Noise

SEARCHES = {"sigma": (sigma, None), "sigma_magnitude": (sigma_magnitude, MAGNITUDE_FLOOR)}


@torch.no_grad()
def explicit_drop(network: nn.Module, train: Split, noise: Noise, draws: int, seed: int) -> tuple[float, float]:
    """The mean drop in accuracy under explicit draws of noise on all weights, and its standard error."""
    right = (network(train.inputs).argmax(dim=1) == train.labels).double().mean()
    stream, drops = generator(seed, "explicit"), []
    for _ in range(draws):
        other = copy.deepcopy(network)
        for parameter in other.parameters():
            deviation = noise.variance(parameter).sqrt()
            parameter.add_(deviation * torch.randn(parameter.shape, generator=stream))
        drops.append(float(right - (other(train.inputs).argmax(dim=1) == train.labels).double().mean()))
    return fmean(drops), stdev(drops) / draws**0.5


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", action="append", choices=("tiny MLP", "MLP", "CNN-M"), help="default: all three")
    parser.add_argument("--seeds", type=int, default=8, help="searches a way (default 8); takes the place of --rounds")
    options = parser.parse_args()
    begin(options)
    sizes = {"tiny MLP": 1796, "MLP": 5000, "CNN-M": 500}
    for name in options.network or (["tiny MLP"] if options.quick else sizes):
        network, train = trained(name, sizes[name], options.seed, options.data_dir, epochs=4 if name == "MLP" else 10)
        with torch.no_grad():
            logits = network(train.inputs)
        for kind, (search, floor) in SEARCHES.items():
            runs = []
            for seed in range(2 if options.quick else options.seeds):
                ways = {
                    "gapbench": lambda s=seed: search(network, logits, train, generator(s, "search")),  # noqa: B023
                    "published": lambda s=seed: published_sigma(network, train, s, magnitude_floor=floor),  # noqa: B023
                }
                runs.append(alternate(ways, 0, slow=0))
            report(f"{name}, {len(train)} examples: {kind}", runs)
            mean = fmean(run.results["gapbench"].sigma for run in runs)
            noise = Noise(mean) if floor is None else Noise(floor, mean)
            drop, error = explicit_drop(network, train, noise, 10 if options.quick else 100, options.seed)
            print(
                f"  drop in accuracy at gapbench's mean sigma, explicit draws: {drop:.4f} ± {error:.4f}\n", flush=True
            )


def report(title: str, runs: list[Timings]) -> None:
    ratios = [run.ratios("published", "gapbench")[0] for run in runs]
    ours, theirs = [run.results["gapbench"] for run in runs], [run.results["published"] for run in runs]
    print(title)
    print(f"  published over gapbench: {median(ratios):.1f}x [{min(ratios):.1f}, {max(ratios):.1f}]")
    for name, values, evaluations in (
        ("gapbench", [one.sigma for one in ours], fmean(one.evaluations for one in ours)),
        ("published", [one[0] for one in theirs], fmean(one[1] for one in theirs)),
    ):
        seconds = median(run.seconds[name][0] for run in runs)
        spread = stdev(values) / fmean(values)
        print(
            f"  {name:<10} {seconds:8.4f} s, sigma {fmean(values):.5f}, relative deviation over seeds {spread:.2%}, "
            f"{evaluations:.0f} evaluations"
        )
    print(f"  gapbench's own standard error: {fmean(one.standard_error / one.sigma for one in ours):.2%}")


if __name__ == "__main__":
    main()
