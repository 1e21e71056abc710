"""Statistics of the weights alone predict the test accuracy of networks that the predictor never saw.

Paper: Unterthiner, Keysers, Gelly, Bousquet & Tolstikhin 2020 (arXiv:2002.11448), table 2.

Claim: gradient-boosted trees on the mean, variance and quantiles of the weights predict the test accuracy of unseen
networks of a zoo with R² of .98 (MNIST, 10,000 and more small networks with random hyper-parameters).

Rule: networks with random hyper-parameters, each with its own; the R² of boosted trees on the held-out folds of a
five-fold split has a bootstrap interval over networks above 0.5; and that of the same fit to permuted accuracies has
one that does not lie above 0 (a control).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import MEASURE, Bench
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Condition, Verdict, above, shown, verdict
from gapbench.evaluate.statistics.interval import Interval
from gapbench.measures import MEASURES
from gapbench.models.spec import RunSpec

Floats = NDArray[numpy.float64]

FEATURES = tuple(key for key, entry in MEASURES.items() if entry.feature)


@dataclass(frozen=True)
class Settings:
    """The data, the architecture, and how many networks."""

    data: str
    train_size: int
    architecture: str
    depth: int
    networks: int
    a_cell: int
    test_size: int | None


def cells(settings: Settings) -> list[Cell]:
    """A cell some networks, for the cost of loading the data."""
    return [
        Cell({"first": first}, work=float(settings.train_size * settings.a_cell))
        for first in range(0, settings.networks, settings.a_cell)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train networks with random hyper-parameters for a random while, and read the statistics of their weights."""
    for number in range(cell.where["first"], min(cell.where["first"] + settings.a_cell, settings.networks)):
        rng = bench.rng("hyper-parameters", number)
        spec = RunSpec(
            data=DataSpec(settings.data, settings.train_size, seed=bench.derived("data"), test_size=settings.test_size),
            architecture=settings.architecture,
            width=16,
            depth=settings.depth,
            learning_rate=float(10 ** rng.uniform(-4, -1)),
            batch_size=int(rng.choice([16, 32, 64])),
            optimiser=str(rng.choice(["sgd", "adam"])),
            weight_decay=float(10 ** rng.uniform(-6, -2)),
            activation=str(rng.choice(["relu", "tanh"])),
            dropout=float(rng.choice([0.0, 0.2, 0.5])),
            stop_loss_nats=0.0,
            max_epochs=int(rng.integers(1, 20)),
            seed=number,
            root_seed=bench.seed,
        )
        trained, outcome = bench.train(spec)
        yield {
            "network": number,
            "accuracy": 1 - outcome.test_error,
            "train_error": outcome.train_error,
            "learning_rate": spec.learning_rate,
            "epochs": outcome.epochs,
            **bench.read(trained, FEATURES),
        }


def predicted(table: pandas.DataFrame, accuracy: Floats) -> Floats:
    """Held-out predictions of the accuracy by boosted trees on the weight statistics, five folds."""
    features = table[[f"{MEASURE}{key}" for key in FEATURES]].to_numpy(dtype=float)
    model = HistGradientBoostingRegressor(max_iter=150, min_samples_leaf=5, random_state=0)
    found: Floats = cross_val_predict(model, features, accuracy, cv=KFold(5, shuffle=True, random_state=0))
    return found


def determination(truth: Floats, guess: Floats) -> float:
    """R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)²."""
    return float(1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def determination_interval(truth: Floats, guess: Floats, resamples: int = 1000) -> Interval:
    """R² with the percentile interval of the bootstrap over networks, the fits as they are."""
    rng, n = numpy.random.default_rng(0), len(truth)
    draws = [determination(truth[rows], guess[rows]) for rows in rng.integers(0, n, size=(resamples, n))]
    low, high = numpy.quantile(draws, [0.025, 0.975])
    return Interval(determination(truth, guess), float(low), float(high), n)


def fits(table: pandas.DataFrame) -> tuple[Interval, Interval]:
    """R² on held-out networks, and that of the control."""
    accuracy = table["accuracy"].to_numpy(dtype=float)
    mixed = numpy.random.default_rng(1).permutation(accuracy)
    return (
        determination_interval(accuracy, predicted(table, accuracy)),
        determination_interval(mixed, predicted(table, mixed)),
    )


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    found, control = fits(table)
    return verdict(
        [
            above("prediction", "R² on held-out networks", found, 0.5),
            Condition("control", "R² with permuted accuracies", control, "not above 0", not control.low > 0),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """R², and how many networks."""
    found, _ = fits(table)
    return [
        Beside(
            f"held-out R², {len(table)} networks", "0.98 (MNIST, boosted trees)", "table 2, as recalled", shown(found)
        )
    ]


WEIGHTS_PREDICT_ACCURACY = Phenomenon(
    name="weights_predict_accuracy",
    source="unterthiner2020, table 2",
    quick=Settings("digits", 300, "mlp", 2, 200, 20, 800),
    full=Settings("mnist", 60_000, "cnn", 3, 10_000, 10, None),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Variance of all weights and test accuracy",
            "measure:weight_statistic[part=all,statistic=variance]",
            "accuracy",
            "variance of the weights",
            "test accuracy",
            kind="points",
            log="x",
        ),
        Panel(
            "Learning rate and test accuracy",
            "learning_rate",
            "accuracy",
            "learning rate",
            "test accuracy",
            kind="points",
            log="x",
        ),
    ),
)
