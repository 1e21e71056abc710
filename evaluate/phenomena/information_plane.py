"""Hidden layers of tanh networks compress their input late in training, more than those of ReLU networks.

Paper: Shwartz-Ziv & Tishby 2017 (arXiv:1703.00810); Saxe et al. 2018 (Journal of Statistical Mechanics 2019, 124020).

Claim: the binned mutual information I(X;T) of a hidden layer first rises and later falls in tanh networks, which was
read as compression; it does not fall in ReLU networks, so compression is an effect of saturation.

Rule: over seeds, for the last hidden layer, the fall of I(X;T) from its largest value along training to its value at
the end: with tanh it has an interval above 0.1 bits; with ReLU the interval lies below 0.1 bits or the paired
difference tanh less ReLU has an interval above 0.1 bits (both are shown, the difference decides). Binning as in the
papers: 30 bins over (−1, 1) for tanh, over the layer's largest range in training for ReLU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import pandas
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import DataSpec, Split
from gapbench.evaluate.phenomena.bench import Bench, error
from gapbench.evaluate.phenomena.intervals import mean_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, shown, verdict
from gapbench.measures.information import entropy_bits
from gapbench.models.spec import RunSpec

BITS = 12
BINS = 30
TANH, RELU = "tanh", "relu"


@dataclass(frozen=True)
class Settings:
    """Units of each hidden layer, layers, epochs, batch size, learning rate, seeds."""

    width: int
    depth: int
    epochs: int
    batch_size: int
    learning_rate: float
    seeds: int


def patterns(bench: Bench, seed: int) -> tuple[Split, Split]:
    """All 2¹² binary inputs ±1, labelled by a random smooth rule that splits them in half; 85 % are for training.

    The rule is the sign of a random quadratic form about its median. It stands for the O(3)-symmetric rule of the
    paper, which no public account states exactly.
    """
    inputs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=BITS)))
    stream = bench.generator("rule", seed)
    form = torch.randn(BITS, BITS, generator=stream)
    heights = ((inputs @ form) * inputs).sum(dim=1) + 2 * inputs @ torch.randn(BITS, generator=stream)
    labels = (heights > heights.median()).long()
    order = torch.randperm(len(inputs), generator=stream)
    cut = int(0.85 * len(inputs))
    train, test = (Split(inputs[rows], labels[rows], 2) for rows in (order[:cut], order[cut:]))
    return train, test


def cells(settings: Settings) -> list[Cell]:
    """A cell an activation and seed."""
    work = float(settings.epochs * settings.depth)
    return [
        Cell({"activation": activation, "seed": seed}, work)
        for activation in (TANH, RELU)
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Train a small network and bin its hidden layers along the way, on all inputs."""
    activation, seed = cell.where["activation"], cell.where["seed"]
    train, test = patterns(bench, seed)
    spec = RunSpec(
        data=DataSpec("patterns", len(train)),
        architecture="mlp",
        width=settings.width,
        depth=settings.depth,
        activation=activation,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=0.9,
        stop_loss_nats=0.0,
        max_epochs=settings.epochs,
        seed=seed,
        root_seed=bench.seed,
    )
    marks = [0, *sorted({int(mark) for mark in numpy.geomspace(1, settings.epochs, 40)})]
    trained, _ = bench.train(spec, (train, test), trajectory_epochs=marks)
    assert trained.trajectory is not None
    inputs = torch.cat([train.inputs, test.inputs])
    labels = torch.cat([train.labels, test.labels])
    states = {mark: trained.trajectory.states[mark] for mark in marks}
    along = []
    for state in states.values():
        trained.network.load_state_dict(state)
        along.append(
            (hidden_layers(trained.network, inputs), error(trained.network, train), error(trained.network, test))
        )
    layers = len(along[0][0])
    ranges = [max(float(layers_there[place].abs().max()) for layers_there, _, _ in along) for place in range(layers)]
    for mark, (there, train_error, test_error) in zip(marks, along, strict=True):
        for place, activations in enumerate(there):
            low, high = (-1.0, 1.0) if activation == TANH else (0.0, ranges[place])
            with_input, with_label = information(activations, labels, low, high)
            yield {
                "epoch": mark,
                "layer": place + 1,
                "last": place + 1 == layers,
                "input_bits": with_input,
                "label_bits": with_label,
                "train_error": train_error,
                "test_error": test_error,
            }


def hidden_layers(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The outputs of every activation module, (inputs, units)."""
    found: list[Tensor] = []
    kinds = (nn.Tanh, nn.ReLU)
    hooks = [
        module.register_forward_hook(lambda _, __, output: found.append(output))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    try:
        network.eval()
        with torch.inference_mode():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def information(activations: Tensor, labels: Tensor, low: float, high: float) -> tuple[float, float]:
    """(I(X;T), I(T;Y)) in bits, T the activations in `BINS` equal bins of [low, high], X uniform over the rows.

    T is a function of X, so I(X;T) = H(T); I(T;Y) = H(T) + H(Y) − H(T, Y).
    """
    width = (high - low) or 1.0
    binned = ((activations.double() - low) / width * BINS).floor().clamp(0, BINS - 1).long()
    cells_of = torch.unique(binned, dim=0, return_inverse=True)[1]
    joint = torch.unique(torch.stack([cells_of, labels], dim=1), dim=0, return_inverse=True)[1]
    of_cells = entropy_bits(cells_of.bincount())
    return of_cells, of_cells + entropy_bits(labels.bincount()) - entropy_bits(joint.bincount())


def falls(table: pandas.DataFrame) -> pandas.DataFrame:
    """The fall of I(X;T) of the last hidden layer from its largest value to its end: a column an activation."""
    last = table[table["last"].astype(bool)].sort_values("epoch")
    grouped = last.groupby(["activation", "seed"])["input_bits"]
    return (grouped.max() - grouped.last()).unstack("activation")


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    fall = falls(table)
    return verdict(
        [
            above("tanh", "fall of I(X;T), bits", mean_interval(fall[TANH]), 0.1),
            above("ReLU less", "fall with tanh less that with ReLU, bits", mean_interval(fall[TANH] - fall[RELU]), 0.1),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The falls."""
    fall = falls(table)
    where = "figures only, as recalled"
    return [
        Beside(
            "fall of I(X;T), tanh",
            "some bits, late in training",
            f"Shwartz-Ziv & Tishby, {where}",
            shown(mean_interval(fall[TANH])),
        ),
        Beside("fall of I(X;T), ReLU", "none", f"Saxe et al., {where}", shown(mean_interval(fall[RELU]))),
    ]


INFORMATION_PLANE = Phenomenon(
    name="information_plane",
    source="shwartzziv2017; saxe2018",
    quick=Settings(6, 3, 250, 256, 0.05, 5),
    full=Settings(6, 4, 8000, 256, 0.02, 30),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Information of the last hidden layer on the input",
            "epoch",
            "input_bits",
            "epochs",
            "I(X;T), bits",
            hue="activation",
            where={"last": True},
        ),
        Panel(
            "Information plane, tanh",
            "input_bits",
            "label_bits",
            "I(X;T), bits",
            "I(T;Y), bits",
            hue="layer",
            where={"activation": TANH},
            kind="points",
        ),
        Panel(
            "Information plane, ReLU",
            "input_bits",
            "label_bits",
            "I(X;T), bits",
            "I(T;Y), bits",
            hue="layer",
            where={"activation": RELU},
            kind="points",
        ),
    ),
)
