"""The test error rises to a peak where the training sample is just fitted, and falls again beyond it.

Paper: Belkin, Hsu, Ma & Mandal 2019 (arXiv:1812.11118); the exact model: Belkin, Hsu & Xu 2020 (arXiv:1903.07571);
networks, sample sizes and epochs: Nakkiran et al. 2020 (arXiv:1912.02292); the best ridge: Nakkiran, Venkat, Kakade &
Ma 2021 (arXiv:2003.01897); epochs in a linear model: Heckel & Yilmaz 2021 (arXiv:2007.10099).

Claim: the risk against the number of parameters has its peak at the interpolation threshold and descends a second time;
so it does against the number of examples and, with label noise, against epochs; the best ridge removes the peak.

Rule: (1) weak features: the peak of the mean exact risk, bootstrapped over replicates, lies within 10 % of n along p
and within 10 % of p along n; the ratio of measured to closed-form risk away from the peak (|p − n| ≥ n/4) lies within
10 % of 1; with the ridge that is best for the law, the rises of the mean risk add up to less than 5 % of its span.
(2) A network with label noise, by width, and (3) by epochs, and (4) a linear model with two scales of features, by
steps: test error rises from a valley to a peak and falls from it to a later place, both intervals above 0, with
valley, peak and later place chosen on the other seeds.

Tried: by width, SGD at rate .05 leaves narrow networks with dead units, which hides the valley; Adam does not. By
epochs, first looks at 1,000 digits with 20 % and 40 % label noise (perceptrons of one to three layers and 64 to 1,024
units, and small convolutional networks; Adam, AdamW with decay .1, SGD; up to 2,000 epochs) found the rise and no
second descent: the test error stays where memorising has taken it. Neither did AdamW with decays of .1 to 1 from
initial weights 1 to 3 times as large (256 units, 300 and 400 epochs: from 3 times as large the error only falls), the
squared loss (1,000 units, Adam at .0003), five layers of 64 units, nor a convolutional network on shifted images, that
does not memorise in 150 epochs. As in the paper, a network of three convolutions to 32 channels with batch norm on
1,000 digits with 20 % label noise, Adam at a constant .0001 for 1,000 epochs, settled before it was run: the error
falls to .03 after some 120 epochs, rises to .14 as the noise is fitted, and stays there (three seeds). The quick
settings keep the cheapest of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas

from gapbench.datasets.regression import LinearModel, linear_regression
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench, error
from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.intervals import bump, curves, mean_interval, peak_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Condition, Verdict, above, below, shown, verdict, within
from gapbench.evaluate.phenomena.weak_features import backtracking, sweep
from gapbench.evaluate.statistics.interval import Interval
from gapbench.models.spec import RunSpec

FEATURES, SAMPLES = "weak features, by p", "weak features, by n"
WIDTH, EPOCHS, STEPS = "network, by width", "network, by epochs", "two scales, by steps"
A_CELL = 25
FIXED = 40
"""The examples while the features vary, and the features while the examples do."""


@dataclass(frozen=True)
class Settings:
    """``grid``: features, or examples, with `FIXED` of the other; the network's data, widths, epochs and seeds."""

    grid: tuple[int, ...]
    replicates: int
    data: str
    train_size: int
    label_noise: float
    widths: tuple[int, ...]
    epochs: int
    seeds: int
    time_width: int
    time_epochs: int
    time_label_noise: float


def cells(settings: Settings) -> list[Cell]:
    """A cell some replicates of the exact parts, and a cell a network."""
    exact = [
        Cell({"part": part, "first": first}, work=0.1)
        for part in (FEATURES, SAMPLES, STEPS)
        for first in range(0, settings.replicates, A_CELL)
    ]
    steps = settings.train_size * settings.epochs / 600_000
    by_width = [
        Cell({"part": WIDTH, "width": width, "seed": seed}, work=steps * (1 + width / 100))
        for width in settings.widths
        for seed in range(settings.seeds)
    ]
    time = settings.train_size * settings.time_epochs / 600_000 * (1 + settings.time_width / 100)
    return [*exact, *by_width, *(Cell({"part": EPOCHS, "seed": seed}, work=time) for seed in range(settings.seeds))]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Some replicates of an exact sweep, or one network."""
    part = cell.where["part"]
    if part == WIDTH:
        yield from by_width(cell.where["width"], cell.where["seed"], settings, bench)
        return
    if part == EPOCHS:
        yield from by_epochs(cell.where["seed"], settings, bench)
        return
    for seed in range(cell.where["first"], min(cell.where["first"] + A_CELL, settings.replicates)):
        for row in _exact(part, seed, settings, bench):
            yield {"seed": seed, **row}


def _exact(part: str, seed: int, settings: Settings, bench: Bench) -> Iterator[Row]:
    if part == STEPS:
        return two_scales(seed, bench)
    pairs = [(FIXED, place) if part == FEATURES else (place, FIXED) for place in settings.grid]
    return sweep(pairs, seed, bench)


def two_scales(seed: int, bench: Bench) -> Iterator[Row]:
    """Gradient flow on a linear model with 120 large and 20 small features, n = 200: exact risk at each time.

    β(t) = Σ_j (1 − e^{−t s_j²/n}) / s_j ⟨u_j, y⟩ v_j. The large features are fitted, noise and all, before the small
    ones, which carry most of the signal, are found.
    """
    n, spectrum = 200, numpy.r_[numpy.ones(120), numpy.full(20, 1e-3)]
    rng = bench.rng("two scales", seed)
    signal = numpy.r_[numpy.full(120, 1 / 120), numpy.full(20, 2 / 20)]
    law = LinearModel(spectrum, rng.standard_normal(140) * numpy.sqrt(signal / spectrum), 0.3)
    sample = linear_regression(law, n, rng)
    u, s, vt = numpy.linalg.svd(sample.inputs, full_matrices=False)
    for step in numpy.geomspace(0.1, 1e6, 36):
        estimate = vt.T @ (-numpy.expm1(-step * s**2 / n) / s * (u.T @ sample.targets))
        yield {"step": float(step), "risk": law.excess_risk(estimate) + law.noise_std**2}


def by_width(width: int, seed: int, settings: Settings, bench: Bench) -> Iterator[Row]:
    """A perceptron of one hidden layer, trained on noisy labels to the end."""
    spec = _spec(settings, bench, seed, width, settings.epochs, settings.label_noise, stop=1e-3)
    trained, outcome = bench.train(spec)
    yield {
        "test_error": outcome.clean_test_error,
        "train_error": outcome.train_error,
        "error_gap": outcome.error_gap,
        **bench.read(trained),
    }


def by_epochs(seed: int, settings: Settings, bench: Bench) -> Iterator[Row]:
    """A wide perceptron on noisy labels, looked at along its training."""
    epochs = settings.time_epochs
    spec = _spec(settings, bench, seed, settings.time_width, epochs, settings.time_label_noise, stop=0.0)
    data = bench.load(spec.data)
    marks = sorted({int(mark) for mark in numpy.geomspace(1, epochs, 30)})
    trained, _ = bench.train(spec, data, trajectory_epochs=marks)
    assert trained.trajectory is not None
    for mark in marks:
        trained.network.load_state_dict(trained.trajectory.states[mark])
        yield {
            "epoch": mark,
            "test_error": error(trained.network, data[1]),
            "train_error": error(trained.network, data[0]),
            **bench.read(trained),
        }


def _spec(
    settings: Settings, bench: Bench, seed: int, width: int, epochs: int, label_noise: float, stop: float
) -> RunSpec:
    data = DataSpec(settings.data, settings.train_size, label_noise=label_noise, seed=bench.derived("data", seed))
    return RunSpec(
        data=data,
        architecture="mlp",
        width=width,
        depth=1,
        learning_rate=0.003,
        batch_size=100,
        optimiser="adam",
        stop_loss_nats=stop,
        max_epochs=epochs,
        seed=seed,
        root_seed=bench.seed,
    )


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    conditions: list[Condition] = []
    for part, along in ((FEATURES, "p"), (SAMPLES, "n")):
        rows = table[table["part"] == part]
        places, risks = curves(rows, along, "risk")
        peak = peak_interval(places, risks, numpy.random.default_rng(0))
        conditions.append(within(part, "place of the peak", peak, 0.9 * FIXED, 1.1 * FIXED))
        far = rows[(rows["p"] - rows["n"]).abs() >= rows["n"] / 4]
        ratios = (far["risk"] / far["closed_form"]).groupby(far["seed"]).mean()
        conditions.append(within(part, "risk over its closed form", mean_interval(ratios), 0.9, 1.1))
        _, ridged = curves(rows, along, "ridge_risk")
        conditions.append(below(part, "rises with the best ridge, over its span", _backtracking(ridged), 0.05))
    for part, along, what in (
        (WIDTH, "width", "test_error"),
        (EPOCHS, "epoch", "test_error"),
        (STEPS, "step", "risk"),
    ):
        rise, fall = bump(curves(chosen(table, {"part": part}), along, what)[1])
        conditions += [
            above(part, f"rise of the {what.replace('_', ' ')} to a peak that a fall follows", rise, 0),
            above(part, "second descent", fall, 0),
        ]
    return verdict(conditions)


def _backtracking(values: numpy.ndarray, resamples: int = 400) -> Interval:
    units, rng = len(values), numpy.random.default_rng(0)
    weights = rng.multinomial(units, numpy.full(units, 1 / units), size=resamples) / units
    low, high = numpy.quantile([backtracking(curve) for curve in weights @ values], [0.025, 0.975])
    return Interval(backtracking(values.mean(axis=0)), float(low), float(high), units)


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """Where the peak is, and where the network begins to fit."""
    places, risks = curves(table[table["part"] == FEATURES], "p", "risk")
    peak = shown(peak_interval(places, risks, numpy.random.default_rng(0)))
    networks = table[table["part"] == WIDTH].groupby("width")[["test_error", "train_error"]].mean()
    fitted = networks.index[networks["train_error"] <= 0.01]
    peaks = networks["test_error"].iloc[1:].idxmax()
    along = chosen(table, {"part": EPOCHS}).groupby("epoch")["test_error"].mean()
    return [
        Beside("p at the peak, n = 40", "n (the risk is infinite for n − 1 ≤ p ≤ n + 1)", "theorem 1", peak),
        Beside(
            "width of the largest test error, and the first with training error below 1 %",
            "about the same width (ResNet18, CIFAR-10, 15 % label noise)",
            "Nakkiran et al. 2020, figure 1, as recalled",
            f"{peaks:g}; {fitted[0]:g}" if len(fitted) else f"{peaks:g}; none",
        ),
        Beside(
            "test error by epochs",
            "falls, rises, and falls again",
            "Nakkiran et al. 2020, figure 2, as recalled",
            f"{along.iloc[0]:.3g} first, {along.min():.3g} at {along.idxmin():g} epochs, {along.iloc[-1]:.3g} last",
        ),
    ]


_RISK = "risk E(y − ŷ)²"

DOUBLE_DESCENT = Phenomenon(
    name="double_descent",
    source="belkin2019; belkin2020; nakkiran2020; nakkiran2021; heckel2021",
    quick=Settings(
        grid=(4, 8, 12, 16, 20, 24, 28, 30, 34, 37, 38, 40, 42, 43, 46, 50, 56, 64, 80, 100, 130, 160, 200),
        replicates=100,
        data="digits",
        train_size=1000,
        label_noise=0.2,
        widths=(3, 4, 6, 10, 16, 24, 40, 80, 192),
        epochs=400,
        seeds=5,
        time_width=64,
        time_epochs=400,
        time_label_noise=0.2,
    ),
    full=Settings(
        grid=(*range(2, 36, 2), *range(36, 46), *range(46, 100, 4), 100, 120, 140, 160, 180, 200),
        replicates=2000,
        data="mnist",
        train_size=4000,
        label_noise=0.2,
        widths=(2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256, 512),
        epochs=4000,
        seeds=10,
        time_width=512,
        time_epochs=10_000,
        time_label_noise=0.2,
    ),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Weak features: risk (dots), closed form (dashed)",
            "p",
            "risk",
            "features p, n = 40",
            _RISK,
            where={"part": FEATURES},
            log="y",
            reference="closed_form",
            verticals=((FIXED, "p = n"),),
        ),
        Panel(
            "Best ridge: no peak",
            "p",
            "ridge_risk",
            "features p, n = 40",
            _RISK,
            where={"part": FEATURES},
            verticals=((FIXED, "p = n"),),
        ),
        Panel(
            "More examples can hurt",
            "n",
            "risk",
            "examples n, p = 40",
            _RISK,
            where={"part": SAMPLES},
            log="y",
            reference="closed_form",
            verticals=((FIXED, "n = p"),),
        ),
        Panel(
            "Network with label noise, by width",
            "width",
            "test_error",
            "hidden units",
            "test error, true labels",
            where={"part": WIDTH},
            log="x",
        ),
        Panel(
            "Network with label noise, by epochs",
            "epoch",
            "test_error",
            "epochs",
            "test error, true labels",
            where={"part": EPOCHS},
            log="x",
        ),
        Panel(
            "Linear model, two scales of features",
            "step",
            "risk",
            "gradient-flow time",
            _RISK,
            where={"part": STEPS},
            log="xy",
        ),
    ),
    follows=(
        Follow("test_error", "by width", where={"part": WIDTH}),
        Follow("error_gap", "by width", where={"part": WIDTH}),
        Follow("test_error", "by epochs", where={"part": EPOCHS}),
    ),
)
