"""Networks learn simple patterns before they memorise: real data and noise are learned in different ways.

Paper: Arpit et al. 2017, a closer look at memorization in deep networks (arXiv:1706.05394).

Claim: on real data some examples are easy for every initialisation and are learned in the first epoch, on random data
all are equal; the loss is sensitive to few training examples on real data and to most on random data; random data make
more critical samples; with noisy labels the rightly labelled examples are fitted first.

Rule: over seeds, (1) the spread over examples of the share of initialisations that fit it after one epoch, less what a
coin of the same mean would have, is larger on real data than on random labels; (2) the Gini coefficient of the loss
sensitivity ‖∂L/∂x‖₁, averaged along training, is larger on real data than on random inputs; (3) the critical sample
ratio at the end is larger on random labels than on real data; (4) under label noise, the accuracy on rightly labelled
examples less that on wrongly labelled ones, averaged over the epochs until all are fitted: all four differences
have intervals above 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapbench.datasets.spec import DataSpec, Split
from gapbench.evaluate.phenomena.bench import MEASURE, Bench, outputs
from gapbench.evaluate.phenomena.intervals import mean_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, shown, verdict
from gapbench.models.spec import RunSpec

REAL, RANDOM_X, RANDOM_Y, NOISY = "real data", "random inputs", "random labels", "40 % random labels"
KINDS: Mapping[str, dict[str, Any]] = {
    REAL: {},
    RANDOM_X: {"pixels": "gaussian_pixels"},
    RANDOM_Y: {"label_noise": 1.0},
    NOISY: {"label_noise": 0.4},
}


@dataclass(frozen=True)
class Settings:
    """The data and the network; ``initialisations`` are trained for one epoch on each of ``seeds`` samples."""

    data: str
    train_size: int
    width: int
    learning_rate: float
    batch_size: int
    epochs: int
    initialisations: int
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a kind of data and seed."""
    work = float(settings.train_size * settings.width * (settings.epochs + settings.initialisations))
    return [Cell({"data": kind, "seed": seed}, work) for kind in KINDS for seed in range(settings.seeds)]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """First epochs from several initialisations, and one training to the end, looked at along the way."""
    kind, seed = cell.where["data"], cell.where["seed"]
    data = DataSpec(settings.data, settings.train_size, seed=bench.derived("data", seed), **KINDS[kind])
    samples = bench.load(data)
    clean = bench.load(DataSpec(settings.data, settings.train_size, seed=data.seed))[0].labels
    train = samples[0]

    def spec(number: int, epochs: int) -> RunSpec:
        return RunSpec(
            data=data,
            architecture="mlp",
            width=settings.width,
            depth=2,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            stop_loss_nats=0.001,
            max_epochs=epochs,
            seed=1000 * seed + number,
            root_seed=bench.seed,
        )

    firsts = [bench.train(spec(number, 1), samples)[0].network for number in range(settings.initialisations)]
    right = torch.stack([outputs(network, train.inputs).argmax(dim=1) == train.labels for network in firsts]).double()
    marks = sorted({int(mark) for mark in numpy.geomspace(1, settings.epochs, 15)})
    trained, outcome = bench.train(spec(0, settings.epochs), samples, trajectory_epochs=marks)
    assert trained.trajectory is not None
    sensitivity, spreads, all_fitted = torch.zeros(len(train)), [], False
    wrong = clean != train.labels
    for mark, state in trained.trajectory.states.items():
        trained.network.load_state_dict(state)
        sensitivity += loss_sensitivity(trained.network, train)
        fitted = outputs(trained.network, train.inputs).argmax(dim=1) == train.labels
        all_fitted = all_fitted or bool(fitted.all())
        if not all_fitted and bool(wrong.any()) and bool((~wrong).any()):
            spreads.append(float(fitted[~wrong].double().mean() - fitted[wrong].double().mean()))
        yield {"moment": "along", "epoch": mark, "train_error": float((~fitted).double().mean())}
    trained.network.load_state_dict(trained.trajectory.states[max(trained.trajectory.states)])
    readings = bench.read(trained)
    yield {
        "moment": "end",
        "easiness_spread": float(right.mean(dim=0).var() - _coin(right)),
        "sensitivity_gini": gini(sensitivity),
        "critical_samples": readings.get(f"{MEASURE}critical_sample_ratio"),
        "right_first": float(numpy.mean(spreads)) if spreads else None,
        "error_gap": outcome.error_gap,
        "epochs": outcome.epochs,
        **readings,
    }


def _coin(right: Tensor) -> float:
    """The variance over examples of the share of m initialisations that are right, were each right by a coin."""
    p, m = float(right.mean()), len(right)
    return p * (1 - p) / m


def loss_sensitivity(network: nn.Module, sample: Split) -> Tensor:
    """‖∂L/∂x‖₁ of each example, (n,)."""
    network.eval()
    inputs = sample.inputs.clone().requires_grad_(True)
    loss = cross_entropy(network(inputs), sample.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient.flatten(1).abs().sum(dim=1)


def gini(values: Tensor) -> float:
    """The Gini coefficient Σ_i (2 i − n − 1) x_(i) / (n Σ x): 0 where all are equal, near 1 where one has all."""
    x = values.double().sort().values
    n = len(x)
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1
    return float((weights * x).sum() / (n * x.sum()))


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    end = table[table["moment"] == "end"].set_index(["data", "seed"])

    def less(column: str, first: str, second: str) -> pandas.Series:
        found: pandas.Series = end[column].loc[first] - end[column].loc[second]
        return found

    return verdict(
        [
            above(
                "easy examples",
                "spread of first-epoch accuracy, real less random labels",
                mean_interval(less("easiness_spread", REAL, RANDOM_Y)),
                0,
            ),
            above(
                "loss sensitivity",
                "Gini coefficient, real less random inputs",
                mean_interval(less("sensitivity_gini", REAL, RANDOM_X)),
                0,
            ),
            above(
                "critical samples",
                "ratio at the end, random labels less real",
                mean_interval(less("critical_samples", RANDOM_Y, REAL)),
                0,
            ),
            above(
                "right labels first",
                "accuracy on rightly less wrongly labelled, along training",
                mean_interval(end["right_first"].loc[NOISY]),
                0,
            ),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """Critical sample ratios, and epochs to fit."""
    end = table[table["moment"] == "end"]
    ratios = "; ".join(
        f"{kind} {shown(mean_interval(end.loc[end['data'] == kind, 'critical_samples']))}" for kind in (REAL, RANDOM_Y)
    )
    ginis = "; ".join(
        f"{kind} {shown(mean_interval(end.loc[end['data'] == kind, 'sensitivity_gini']))}" for kind in (REAL, RANDOM_X)
    )
    return [
        Beside("critical sample ratio", "higher for random labels (figure only)", "figure 9, as recalled", ratios),
        Beside(
            "Gini coefficient of loss sensitivity", "higher for real data (figure only)", "figure 4, as recalled", ginis
        ),
    ]


MEMORISATION_ORDER = Phenomenon(
    name="memorisation_order",
    revision=2,
    source="arpit2017",
    quick=Settings("digits", 300, 64, 0.02, 20, 120, 15, 5),
    full=Settings("cifar10", 1000, 4096, 0.01, 64, 500, 100, 10),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Training error along training",
            "epoch",
            "train_error",
            "epochs",
            "training error",
            hue="data",
            where={"moment": "along"},
            log="x",
        ),
        Panel(
            "Loss sensitivity: Gini coefficient",
            "sensitivity_gini",
            "data",
            "Gini coefficient over examples",
            "",
            where={"moment": "end"},
            kind="bars",
        ),
        Panel(
            "Critical samples at the end",
            "critical_samples",
            "data",
            "critical sample ratio",
            "",
            where={"moment": "end"},
            kind="bars",
        ),
    ),
    follows=(Follow("error_gap", "across kinds of data", where={"moment": "end"}),),
)
