"""The bound of Dziugaite & Roy on binary MNIST, digits 0-4 against 5-9, on true and on random labels; run by hand.

    GAPBENCH_DATA=DIR python benchmarks/dziugaite_roy.py --size 10000 --seeds 20

Each seed has its own training sample, labels, network and descent. Printed: the training and test error of the network,
the training error of the stochastic classifier, its test error, and the bounds of that, with the prior at the
initialisation and with one learnt on half of the sample. Random labels are fair coins, on which every classifier has
the error .5 exactly. At the end: how often a bound was below the error it bounds.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from gapbench.datasets.corrupt import noisy_labels
from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures.layers import with_state
from gapbench.measures.stochastic import Descent, StochasticNetwork, certified_error, fit, flat, learned_mean
from gapbench.models.spec import RunSpec
from gapbench.models.train import train
from gapbench.models.trained import Trained

DELTA, DELTA_DRAWS = 0.04, 0.01


def binary(sample: Split) -> Split:
    return Split(sample.inputs, (sample.labels >= 5).long(), 2)


def bounds(trained: Trained, test: Split, steps: int, seed: int) -> list[tuple[float, float, float]]:
    """Training error on the part that bounds, test error and bound of the stochastic classifier, for both priors."""
    sample, rng = trained.train, generator(seed, "dziugaite_roy")
    initial, half = with_state(trained.network, trained.initial), len(trained.train) // 2
    first, second = (Split(sample.inputs[part], sample.labels[part], 2) for part in (slice(half), slice(half, None)))
    learned = learned_mean(initial, first, rng, steps=steps // 2, batch_size=256, rate=0.001)
    rows = []
    for prior, part, deviation, rate in ((flat(initial), sample, 0.03, 0.003), (learned, second, 0.01, 0.003)):
        q = StochasticNetwork(trained.network, sample.inputs[:1], deviation)
        fit(q, prior, part, rng, Descent(steps, 256, rate, 0.01), DELTA)
        bound = certified_error(q, prior, part, rng, draws=4, delta=DELTA, delta_draws=DELTA_DRAWS).value
        errors = [float(q.wrong(one, rng, 4).double().mean()) for one in (part, test)]
        rows.append((*errors, bound))
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", type=int, default=10_000)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--width", type=int, default=100)
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--epochs", type=int, default=30)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    failures = dict.fromkeys(("true labels", "random labels"), 0)
    print(f"{vars(chosen)}; confidence {1 - DELTA - DELTA_DRAWS:.2f}")
    print(
        "labels, seed: network train, test | prior at init: Q train, test, bound | learnt prior: Q train, test, bound"
    )
    for seed in range(chosen.seeds):
        data = DataSpec("mnist", chosen.size, seed=seed)
        sample, test = map(binary, load(data, Path(os.environ["GAPBENCH_DATA"])))
        coins = noisy_labels(sample.labels, 1.0, 2, generator(seed, "coins"))
        for kind, labels in (("true labels", sample.labels), ("random labels", coins)):
            started = time.process_time()
            spec = RunSpec(
                data,
                "mlp",
                width=chosen.width,
                depth=1,
                learning_rate=0.05,
                batch_size=100,
                max_epochs=chosen.epochs,
                seed=seed,
            )
            trained, outcome, _ = train(spec, (Split(sample.inputs, labels, 2), test))
            clean = kind == "true labels"
            shown = [f"{outcome.train_error:.4f} {outcome.test_error if clean else 0.5:.4f}"]
            for own, error, bound in bounds(trained, test, chosen.steps, seed):
                risk = error if clean else 0.5
                failures[kind] += bound < risk
                shown.append(f"{own:.4f} {risk:.4f} {bound:.4f}")
            print(f"{kind}, {seed}: {' | '.join(shown)}  ({time.process_time() - started:.0f} s of CPU)", flush=True)
    for kind, count in failures.items():
        print(f"{kind}: {count} of {2 * chosen.seeds} bounds below the error they bound")


if __name__ == "__main__":
    main()
