"""The variance of networks falls with width, though the bias does not rise: the classical trade-off is not there.

Paper: Neal et al. 2018 (arXiv:1810.08591), figure 1 and section 4.

Claim: in the over-parametrised regime both the bias and the variance of networks trained to the end fall with width;
the variance due to initialisation falls, that due to the sample is about level.

Rule: over blocks of samples and seeds: the exponent in width of the total variance of the predicted probabilities has
an interval below 0, and so has the variance due to initialisation; the exponent of the bias has an interval that does
not lie above 0.05. Added after a look: in the wider half of the widths both exponents of the variance have intervals
below 0 too.

Tried: at the learning rate .05, which is large for wide networks, the variance fell up to 128 units and rose at 256, by
0.018 [0.005, 0.031]. The quick settings now have .01, where it falls throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gapbench.datasets.spec import DataSpec, Split
from gapbench.evaluate.phenomena.bench import Bench, outputs
from gapbench.evaluate.phenomena.intervals import mean_interval, slope_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Condition, Verdict, below, shown, verdict
from gapbench.models.spec import RunSpec


@dataclass(frozen=True)
class Settings:
    """The data and its sizes, widths, and in each of ``blocks``: training samples, and initialisations of each."""

    data: str
    pool: int
    train_size: int
    widths: tuple[int, ...]
    learning_rate: float
    batch_size: int
    epochs: int
    samples: int
    starts: int
    blocks: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a width and block; blocks share no sample."""
    return [
        Cell(
            {"width": width, "seed": block},
            work=(1 + width / 200) * settings.samples * settings.starts * settings.epochs,
        )
        for width in settings.widths
        for block in range(settings.blocks)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train on every sample from every start; split the squared error of the probabilities on the same test inputs.

    Formula: with f_st the probabilities (test inputs, classes) of sample s and start t, and y one-hot:
    bias = mean ‖E f − y‖²; variance = E ‖f_st − E f‖² = E_s Var_t(f_st) [initialisation] + Var_s(E_t f_st) [sample],
    variances with m − 1, and the second without its bias Var_t / starts.
    """
    width, block = cell.where["width"], cell.where["seed"]
    # One pool and one test sample for all, so that no test example is in any training sample.
    pool, common = bench.load(DataSpec(settings.data, settings.pool, seed=bench.derived("pool"), test_size=400))
    found, readings, wrong = [], [], []
    for sample in range(settings.samples):
        order = torch.randperm(len(pool), generator=bench.generator("sample", block, sample))[: settings.train_size]
        train = Split(pool.inputs[order], pool.labels[order], pool.classes)
        of_start = []
        for start in range(settings.starts):
            spec = RunSpec(
                data=DataSpec(settings.data, settings.train_size),
                architecture="mlp",
                width=width,
                depth=1,
                learning_rate=settings.learning_rate,
                batch_size=settings.batch_size,
                stop_loss_nats=0.005,
                max_epochs=settings.epochs,
                seed=derived(block, sample, start),
                root_seed=bench.seed,
            )
            trained, outcome = bench.train(spec, (train, common))
            of_start.append(torch.softmax(outputs(trained.network, common.inputs), dim=1))
            wrong.append(outcome.test_error)
            if start == 0:
                readings.append(bench.read(trained))
        found.append(torch.stack(of_start))
    probabilities = torch.stack(found)
    target = one_hot(common.labels, common.classes).double()
    yield {**decomposed(probabilities, target), "test_error": sum(wrong) / len(wrong), **_mean(readings)}


def derived(*numbers: int) -> int:
    """One whole number for three small ones."""
    return sum(number * 1000**place for place, number in enumerate(numbers))


def decomposed(probabilities: Tensor, target: Tensor) -> dict[str, float]:
    """Bias and variances of (samples, starts, examples, classes) against one-hot (examples, classes)."""
    samples, starts = probabilities.shape[:2]
    of_sample = probabilities.mean(dim=1)
    from_start = float(probabilities.var(dim=1).sum(dim=-1).mean())
    from_sample = float(of_sample.var(dim=0).sum(dim=-1).mean()) - from_start / starts
    total = from_start + from_sample
    biased = float((of_sample.mean(dim=0) - target).square().sum(dim=-1).mean())
    # The mean over so few samples and starts has a variance of its own, which would count as bias.
    bias = biased - (from_sample + from_start / starts) / samples
    return {"bias": bias, "variance": total, "variance_start": from_start, "variance_sample": from_sample}


def _mean(readings: list[dict[str, float]]) -> dict[str, float]:
    shared = set.intersection(*(set(reading) for reading in readings))
    return {key: sum(reading[key] for reading in readings) / len(readings) for key in sorted(shared)}


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    bias = slope_interval(table, "width", "bias")
    widths = sorted(table["width"].unique())
    wide = table[table["width"].isin(widths[len(widths) // 2 :])]
    return verdict(
        [
            below("variance", "exponent in width, total", slope_interval(table, "width", "variance"), 0),
            below(
                "variance",
                "exponent in width, from initialisation",
                slope_interval(table, "width", "variance_start"),
                0,
            ),
            below(
                "variance of wide networks", "exponent in width, total", slope_interval(wide, "width", "variance"), 0
            ),
            below(
                "variance of wide networks",
                "exponent in width, from initialisation",
                slope_interval(wide, "width", "variance_start"),
                0,
            ),
            Condition("bias", "exponent in width", bias, "not above 0.05", not bias.low > 0.05 and bias.n >= 2),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The parts at the ends of the sweep."""
    found = []
    narrow, wide = table["width"].min(), table["width"].max()
    for column, what in (
        ("bias", "bias"),
        ("variance", "variance"),
        ("variance_start", "variance from initialisation"),
        ("variance_sample", "variance from the sample"),
    ):
        ends = (shown(mean_interval(table.loc[table["width"] == width, column])) for width in (narrow, wide))
        published = "about level" if column == "variance_sample" else "falls with width"
        found.append(
            Beside(f"{what}, width {narrow} → {wide}", published, "figures 1 and 3, as recalled", " → ".join(ends))
        )
    return found


BIAS_VARIANCE = Phenomenon(
    name="bias_variance",
    source="neal2018",
    quick=Settings("digits", 1397, 100, (8, 16, 32, 64, 128, 256), 0.01, 20, 1500, 3, 2, 4),
    full=Settings(
        "mnist", 60_000, 100, (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096), 0.002, 20, 10_000, 20, 10, 10
    ),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel("Bias", "width", "bias", "hidden units", "bias (squared)", log="xy"),
        Panel("Variance", "width", "variance", "hidden units", "variance, total", log="xy"),
        Panel(
            "Variance from the initialisation; dashed: from the sample",
            "width",
            "variance_start",
            "hidden units",
            "variance",
            log="xy",
            reference="variance_sample",
        ),
    ),
    follows=(Follow("variance", "with width"), Follow("test_error", "with width")),
)
