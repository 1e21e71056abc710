"""Explicit regularisation is neither necessary nor sufficient for generalization.

Paper: Zhang, Bengio, Hardt, Recht & Vinyals 2017 (arXiv:1611.03530), section 3, tables 1 and 4, figure 2.

Claim: without weight decay, dropout, batch norm or early stopping networks still generalise, nearly as well as with
them; with them they still fit random labels.

Rule: (necessary) with no regulariser, the accuracy above chance is at least 0.8 of the best accuracy above chance
that any regulariser reaches, and its interval, paired over seeds, lies above 0.8; (sufficient) with weight decay, and
with batch norm, each alone, all runs on random labels reach training error 0. Early stopping is at the epoch of least
test error, as in the paper: it looks at the test set, which flatters it.

Tried: with batches of 20 at rate .05 for 100 epochs, batch norm on random labels came to training error 0 and left it
again by one example in 400 (the statistics of so small a batch are noise), and ended so in some runs. Batches of 50,
rate .02 and 200 epochs stay at 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pandas

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench, error
from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.intervals import mean_interval, share_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, at_least, shown, verdict
from gapbench.models.spec import RunSpec

NONE = "none"
REGULARISERS: Mapping[str, dict[str, Any]] = {
    NONE: {},
    "weight decay": {"weight_decay": 1e-3},
    "dropout": {"dropout": 0.3},
    "batch norm": {"norm": "batch"},
    "all three": {"weight_decay": 1e-3, "dropout": 0.3, "norm": "batch"},
}
EARLY = "early stopping"
CHANCE = 0.1


@dataclass(frozen=True)
class Settings:
    """The data and the network, and the seeds."""

    data: str
    train_size: int
    test_size: int | None
    architecture: str
    width: int
    depth: int
    learning_rate: float
    batch_size: int
    epochs: int
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a regulariser, kind of labels and seed; early stopping is read off the run without regularisers."""
    return [
        Cell({"regulariser": name, "labels": labels, "seed": seed}, work=float(settings.train_size * settings.epochs))
        for name in REGULARISERS
        for labels in ("true", "random")
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train one network for the same number of epochs as all others."""
    name, labels, seed = (cell.where[key] for key in ("regulariser", "labels", "seed"))
    spec = RunSpec(
        data=DataSpec(
            settings.data,
            settings.train_size,
            label_noise=1.0 if labels == "random" else 0.0,
            seed=bench.derived("data", seed),
            test_size=settings.test_size,
        ),
        architecture=settings.architecture,
        width=settings.width,
        depth=settings.depth,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        stop_loss_nats=0.001,
        max_epochs=settings.epochs,
        seed=seed,
        root_seed=bench.seed,
    )
    spec = replace(spec, **REGULARISERS[name])
    data = bench.load(spec.data)
    marks = sorted({int(mark) for mark in numpy.geomspace(1, settings.epochs, 20)}) if name == NONE else []
    trained, outcome = bench.train(spec, data, trajectory_epochs=marks)
    yield {
        "train_error": outcome.train_error,
        "test_error": outcome.clean_test_error,
        "accuracy": 1 - outcome.clean_test_error,
        "error_gap": outcome.error_gap,
        **bench.read(trained),
    }
    if name == NONE and trained.trajectory is not None:
        errors = []
        for state in trained.trajectory.states.values():
            trained.network.load_state_dict(state)
            errors.append((error(trained.network, data[1]), error(trained.network, data[0])))
        best, fitted = min(errors)
        yield {"regulariser": EARLY, "train_error": fitted, "test_error": best, "accuracy": 1 - best}


def shares(table: pandas.DataFrame) -> pandas.Series:
    """For each seed, accuracy above chance without a regulariser over the best with any; the best by the means."""
    wide = chosen(table, {"labels": "true"}).pivot_table(index="seed", columns="regulariser", values="accuracy")
    best = wide.mean().drop(NONE).idxmax()
    ratio: pandas.Series = (wide[NONE] - CHANCE) / (wide[best] - CHANCE)
    return ratio


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    conditions = [
        above("not necessary", "accuracy above chance, without over best with", mean_interval(shares(table)), 0.8)
    ]
    for name in ("weight decay", "batch norm"):
        rows = chosen(table, {"labels": "random", "regulariser": name})
        fitted = rows["train_error"] == 0
        what = f"runs on random labels with training error 0, {name}"
        conditions.append(at_least("not sufficient", what, share_interval(int(fitted.sum()), len(rows)), 1.0))
    return verdict(conditions)


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """Test accuracy with and without, and the training error on random labels."""
    true = chosen(table, {"labels": "true"})
    random = chosen(table, {"labels": "random"})
    accuracy = "; ".join(
        f"{name} {rows['accuracy'].mean():.3f}" for name, rows in true.groupby("regulariser", sort=False)
    )
    fits = "; ".join(
        f"{name} {rows['train_error'].mean():.2g}"
        for name, rows in random.groupby("regulariser", sort=False)
        if name != EARLY
    )
    published = "Inception on CIFAR-10: 89.05 % with augmentation and weight decay, 85.75 % with neither"
    return [
        Beside("test accuracy", published, "table 1, as recalled", accuracy),
        Beside("training error on random labels", "near 0 with weight decay", "table 4, as recalled", fits),
        Beside("share of accuracy kept without any", "0.96", "from table 1", shown(mean_interval(shares(table)))),
    ]


REGULARISERS_ENTRY = Phenomenon(
    name="regularisers",
    source="zhang2017, section 3",
    quick=Settings("digits", 400, None, "mlp", 128, 2, 0.02, 50, 200, 5),
    full=Settings("cifar10", 50_000, None, "cnn", 128, 4, 0.05, 128, 300, 5),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Test error on true labels",
            "test_error",
            "regulariser",
            "test error",
            "",
            where={"labels": "true"},
            kind="bars",
        ),
        Panel(
            "Training error on random labels",
            "train_error",
            "regulariser",
            "training error",
            "",
            where={"labels": "random"},
            kind="bars",
        ),
    ),
    follows=(Follow("test_error", "across regularisers", where={"labels": "true"}),),
)
