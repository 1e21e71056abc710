"""Bounds from uniform convergence can grow with the training set while the gap falls.

Paper: Nagarajan & Kolter 2019 (arXiv:1902.04742), figure 1 and theorem 3.1.

Claim: for networks trained to a fixed margin, norm-based bounds grow with the number n of training examples while the
test error falls, since the distance from the initialisation grows with n; and there is a linear problem where the
learned classifier generalises, yet errs on a set of examples that is as good a sample as the training set, so no
uniform bound, however tight, can be small.

Rule: (1) networks: the exponents in n of both spectral bounds of the registry (`bartlett_foster_telgarsky` and
`neyshabur_pac_spectral` in the form √(C/n)), and of the distance from the initialisation, have intervals above 0, and
that of the gap in error has one below 0, over seeds; (2) linear: at the largest n, the test error has an interval below
0.05 and the error on the mirrored training set (the noise coordinates negated, which leaves the law unchanged) one
above 0.95, with training error 0.

Tried: with batches of 64 and training to a fixed loss of 0.002 nats, a margin of about 6, the spectral bound fell with
n, with an exponent of −.165 [−.179, −.151]; to a margin of 5 on 99 % of the examples it fell too (116 to 88 from n =
128 to 512, one run of five layers of 128 units), though the distance grew. The paper takes one example a step, at rate
.1, to a margin of 10 on 99 % of the examples (as recalled), and the full settings do. On images of unit variance a
pixel, as here, rate .1 diverges; the rate .01 moves the first layer as .1 does on pixels from 0 to 1. The quick
settings once stopped at a margin of 5, with n up to 2,048: the spectral bound rose (exponent .221 [.173, .269]), the
PAC-Bayes one fell (−.141 [−.184, −.097]). A look at one seed to the paper's margin of 10 gave 1.5e5, 1.2e5, 1.4e5 and,
at n = 8,192, 2.7e5; the quick settings now have that margin and that n. The PAC-Bayes bound still falls up to n = 2,048
(1.6e5 to 1.3e5 over five seeds): its exponent is above 0 by the last size, 3.9e5. The linear problem had 40 dimensions
an example, and a test error of .215 at the largest n, which is what 40 give: the theorem asks for more, and 400 give
.006.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas

from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import MEASURE, Bench
from gapbench.evaluate.phenomena.following import chosen
from gapbench.evaluate.phenomena.intervals import mean_interval, share_interval, slope_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, at_least, below, shown, verdict
from gapbench.models.spec import RunSpec

NETWORK, LINEAR = "network", "linear"
BOUNDS = ("bartlett_foster_telgarsky", "neyshabur_pac_spectral")
READ = (
    *BOUNDS,
    "frobenius_distance",
    "log_prod_spectral",
    "log_prod_frobenius",
    "path_norm",
    "path_norm_over_margin",
    "inverse_margin",
    "fisher_rao",
    "input_gradient_norm",
    "geometric_complexity",
    "class_compactness",
    "mixup_margin",
    "critical_sample_ratio",
    "intrinsic_dimension",
)


@dataclass(frozen=True)
class Settings:
    """The networks' data, sizes, width, depth, rate, batches, margin, most epochs and seeds; the sizes, and the
    dimensions an example, of the linear problem.
    """

    data: str
    sizes: tuple[int, ...]
    width: int
    depth: int
    learning_rate: float
    batch_size: int
    margin: float
    epochs: int
    seeds: int
    linear_sizes: tuple[int, ...]
    dimensions_an_example: int
    test_size: int | None


def cells(settings: Settings) -> list[Cell]:
    """A cell a network, and a cell a linear problem."""
    networks = [
        Cell({"part": NETWORK, "n": n, "seed": seed}, work=float(n) * settings.width**2 / 1e6)
        for n in settings.sizes
        for seed in range(settings.seeds)
    ]
    linear = [
        Cell({"part": LINEAR, "n": n, "seed": seed}, work=float(n) * max(settings.linear_sizes) / 1e4)
        for n in settings.linear_sizes
        for seed in range(settings.seeds)
    ]
    return [*networks, *linear]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train a network and read the bounds, or take the one step of the linear problem."""
    n, seed = cell.where["n"], cell.where["seed"]
    yield network(n, seed, settings, bench) if cell.where["part"] == NETWORK else linear(n, seed, settings, bench)


def network(n: int, seed: int, settings: Settings, bench: Bench) -> Row:
    """A perceptron trained by SGD without momentum to a fixed margin, and its bounds."""
    data = DataSpec(settings.data, n, seed=bench.derived("data", seed), test_size=settings.test_size)
    spec = RunSpec(
        data=data,
        architecture="mlp",
        width=settings.width,
        depth=settings.depth,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=0.0,
        stop_loss_nats=0.0,
        stop_margin=settings.margin,
        max_epochs=settings.epochs,
        seed=seed,
        root_seed=bench.seed,
    )
    trained, outcome = bench.train(spec)
    readings = bench.read(trained, READ)
    complexity = {name: readings.get(f"{MEASURE}{name}", math.nan) for name in (*BOUNDS, "frobenius_distance")}
    return {
        # The first is itself a root of a squared complexity, as its paper's bound is linear in it.
        "spectral_bound": complexity[BOUNDS[0]] / math.sqrt(n),
        "pac_bayes_bound": math.sqrt(complexity[BOUNDS[1]] / n),
        "distance": math.sqrt(complexity["frobenius_distance"]),
        "gap": outcome.error_gap,
        "test_error": outcome.test_error,
        "epochs": outcome.epochs,
        "reached_margin": outcome.converged,
        **readings,
    }


def linear(n: int, seed: int, settings: Settings, bench: Bench) -> Row:
    """Theorem 3.1: x = (2 y u, x₂), x₂ ~ N(0, 32/D I) in D dimensions, ‖u‖ = 1/√n; one gradient step from 0.

    The step is along Σ y x: w = (2 n u, Σ y_i x₂_i). The mirrored training set has −x₂ in place of x₂.
    """
    d = settings.dimensions_an_example * max(settings.linear_sizes)
    rng = bench.rng(LINEAR, n, seed)
    labels = rng.choice([-1.0, 1.0], size=n)
    noise = math.sqrt(32 / d) * rng.standard_normal((n, d))
    weights = labels @ noise
    # Both have the signal 2 y ⟨u, 2 n u⟩ = 4 y n ‖u‖² = 4 y.
    signal = 4.0
    own = labels * (noise @ weights)
    # ⟨w₂, x₂⟩ of a fresh example is N(0, 32/D ‖w₂‖²): its test error is a tail of the normal law, exactly.
    deviation = math.sqrt(32 / d) * float(numpy.linalg.norm(weights))
    return {
        "train_error": float((signal + own <= 0).mean()),
        "mirrored_error": float((signal - own <= 0).mean()),
        "test_error": 0.5 * math.erfc(signal / deviation / math.sqrt(2)),
    }


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    networks, linears = (chosen(table, {"part": part}) for part in (NETWORK, LINEAR))
    largest = linears[linears["n"] == linears["n"].max()]
    fitted = largest["train_error"] == 0
    grows = {
        "spectral_bound": "exponent in n of the spectral bound",
        "pac_bayes_bound": "exponent in n of the spectral PAC-Bayes bound",
        "distance": "exponent in n of the distance from the initialisation",
    }
    return verdict(
        [
            *(above(NETWORK, what, slope_interval(networks, "n", column), 0) for column, what in grows.items()),
            below(NETWORK, "exponent in n of the gap", slope_interval(networks, "n", "gap"), 0),
            at_least(LINEAR, "fits with training error 0", share_interval(int(fitted.sum()), len(fitted)), 1.0),
            below(LINEAR, "test error at the largest n", mean_interval(largest["test_error"]), 0.05),
            above(LINEAR, "error on the mirrored training set", mean_interval(largest["mirrored_error"]), 0.95),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The exponents of the paper's figure 1 and ours."""
    networks = chosen(table, {"part": NETWORK})
    where = "figure 1, as recalled"
    return [
        Beside(
            "exponent in n of the bounds",
            "0.68",
            where,
            f"spectral {shown(slope_interval(networks, 'n', 'spectral_bound'))}; "
            f"PAC-Bayes {shown(slope_interval(networks, 'n', 'pac_bayes_bound'))}",
        ),
        Beside("exponent in n of the test error", "−0.43", where, shown(slope_interval(networks, "n", "test_error"))),
        Beside("exponent in n of the distance", "0.42", where, shown(slope_interval(networks, "n", "distance"))),
    ]


UNIFORM_CONVERGENCE_FAILS = Phenomenon(
    name="uniform_convergence_fails",
    source="nagarajan2019uniform",
    quick=Settings("mnist", (128, 512, 2048, 8192), 128, 5, 0.01, 1, 10.0, 2000, 5, (16, 64, 256), 400, 2000),
    full=Settings("mnist", (128, 512, 2048, 8192, 32_768), 1024, 5, 0.01, 1, 10.0, 2000, 10, (32, 128, 512), 400, None),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Spectral bound",
            "n",
            "spectral_bound",
            "training examples n",
            "spectral bound, main term",
            where={"part": NETWORK},
            log="xy",
        ),
        Panel(
            "Spectral PAC-Bayes bound",
            "n",
            "pac_bayes_bound",
            "training examples n",
            "spectral PAC-Bayes bound, main term",
            where={"part": NETWORK},
            log="xy",
        ),
        Panel(
            "Gap",
            "n",
            "gap",
            "training examples n",
            "gap in error",
            where={"part": NETWORK},
            log="xy",
        ),
        Panel(
            "Linear: mirrored training set; dashed: test set",
            "n",
            "mirrored_error",
            "training examples n",
            "error",
            where={"part": LINEAR},
            log="x",
            reference="test_error",
        ),
    ),
    follows=(Follow("gap", "with n", where={"part": NETWORK}),),
)
