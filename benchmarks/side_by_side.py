"""What the speed benchmarks share: networks, samples, and timing of several ways in turn, on one thread."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every speed benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: a smoke test, not a result")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is timed, in turn (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of networks, samples and draws (default 0)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("GAPBENCH_DATA"),
        help="MNIST and CIFAR-10; else synthetic images",
    )
    return parser


def begin(options: argparse.Namespace, packages: Sequence[str] = ()) -> None:
    """One thread from here on; print the machine, the versions and the options."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    found = []
    for package in ("torch", "numpy", *packages):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    print(f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}")
    print("; ".join(found) + "; one thread, seconds of the processor")
    print(", ".join(f"{name} {value}" for name, value in vars(options).items()) + "\n", flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


class Timings:
    """Processor seconds of several ways, round by round, and what each returned in the first round."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.results: dict[str, Any] = {}

    def ratios(self, peer: str, ours: str) -> list[float]:
        """Seconds of a peer over ours in each round that has both."""
        return [a / b for a, b in zip(self.seconds[peer], self.seconds[ours])]


def alternate(ways: Mapping[str, Callable[[], Any]], rounds: int, *, slow: float = 10.0) -> Timings:
    """Time each way once a round, in turn, after a first call that does not count, in seconds of the processor.

    There is one thread, and neighbours on the machine lengthen these seconds less than those of the clock. A way whose
    first call takes longer than ``slow`` seconds is not called again, and that call counts.
    """
    timings = Timings()
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seen = timings.seconds.setdefault(name, [])
            if seen and seen[0] > slow:
                continue
            started = time.process_time()
            result = way()
            elapsed = time.process_time() - started
            timings.results.setdefault(name, result)
            if turn == 1 and seen and seen[0] <= slow:
                seen.clear()
            seen.append(elapsed)
    return timings


def show(title: str, timings: Timings, ours: str, notes: Mapping[str, str] | None = None) -> None:
    """Print medians, and the ratio of each way to ours, median [least, greatest] over the rounds."""
    print(title)
    for name, seconds in timings.seconds.items():
        ratio = ""
        if name != ours:
            all_ratios = timings.ratios(name, ours)
            ratio = f"{median(all_ratios):8.2f}x [{min(all_ratios):.2f}, {max(all_ratios):.2f}]"
        note = (notes or {}).get(name, "")
        print(f"  {name:<34} {median(seconds):10.4f} s {ratio:<28} {note}".rstrip())
    print(flush=True)


def tiny_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def cnn_m() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )


def cnn_c() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], str]] = {
    "tiny MLP": (tiny_mlp, "digits"),
    "MLP": (mlp, "mnist"),
    "CNN-M": (cnn_m, "mnist"),
    "CNN-C": (cnn_c, "cifar10"),
}
"""The networks of the benchmarks and what they are trained on: MLPs 64-128-128-10 and 784-512-512-10; convolutions
16-pool-32-pool-fc on 1x28x28; 32-pool-64-pool-64-average-fc on 3x32x32."""


def sample(name: str, size: int, seed: int, data_dir: Path | None) -> Split:
    """A sample of a data set; where its files are missing, clusters of the same shape, and says so."""
    try:
        return load(DataSpec(name, size, test_size=1, seed=seed), data_dir=data_dir)[0]
    except InputError as error:
        print(f"  ({name} replaced by synthetic images: {str(error).splitlines()[0]})")
        shape = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}[name]
        draws = generator(seed, name, "synthetic")
        labels = torch.randint(10, (size,), generator=draws)
        centres = torch.randn(10, *shape, generator=draws)
        return Split(0.5 * centres[labels] + torch.randn(size, *shape, generator=draws), labels, 10)


def trained(name: str, size: int, seed: int, data_dir: Path | None, *, epochs: int = 10) -> tuple[nn.Module, Split]:
    """A network of `NETWORKS` after a few epochs of SGD on a sample of this size, and the sample; float32."""
    make, data = NETWORKS[name]
    train = sample(data, size, seed, data_dir)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    draws = generator(seed, name, "order")
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(train), generator=draws), 64):
            optimiser.zero_grad()
            cross_entropy(network(train.inputs[rows]), train.labels[rows]).backward()
            optimiser.step()
    return network.eval().requires_grad_(True), train
