"""Networks fit random labels and noise images as well as true ones, only somewhat later.

Paper: Zhang, Bengio, Hardt, Recht & Vinyals 2017 (arXiv:1611.03530), figure 1, table 1 and appendix E.

Claim: the same networks with the same training reach training error 0 on true labels, random labels, shuffled pixels,
random pixels and Gaussian images; fitting random labels takes 1.5 to 3.5 times as long as true ones; the test error
rises smoothly to chance as labels are corrupted.

Rule: for each architecture, every run reaches training error 0, and the epochs to fit random labels over those to
fit true labels, paired by seed, have a geometric mean with an interval above 1 (it is shown beside the published
1.5–3.5); the test error rises with the corruption level, with a Spearman correlation whose interval over seeds and
architectures lies above 0.8, and at corruption 1 it has an interval that holds chance, or lies within 0.03 of it.

Tried: on 200 images of 8x8 digits, once the quick settings, all 14 conditions held. With 80 and 200 images of CIFAR-10,
of which a network learns next to nothing (test error .64 to .80), random labels were fitted about as soon as true ones,
by AlexNet sooner (25 epochs against 44, one run). On 1,000 images in batches of 100 the perceptrons of one and three
layers took 1.15 and 1.03 times as long (.85 to 1.43 over six pairs of runs). The quick settings are of CIFAR-10 all the
same. Their sample, widths and optimisers were then chosen for their cost alone, by runs on random labels with none on
true labels beside them: SGD at .05 left both Inceptions of width 24 far from fitting 400 random labels after 60 epochs;
Adam at .003 fits 200 in 60 epochs with batch norm, and has fitted four in five of them without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.intervals import (
    geometric_mean_interval,
    mean_interval,
    share_interval,
    spearman_interval,
)
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Condition, Verdict, above, at_least, shown, verdict
from gapbench.evaluate.statistics.interval import Interval
from gapbench.models.spec import RunSpec

TRUE, HALF, RANDOM = "true labels", "half the labels random", "random labels"
RANDOMISATIONS: Mapping[str, dict[str, Any]] = {
    TRUE: {},
    HALF: {"label_noise": 0.5},
    RANDOM: {"label_noise": 1.0},
    "shuffled pixels": {"pixels": "shuffled_pixels"},
    "random pixels": {"pixels": "random_pixels"},
    "Gaussian pixels": {"pixels": "gaussian_pixels"},
}
CHANCE, CLOSE = 0.9, 0.03
WORK = {"mlp": 1, "cnn": 60, "alexnet_small": 60, "inception_small": 300}
"""The cost of a run a unit of width, about, against a perceptron's."""


@dataclass(frozen=True)
class Architecture:
    """A network of `models.build.ARCHITECTURES` and how it is trained here; SGD has momentum .9."""

    name: str
    architecture: str
    width: int
    depth: int
    learning_rate: float
    norm: str = "none"
    optimiser: str = "sgd"


@dataclass(frozen=True)
class Settings:
    """The images, the architectures, their training, the levels of label corruption, and who meets them.

    ``seeds``: of true and random labels, and of all levels of corruption where they are met; ``other_seeds``: of the
    other randomisations.
    """

    data: str
    architectures: tuple[Architecture, ...]
    train_size: int
    test_size: int | None
    batch_size: int
    max_epochs: int
    levels: tuple[float, ...]
    level_architectures: tuple[str, ...]
    seeds: int
    other_seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell an architecture, randomisation and seed; corruption levels between the ends are further randomisations."""
    found = []
    for network in settings.architectures:
        levels = settings.levels if network.name in settings.level_architectures else ()
        corrupted = [HALF, *(f"labels random with probability {level:g}" for level in levels)] if levels else []
        found += [
            Cell(
                {"network": network.name, "randomisation": kind, "seed": seed},
                work=float(WORK[network.architecture] * network.width * settings.train_size),
            )
            for kind in dict.fromkeys([*RANDOMISATIONS, *corrupted])
            for seed in range(settings.seeds if kind in (TRUE, RANDOM, *corrupted) else settings.other_seeds)
        ]
    return found


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train one network on one randomisation until its training error is 0 and its loss small."""
    network = next(one for one in settings.architectures if one.name == cell.where["network"])
    kind, seed = cell.where["randomisation"], cell.where["seed"]
    changes = RANDOMISATIONS.get(kind) or ({} if kind == TRUE else {"label_noise": float(kind.rpartition(" ")[2])})
    data = DataSpec(
        settings.data, settings.train_size, seed=bench.derived("data", seed), test_size=settings.test_size, **changes
    )
    spec = RunSpec(
        data=data,
        architecture=network.architecture,
        width=network.width,
        depth=network.depth,
        norm=network.norm,
        learning_rate=network.learning_rate,
        optimiser=network.optimiser,
        batch_size=settings.batch_size,
        stop_loss_nats=0.01,
        max_epochs=settings.max_epochs,
        seed=seed,
        root_seed=bench.seed,
    )
    trained, outcome = bench.train(spec)
    assert trained.history is not None
    fitted = (trained.history.error == 0).nonzero()
    yield {
        "corruption": data.label_noise if data.pixels == "natural" else None,
        "train_error": outcome.train_error,
        "test_error": outcome.clean_test_error,
        "error_gap": outcome.error_gap,
        "epochs_to_fit": int(fitted[0]) if len(fitted) else None,
        "epochs": outcome.epochs,
        **bench.read(trained),
    }


def slow_down(table: pandas.DataFrame, kind: str) -> dict[str, Interval]:
    """For each architecture, epochs to training error 0 over those with true labels, paired by seed."""
    ratios = _ratios(table, kind)
    return {
        str(name): geometric_mean_interval(ratios[ratios.index.get_level_values("network") == name])
        for name in table["network"].unique()
        if name in ratios.index.get_level_values("network")
    }


def _ratios(table: pandas.DataFrame, kind: str) -> pandas.Series:
    wide = table.pivot_table(index=["network", "seed"], columns="randomisation", values="epochs_to_fit", sort=False)
    if not {TRUE, kind} <= set(wide.columns):
        return pandas.Series(index=wide.index[:0], dtype=float)
    ratios: pandas.Series = (wide[kind] / wide[TRUE]).dropna()
    return ratios


def _pairs(table: pandas.DataFrame, kind: str) -> int:
    """How many runs on this randomisation have one on true labels beside them, fitted or not."""
    there = {one: set(zip(rows["network"], rows["seed"], strict=True)) for one, rows in table.groupby("randomisation")}
    return len(there.get(kind, set()) & there.get(TRUE, set()))


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    conditions: list[Condition] = []
    for name, rows in table.groupby("network", sort=False):
        fitted = rows["train_error"] == 0
        what = "runs with training error 0"
        conditions.append(at_least(str(name), what, share_interval(int(fitted.sum()), len(rows)), 1.0))
    for name, interval in slow_down(table, RANDOM).items():
        conditions.append(above(name, "epochs to fit random labels over true ones", interval, 1.0))
    labels = with_levels(table)
    rho = spearman_interval(labels, "corruption", "test_error", ("network", "seed"))
    conditions.append(above("corruption", "Spearman of test error and corruption level", rho, 0.8))
    end = mean_interval(labels.loc[labels["corruption"] == 1, "test_error"])
    holds = end.low <= CHANCE <= end.high or abs(end.point - CHANCE) <= CLOSE
    conditions.append(Condition("corruption", "test error at corruption 1", end, f"chance, {CHANCE:g}", holds))
    return verdict(conditions)


def with_levels(table: pandas.DataFrame) -> pandas.DataFrame:
    """The runs whose labels alone are random, of the architectures that were trained at several levels."""
    labels = table[table["corruption"].notna()]
    levels = labels.groupby("network")["corruption"].transform("nunique")
    found: pandas.DataFrame = labels[levels == levels.max()]
    return found


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The slow-downs by random labels, and the test error on true labels."""
    found = [
        Beside(f"slow-down by random labels, {name}", "1.5–3.5 times", "Zhang et al., section 2", shown(interval))
        for name, interval in slow_down(table, RANDOM).items()
    ]
    for kind in RANDOMISATIONS:
        if kind not in (TRUE, RANDOM):
            ratios, pairs = _ratios(table, kind), _pairs(table, kind)
            lost = f"; {pairs - len(ratios)} of {pairs} runs never fit" if len(ratios) < pairs else ""
            ours = shown(geometric_mean_interval(ratios)) + lost
            what = f"slow-down by {kind}, all networks"
            found.append(Beside(what, "less than by random labels", "figure 1, as recalled", ours))
    worst = table.groupby("randomisation")["train_error"].max()
    fits = "; ".join(f"{kind} {worst[kind]:.2g}" for kind in RANDOMISATIONS if kind in worst)
    return [*found, Beside("largest training error", "0 on all", "figure 1a", fits)]


MLP1 = Architecture("MLP 1x512", "mlp", 512, 1, 0.01)
MLP3 = Architecture("MLP 3x512", "mlp", 512, 3, 0.01)
CNN = Architecture("CNN", "cnn", 48, 3, 0.05, "batch")
ALEXNET = Architecture("AlexNet", "alexnet_small", 24, 2, 0.01)
INCEPTION = Architecture("Inception", "inception_small", 24, 1, 0.02)
INCEPTION_NORM = Architecture("Inception, batch norm", "inception_small", 24, 1, 0.02, "batch")
SIX = (MLP1, MLP3, CNN, ALEXNET, INCEPTION, INCEPTION_NORM)

RANDOMISATION = Phenomenon(
    name="randomisation",
    source="zhang2017, figure 1 and table 1",
    quick=Settings(
        "cifar10",
        (
            MLP1,
            MLP3,
            replace(CNN, width=32),
            ALEXNET,
            replace(INCEPTION, depth=2, learning_rate=0.003, optimiser="adam"),
            replace(INCEPTION_NORM, depth=2, learning_rate=0.003, optimiser="adam"),
        ),
        train_size=200,
        test_size=2000,
        batch_size=20,
        max_epochs=300,
        levels=(0.25, 0.75),
        level_architectures=("MLP 1x512", "CNN"),
        seeds=3,
        other_seeds=1,
    ),
    full=Settings(
        "cifar10",
        (
            MLP1,
            MLP3,
            replace(CNN, width=128),
            replace(ALEXNET, width=64),
            replace(INCEPTION, width=96, depth=3),
            replace(INCEPTION_NORM, width=96, depth=3),
        ),
        train_size=50_000,
        test_size=None,
        batch_size=128,
        max_epochs=1000,
        levels=(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9),
        level_architectures=tuple(one.name for one in SIX),
        seeds=5,
        other_seeds=5,
    ),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Epochs to training error 0",
            "randomisation",
            "epochs_to_fit",
            "",
            "epochs",
            hue="network",
            kind="bars",
            missing="a run never fits",
        ),
        Panel(
            "Test error against corruption of the labels",
            "corruption",
            "test_error",
            "share of labels drawn at random",
            "test error, true labels",
            hue="network",
            horizontals=((CHANCE, "chance"),),
        ),
    ),
    follows=(
        Follow("error_gap", "across randomisations", unit=("network", "seed")),
        Follow("epochs_to_fit", "across randomisations", unit=("network", "seed")),
    ),
)
