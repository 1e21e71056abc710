"""Networks memorise modular arithmetic first and generalise long after; gating AdamW on its signal is said to hurry it.

Paper: Power, Burda, Edwards, Babuschkin & Misra 2022 (arXiv:2201.02177); the gate: Litman & Guo 2026
(arXiv:2605.01172).

Claim: with weight decay, the accuracy on pairs that were not seen rises to all long after the training accuracy has;
with the step of AdamW gated on the signal-to-noise ratio of the gradient, 95 % is reached about five times sooner
(5,950 against 29,450 steps, division modulo 97, 25 % of the pairs).

Rule: (1) every AdamW run reaches 95 % test accuracy, and the steps to it over the steps to 99 % training accuracy have
a geometric mean over seeds with an interval above 2; (2) every run with the gate "soft", noise "finite", ridge 1 (the
defaults, chosen before running) reaches it, and the steps of AdamW over those with the gate, paired by seed, have a
geometric mean with an interval above 1. Other gates are shown, and do not enter the rule.

The network here has one hidden layer, on pairs of one-hot codes; those of the paper are transformers.

Tried: a first look at AdamW alone, before any gate was run, found no generalization within 3,000 steps at learning
rates of .003 and below, or with half of the pairs modulo 31; the settings were chosen so that AdamW groks in seconds.
With two batches an epoch, modulo 47, α = b/(n − b) is 1 and the finite gates stay shut: no gated run learned its own
sample, so the batches were made eight. A gate scales the gradient's step and not the decay, so that a large decay works
against it: at decay 1 (rate .01) AdamW generalised after 1,312 steps and no gated run memorised. Decays of .3 and .1 at
rates of .01 and .03 were then tried with AdamW, which generalised at all four (after 632 to 4,424 steps), and the quick
settings have the smallest decay at the larger rate, where it did after 1,672. There the gated runs memorise too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench, error
from gapbench.evaluate.phenomena.intervals import geometric_mean_interval, share_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, at_least, shown, verdict
from gapbench.evaluate.statistics.interval import UNDEFINED_SCORE, Interval
from gapbench.models.spec import RunSpec

ADAMW, SOFT = "AdamW", "gate soft"
MEMORISED, GENERALISED = 0.99, 0.95
OPTIMISERS = {ADAMW: None, SOFT: "soft", "gate hard": "hard", "gate snr": "snr"}
READ = (
    "param_norm",
    "frobenius_distance",
    "log_prod_spectral",
    "path_norm",
    "inverse_margin",
    "effective_rank",
    "stable_rank",
    "weight_entropy",
    "train_cross_entropy",
    "class_compactness",
    "intrinsic_dimension",
    "input_gradient_norm",
    "gradient_norm",
    "fisher_rao",
)


@dataclass(frozen=True)
class Settings:
    """The task, its modulus and the share of its pairs in training; the network and its optimiser; epochs, seeds."""

    operation: str
    modulus: int
    share: float
    width: int
    learning_rate: float
    weight_decay: float
    batches: int
    epochs: int
    marks: int
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell an optimiser and seed."""
    work = settings.epochs * settings.modulus**3 * settings.width / 1e9
    return [Cell({"optimiser": name, "seed": seed}, work=work) for seed in range(settings.seeds) for name in OPTIMISERS]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train a perceptron of one hidden layer on one-hot pairs and look at it along the way."""
    p, seed, gate = settings.modulus, cell.where["seed"], OPTIMISERS[cell.where["optimiser"]]
    pairs = p * p if settings.operation == "modular_addition" else p * (p - 1)
    size = int(settings.share * pairs)
    spec = RunSpec(
        data=DataSpec(settings.operation, size, classes=p, seed=bench.derived("data", seed)),
        architecture="mlp",
        width=settings.width,
        depth=1,
        learning_rate=settings.learning_rate,
        batch_size=math.ceil(size / settings.batches),
        optimiser="adamw" if gate is None else "gated_adamw",
        weight_decay=settings.weight_decay,
        stop_loss_nats=0.0,
        max_epochs=settings.epochs,
        gate=gate or "soft",
        seed=seed,
        root_seed=bench.seed,
    )
    data = bench.load(spec.data)
    marks = sorted({int(mark) for mark in numpy.geomspace(1, settings.epochs, settings.marks)})
    trained, _ = bench.train(spec, data, trajectory_epochs=marks)
    assert trained.trajectory is not None
    for number, mark in enumerate(marks):
        trained.network.load_state_dict(trained.trajectory.states[mark])
        yield {
            "step": mark * settings.batches,
            "train_accuracy": 1 - error(trained.network, data[0]),
            "test_accuracy": 1 - error(trained.network, data[1]),
            **(bench.read(trained, READ) if cell.where["optimiser"] == ADAMW and number % 8 == 0 else {}),
        }


def steps_to(table: pandas.DataFrame, column: str, level: float) -> pandas.Series:
    """For each optimiser and seed, the first step at which ``column`` is at least ``level``; NaN where it never is."""
    reached = table[table[column] >= level].groupby(["optimiser", "seed"])["step"].min()
    return reached.reindex(pandas.MultiIndex.from_frame(table[["optimiser", "seed"]].drop_duplicates())).sort_index()


def censored(table: pandas.DataFrame, name: str) -> int:
    """How many runs with this optimiser never reach 95 % test accuracy."""
    return int(steps_to(table, "test_accuracy", GENERALISED)[name].isna().sum())


def largest_speed_up(table: pandas.DataFrame, gated: str) -> Interval:
    """`speed_up` as if every gated run that never reaches 95 % did so at its last step: no less than the true one.

    Undefined where a run of AdamW never reaches it.
    """
    steps = steps_to(table, "test_accuracy", GENERALISED)
    ratio = steps[ADAMW] / steps[gated].fillna(table["step"].max())
    return _geometric_mean(ratio)


def speed_up(table: pandas.DataFrame, gated: str) -> Interval:
    """Steps of AdamW to 95 % test accuracy over those with a gate, paired by seed; undefined where a run never does."""
    steps = steps_to(table, "test_accuracy", GENERALISED)
    return _geometric_mean(steps[ADAMW] / steps[gated])


def _geometric_mean(ratio: pandas.Series) -> Interval:
    if ratio.isna().any():
        return Interval(UNDEFINED_SCORE, UNDEFINED_SCORE, UNDEFINED_SCORE, int(ratio.notna().sum()))
    return geometric_mean_interval(ratio)


def delay(table: pandas.DataFrame) -> Interval:
    """Steps of AdamW to 95 % test accuracy over those to 99 % training accuracy."""
    late = steps_to(table, "test_accuracy", GENERALISED)[ADAMW]
    early = steps_to(table, "train_accuracy", MEMORISED)[ADAMW]
    ratio = (late / early).dropna()
    return geometric_mean_interval(ratio)


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    steps = steps_to(table, "test_accuracy", GENERALISED)
    runs = {name: steps[name].notna() for name in (ADAMW, SOFT)}
    return verdict(
        [
            at_least(
                "grokking",
                "AdamW runs that reach 95 % test accuracy",
                share_interval(int(runs[ADAMW].sum()), len(runs[ADAMW])),
                1.0,
            ),
            above("grokking", "steps to generalise over steps to memorise", delay(table), 2.0),
            at_least(
                "gate",
                "gated runs that reach it",
                share_interval(int(runs[SOFT].sum()), len(runs[SOFT])),
                1.0,
            ),
            above("gate", "speed-up by the soft gate", speed_up(table, SOFT), 1.0),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The speed-up of every gate, and the steps."""
    where = "Litman & Guo 2026, as public accounts state it"
    steps, last = steps_to(table, "test_accuracy", GENERALISED), table["step"].max()

    def ours(name: str) -> str:
        never = censored(table, name)
        if never == 0:
            return shown(speed_up(table, name))
        late = f"{never} of {len(steps[name])} runs not at 95 % by step {last:,.0f}"
        return f"at most {shown(largest_speed_up(table, name))}: {late}"

    def median(name: str) -> str:
        # Of runs that are cut off it is known where half of them arrived, if half did.
        middle = steps[name].fillna(math.inf).median()
        return f"{middle:,.0f}" if math.isfinite(middle) else f"above {last:,.0f}"

    found = [
        Beside(f"speed-up, {name}", "4.9 (gate not told apart)", where, ours(name))
        for name in OPTIMISERS
        if name != ADAMW
    ]
    return [
        *found,
        Beside("steps to 95 %, AdamW; gated", "29,450; 5,950", where, f"{median(ADAMW)}; {median(SOFT)} (medians)"),
    ]


GROKKING = Phenomenon(
    name="grokking",
    source="power2022; arXiv:2605.01172",
    quick=Settings("modular_division", 31, 0.7, 256, 0.03, 0.1, 8, 1000, 80, 5),
    full=Settings("modular_division", 97, 0.25, 512, 0.01, 1.0, 8, 20_000, 300, 10),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "AdamW: training accuracy (dashed) and test accuracy",
            "step",
            "test_accuracy",
            "steps",
            "accuracy",
            where={"optimiser": ADAMW},
            log="x",
            reference="train_accuracy",
        ),
        Panel(
            "Test accuracy by optimiser",
            "step",
            "test_accuracy",
            "steps",
            "test accuracy",
            hue="optimiser",
            log="x",
            horizontals=((0.95, "95 %"),),
        ),
    ),
    follows=(Follow("test_accuracy", "in time", where={"optimiser": ADAMW}),),
)
