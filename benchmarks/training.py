"""Training here against a plain PyTorch loop over a DataLoader, side by side, on the same batches.

    python benchmarks/training.py [--rounds 5] [--epochs 2] [--cases tiny mlp cnn-m cnn-c] [--examples 1024]
                                  [--precision bfloat16] [--machine]

The plain loop is what published codes do: a data set that gives PIL images to ToTensor and Normalize, one example at a
time (for vectors: a TensorDataset), a DataLoader in the same process, ``zero_grad``, ``backward``, ``step``,
``loss.item()``, activations before pooling, torch's own layout, and the whole training set once more after each epoch
for its loss. Both start from the same weights and take the same batches in the same order; the largest difference of
their losses after an epoch is printed. Each way is a process of one thread, and the two are measured in turn;
printed are the medians of processor seconds (which other processes on the machine disturb less than wall seconds),
their ratio, and the peak memory. With ``--machine`` the plain loop has as many threads as PyTorch takes by default, and
training here is as many processes at once as the machine has cores, of one thread each; the ratio of wall seconds is
then that of what the whole machine does, on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
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
from gapbench.models.allocation import keep_freed_memory
from gapbench.models.build import build
from gapbench.models.spec import RunSpec
from gapbench.models.train import PRECISIONS, train

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


def serve(way: str, name: str, examples: int, epochs: int, precision: str, threads: int) -> None:
    """Measure once for each line of the standard input; with 0 threads, with as many as PyTorch takes by default."""
    if threads:
        torch.set_num_threads(threads)
    if way != "plain":
        keep_freed_memory()  # as the workers of `gapbench run` do
    case = CASES[name]
    pixels, sample = data(case, examples)
    spec = RunSpec(
        DataSpec("random", examples), case.architecture, case.width, case.depth, learning_rate=0.01, batch_size=128,
        stop_loss_nats=1e-9, max_epochs=epochs, precision=precision,
    )  # fmt: skip
    few = Split(sample.inputs[:2], sample.labels[:2], 10)

    def losses(count: int) -> list[float]:
        part = Split(sample.inputs[:count], sample.labels[:count], 10)
        if way == "plain":
            return plain(case, spec, pixels[:count], part)
        history = train(spec, (part, few))[0].history
        assert history is not None
        return history.loss_nats[1:].tolist()

    # The first steps of a process load libraries.
    losses(256)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        found = losses(examples)
        record = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "losses": found,
        }
        print(json.dumps(record), flush=True)


class Way:
    """A process that measures one way, or one a core: seconds of each model, the memory of all."""

    def __init__(self, way: str, name: str, examples: int, epochs: int, precision: str, machine: bool) -> None:
        here = machine and way == "here"
        given = (way, name, examples, epochs, precision, 0 if machine and not here else 1)
        command = [sys.executable, str(Path(__file__)), "--one", *map(str, given)]
        self.count = len(os.sched_getaffinity(0)) if here else 1
        pipe = subprocess.PIPE
        self.processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(self.count)]

    def measure(self) -> dict[str, Any]:
        """One measurement."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(process.stdout.readline()) for process in self.processes if process.stdout is not None]
        return {
            "cpu": statistics.mean(one["cpu"] for one in found),
            "wall": max(one["wall"] for one in found) / self.count,
            "peak_MB": sum(one["peak_MB"] for one in found),
            "losses": found[0]["losses"],
        }

    def end(self) -> None:
        """Let the processes end."""
        for process in self.processes:
            process.communicate()


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        way, name, examples, epochs, precision, threads = sys.argv[2:8]
        serve(way, name, int(examples), int(epochs), precision, int(threads))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--machine", action="store_true")
    options = parser.parse_args()
    for name in options.cases:
        epochs = options.epochs * (20 if name == "tiny" else 1)
        ways = {
            way: Way(way, name, options.examples, epochs, precision, options.machine)
            for way, precision in (("plain", "float32"), ("here", options.precision))
        }
        rounds = [{way: process.measure() for way, process in ways.items()} for _ in range(options.rounds)]
        for process in ways.values():
            process.end()
        steps = epochs * -(-options.examples // 128)
        for clock in ("cpu", "wall"):
            spent = {way: statistics.median(one[way][clock] for one in rounds) for way in ("plain", "here")}
            ratios = [one["plain"][clock] / one["here"][clock] for one in rounds]
            print(
                f"{name}: {clock} ms a step: plain {1000 * spent['plain'] / steps:.2f}, here "
                f"{1000 * spent['here'] / steps:.2f}; ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        apart = max(abs(a - b) for a, b in zip(rounds[0]["plain"]["losses"], rounds[0]["here"]["losses"], strict=True))
        peak = {way: max(one[way]["peak_MB"] for one in rounds) for way in ("plain", "here")}
        print(
            f"{name}: losses differ by {apart:.1e} nats at most; peak {peak['plain']:.0f} and {peak['here']:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
