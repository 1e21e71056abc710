"""Training here against a plain PyTorch loop over a DataLoader, side by side, on the same batches.

    python benchmarks/training.py [--rounds 5] [--epochs 2] [--cases tiny mlp cnn-m cnn-c] [--examples 1024]

The plain loop is what published codes do: a data set that gives PIL images to ToTensor and Normalize, one example at a
time (for vectors: a TensorDataset), a DataLoader in the same process, ``zero_grad``, ``backward``, ``step``,
``loss.item()``, activations before pooling, torch's own layout, and the whole training set once more after each epoch
for its loss. Both start from the same weights and take the same batches in the same order; the largest difference of
their losses after an epoch is printed. Each measurement is a fresh process of one thread, the two ways alternated;
printed are the medians of processor seconds (which other processes on the machine disturb less than wall seconds),
their ratio, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.models.build import build
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Case:
    """A network and the shape of its inputs."""

    architecture: str
    width: int
    depth: int
    shape: tuple[int, ...]


CASES = {
    "tiny": Case("mlp", 128, 2, (64,)),
    "mlp": Case("mlp", 512, 2, (1, 28, 28)),
    "cnn-m": Case("cnn", 32, 2, (1, 28, 28)),
    "cnn-c": Case("cnn", 64, 3, (3, 32, 32)),
}


class Images(Dataset[tuple[Tensor, int]]):
    """As torchvision's: an array of bytes, each example a PIL image, ToTensor, Normalize."""

    def __init__(self, pixels: numpy.ndarray, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.pixels[index]
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        array = numpy.array(image, numpy.uint8, copy=True)
        tensor = torch.from_numpy(array if array.ndim == 3 else array[:, :, None])
        scaled = tensor.permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.full((len(pixels), 1, 1), value) for value in (MEAN, STD))
        return scaled.sub_(mean).div_(std), self.labels[index]


class Given(Sampler[int]):
    """The orders that training here draws, epoch after epoch."""

    def __init__(self, spec: RunSpec, size: int) -> None:
        self.order, self.size = generator(spec.root_seed, "train", spec.seed, "order"), size

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.size, generator=self.order).tolist())

    def __len__(self) -> int:
        return self.size


def data(case: Case, examples: int) -> tuple[numpy.ndarray, Split]:
    """Random bytes and labels, and the same as a sample."""
    rng = numpy.random.default_rng(0)
    pixels = rng.integers(256, size=(examples, *case.shape)).astype(numpy.uint8)
    inputs = (torch.from_numpy(pixels).float() / 255 - MEAN) / STD
    return pixels, Split(inputs, torch.from_numpy(rng.integers(10, size=examples)), 10)


def plain_network(case: Case, state: dict[str, Tensor]) -> nn.Module:
    """The same function, with the activation before the pooling."""
    if case.architecture == "mlp":
        layers: list[nn.Module] = [nn.Flatten()]
        units = int(numpy.prod(case.shape))
        for _ in range(case.depth):
            layers += [nn.Linear(units, case.width), nn.ReLU()]
            units = case.width
        network = nn.Sequential(*layers, nn.Linear(units, 10))
    else:
        layers, channels, side = [], case.shape[0], case.shape[1]
        for _ in range(case.depth):
            layers += [nn.Conv2d(channels, case.width, 3, padding=1), nn.ReLU()]
            if side >= 4:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            channels = case.width
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), state.values(), strict=True):
            parameter.copy_(value)
    return network


def plain(case: Case, spec: RunSpec, pixels: numpy.ndarray, sample: Split) -> list[float]:
    """The loss after each epoch of the plain loop."""
    initial = build(spec, case.shape, 10, generator(0, "train", 0, "initialisation")).state_dict()
    network = plain_network(case, initial)
    images: Dataset[Any] = (
        Images(pixels, sample.labels) if len(case.shape) == 3 else TensorDataset(sample.inputs, sample.labels)
    )
    loader = DataLoader(images, batch_size=spec.batch_size, sampler=Given(spec, len(sample)))
    evaluation = DataLoader(images, batch_size=spec.batch_size)
    optimiser = torch.optim.SGD(network.parameters(), lr=spec.learning_rate, momentum=spec.momentum)
    losses = []
    for _ in range(spec.max_epochs):
        network.train()
        running = 0.0
        for batch, labels in loader:
            optimiser.zero_grad()
            loss = cross_entropy(network(batch), labels)
            loss.backward()
            optimiser.step()
            running += loss.item()
        network.eval()
        with torch.no_grad():
            total = sum(float(cross_entropy(network(x), y, reduction="sum")) for x, y in evaluation)
        losses.append(total / len(sample))
    return losses


def measure(way: str, name: str, examples: int, epochs: int) -> dict[str, Any]:
    """One measurement, in this process."""
    torch.set_num_threads(1)
    case = CASES[name]
    pixels, sample = data(case, examples)
    spec = RunSpec(
        DataSpec("random", examples), case.architecture, case.width, case.depth, learning_rate=0.01, batch_size=128,
        stop_loss_nats=1e-9, max_epochs=epochs,
    )  # fmt: skip
    one = Split(sample.inputs[:1], sample.labels[:1], 10)
    warm = Split(sample.inputs[:256], sample.labels[:256], 10)
    # The first steps of a process load libraries.
    plain(case, spec, pixels[:256], warm)
    train(spec, (warm, one))
    wall, cpu = time.perf_counter(), time.process_time()
    if way == "plain":
        losses = plain(case, spec, pixels, sample)
    else:
        history = train(spec, (sample, one))[0].history
        assert history is not None
        losses = history.loss_nats[1:].tolist()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses,
    }


def fresh(way: str, name: str, examples: int, epochs: int) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    arguments = [sys.executable, str(Path(__file__)), "--one", way, name, str(examples), str(epochs)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        way, name, examples, epochs = sys.argv[2:6]
        print(json.dumps(measure(way, name, int(examples), int(epochs))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1024)
    options = parser.parse_args()
    for name in options.cases:
        epochs = options.epochs * (20 if name == "tiny" else 1)
        rounds = [
            {way: fresh(way, name, options.examples, epochs) for way in ("plain", "here")}
            for _ in range(options.rounds)
        ]
        cpu = {way: statistics.median(one[way]["cpu"] for one in rounds) for way in ("plain", "here")}
        steps = epochs * -(-options.examples // 128)
        ratios = [one["plain"]["cpu"] / one["here"]["cpu"] for one in rounds]
        apart = max(abs(a - b) for a, b in zip(rounds[0]["plain"]["losses"], rounds[0]["here"]["losses"], strict=True))
        peak = {way: max(one[way]["peak_MB"] for one in rounds) for way in ("plain", "here")}
        print(
            f"{name}: plain {1000 * cpu['plain'] / steps:.2f}, here {1000 * cpu['here'] / steps:.2f} processor ms a step; "  # noqa: E501
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); losses differ by "
            f"{apart:.1e} nats at most; peak {peak['plain']:.0f} and {peak['here']:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
