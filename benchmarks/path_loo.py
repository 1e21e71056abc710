"""Path leave-one-out against true retraining, and what it costs. Run by hand:

./run python benchmarks/path_loo.py          # networks of `tangent`, each fold really left out
./run python benchmarks/path_loo.py --cost   # 100k parameters, 512 examples, 10 outputs, 20 checkpoints, 10 folds
./run python benchmarks/path_loo.py --cost --optimiser adamw   # the same, along preconditioned kernels
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec, Split
from gapbench.evaluate.zoo import load_zoo
from gapbench.measures.held_out import HeldOut, hold_out, losses
from gapbench.measures.kernel_path import Point, legs_between, points_along
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def retrained(spec: RunSpec, data: tuple[Split, Split], steps: int, folds: int) -> Tensor:
    """The outputs (n, p) of each example after training from the same start, as long, without its fold."""
    sample, test = data
    spec = dataclasses.replace(spec, max_epochs=steps, stop_loss_nats=1e-300)
    found = torch.zeros(len(sample), sample.classes, dtype=torch.float64)
    for fold in range(folds):
        out = torch.arange(len(sample)) % folds == fold
        kept = Split(sample.inputs[~out], sample.labels[~out], sample.classes)
        network = train(spec, (kept, test))[0].network
        with torch.no_grad():
            found[out] = network(sample.inputs[out]).double()
    return found


def accuracy(runs: int, folds: int) -> None:
    """The distribution, over networks and outputs, of the error of the estimated held-out outputs."""
    specs = load_zoo("tangent").specs
    print("width  step  steps noise   gap: true, by retraining, by replay   correlation   error of the change")
    every, ratios = [], []
    for spec in specs[:: max(1, len(specs) // runs)]:
        data = load(spec.data)
        trained, outcome, _ = train(spec, data, checkpoints=True)
        assert trained.trajectory is not None
        sample = trained.train
        points = list(points_along(trained.network, trained.trajectory, sample, len(sample)))
        found = hold_out(legs_between(points), points[0].outputs, sample, trained.trajectory, folds)
        truth = retrained(spec, data, outcome.steps, folds)
        true_change, change = (outputs - found.trained for outputs in (truth, found.held_out))
        relative = (change - true_change).norm(dim=1) / true_change.norm(dim=1)
        gaps = [gap(outputs, found, sample, spec.loss) for outputs in (truth, found.held_out)]
        correlation = float(torch.corrcoef(torch.stack([change.flatten(), true_change.flatten()]))[0, 1])
        every.append(relative)
        ratios.append(gaps[1] / gaps[0])
        shown = " ".join(f"{float(torch.quantile(relative, q)):.2f}" for q in QUANTILES)
        print(
            f"{spec.width:5} {spec.learning_rate:5} {outcome.steps:6} {spec.data.label_noise:5}   "
            f"{outcome.loss_gap:.4f} {gaps[0]:.4f} {gaps[1]:.4f}   {correlation:17.3f}   {shown}",
            flush=True,
        )
    whole = torch.cat(every)
    print("relative error of the change of an example's outputs, all:", _quantiles(whole))
    print("gap by replay / gap by retraining:", _quantiles(torch.tensor(ratios)))


def gap(outputs: Tensor, found: HeldOut, sample: Split, loss: str) -> float:
    """The mean loss of these outputs less that of the trained ones."""
    return float((losses(outputs, sample.labels, loss) - losses(found.trained, sample.labels, loss)).mean())


def _quantiles(values: Tensor) -> str:
    return ", ".join(f"{q:.0%} {float(torch.quantile(values.double(), q)):.3f}" for q in QUANTILES)


def cost(optimiser: str) -> None:
    """One core: processor seconds and peak memory of the whole estimate."""
    rate, momentum = (0.01, 0.9) if optimiser == "sgd" else (0.001, 0.0)
    data = DataSpec("digits", train_size=512)
    spec = RunSpec(data, "mlp", 280, 2, rate, 32, optimiser, momentum=momentum, stop_loss_nats=1e-9, max_epochs=45)
    trained, outcome, _ = train(spec, load(spec.data), checkpoints=True)
    trajectory = trained.trajectory
    assert trajectory is not None
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started, wall = time.process_time(), time.perf_counter()
    spent = [0.0]

    def timed(points: Iterable[Point]) -> Iterator[Point]:
        each = iter(points)
        while True:
            at = time.process_time()
            point = next(each, None)
            spent[0] += time.process_time() - at
            if point is None:
                return
            yield point

    points = timed(points_along(trained.network, trajectory, trained.train, 512))
    first = next(points)

    def again() -> Iterator[Point]:
        yield first
        yield from points

    found = hold_out(legs_between(again()), first.outputs, trained.train, trajectory, 10)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{parameters} parameters, 512 examples, 10 outputs, {len(trajectory.checkpoints)} checkpoints, 10 folds")
    estimate = gap(found.held_out, found, trained.train, spec.loss)
    print(f"{outcome.steps} steps; residual {found.residual:.3g}; loss gap {estimate:.3g}")
    print(f"processor: {seconds:.1f} s, of which kernels {spent[0]:.1f} s; wall {time.perf_counter() - wall:.1f} s")
    print(f"peak memory: {peak:.2f} GiB, before {before:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--optimiser", default="sgd")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--folds", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cost:
        cost(arguments.optimiser)
    else:
        accuracy(arguments.runs, arguments.folds)
