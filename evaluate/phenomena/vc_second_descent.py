"""The norm of the output weights follows the second descent, in which the number of parameters rises.

Paper: Lee & Cherkassky 2022 (arXiv:2205.15549).

Claim: with the VC-dimension of a network estimated by the squared norm of its output weights, Vapnik's bound explains
the second descent: beyond the interpolation threshold the norm falls with more hidden units, and so does the test
error.

Rule: least squares of least norm on random ReLU features, one-hot labels with noise: beyond the threshold (p > n), the
Spearman correlation along p of the squared norm of the output weights with the test error has an interval over seeds
above 0.8, while that of the number of parameters has one below 0; and over all p the correlation with the squared norm
has one above 0. Norms are of standardised features, of mean squared length 1, as the estimate takes for granted. Added
after a look, since the claim is of the estimate and not of the norm alone: beyond the threshold the correlation of
`output_weight_vc`, min(‖w‖², p) + 1, has an interval above 0.8 too.

Tried: at quick settings the squared norm does what the rule says, but it is above 6,000, so that the estimate is p + 1
at every p beyond the first: it rises while the test error falls, and `vc_gap_bound` is above 1 wherever p ≥ n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import DataSpec, Split
from gapbench.evaluate.phenomena.bench import MEASURE, Bench, outputs
from gapbench.evaluate.phenomena.intervals import spearman_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Follow, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, above, below, shown, verdict
from gapbench.models.trained import Trained

READ = (
    "num_params",
    "output_weight_vc",
    "vc_gap_bound",
    "param_norm",
    "log_prod_spectral",
    "log_prod_frobenius",
    "path_norm",
    "path_norm_over_margin",
    "inverse_margin",
    "class_compactness",
    "feature_benign_rank_R",
    "input_gradient_norm",
    "geometric_complexity",
    "critical_sample_ratio",
)

ESTIMATE, BOUND = f"{MEASURE}output_weight_vc", f"{MEASURE}vc_gap_bound"


@dataclass(frozen=True)
class Settings:
    """The data, label noise, numbers of features, seeds."""

    data: str
    train_size: int
    label_noise: float
    features: tuple[int, ...]
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a number of features and seed."""
    return [
        Cell({"features": features, "seed": seed}, work=50.0 + features)
        for features in settings.features
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Fit the output layer of a random two-layer ReLU network by least squares of least norm."""
    features, seed = cell.where["features"], cell.where["seed"]
    data = DataSpec(
        settings.data, settings.train_size, label_noise=settings.label_noise, seed=bench.derived("data", seed)
    )
    train, test = bench.load(data)
    network = random_network(train, features, bench.generator("features", seed))
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fit(network, train)
    wrong = outputs(network, test.inputs).argmax(dim=1) != test.labels
    fitted = outputs(network, train.inputs)
    train_error = float((fitted.argmax(dim=1) != train.labels).double().mean())
    test_error = float(wrong.double().mean())
    yield {
        "n": len(train),
        "test_error": test_error,
        "train_error": train_error,
        "residual": float((fitted - torch.eye(train.classes, dtype=torch.float64)[train.labels]).abs().max()),
        "squared_norm": float(output_layer(network).weight.detach().double().square().sum()),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **bench.read(Trained(network.eval(), initial, train), READ),
    }


def output_layer(network: nn.Module) -> nn.Linear:
    """The last linear layer."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


def random_network(train: Split, features: int, stream: torch.Generator) -> nn.Sequential:
    """A network with a random first layer, whose features have a mean squared length of 1 on the training sample."""
    inputs = train.inputs[0].numel()
    # Modules draw initial values from the global generator; these are thrown away, and that generator put back.
    with torch.random.fork_rng(devices=[]):
        layers = nn.Linear(inputs, features), nn.ReLU(), nn.Linear(features, train.classes)
    network = nn.Sequential(nn.Flatten(), *layers)
    first, last = network[1], network[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        # Drawn unit by unit: fewer features of a stream are the beginning of more.
        for unit in range(features):
            first.weight[unit] = torch.randn(inputs, generator=stream) / math.sqrt(inputs)
            first.bias[unit] = torch.randn((), generator=stream)
        last.weight.zero_()
        last.bias.zero_()
        length = network[:3](train.inputs).square().sum(dim=1).mean().sqrt()
        first.weight.div_(length)
        first.bias.div_(length)
    return network


def fit(network: nn.Sequential, train: Split) -> None:
    """Set the output layer to the least-norm least-squares fit of the one-hot labels, without a bias."""
    with torch.no_grad():
        hidden: Tensor = network[:3](train.inputs).double()
        target = torch.eye(train.classes, dtype=torch.float64)[train.labels]
        solution = torch.linalg.lstsq(hidden, target, driver="gelsd").solution
        output_layer(network).weight.copy_(solution.T)


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    beyond = table[table["features"] > table["n"]]
    return verdict(
        [
            above(
                "second descent",
                "Spearman of squared norm and test error, p > n",
                spearman_interval(beyond, "squared_norm", "test_error"),
                0.8,
            ),
            below(
                "second descent",
                "Spearman of the number of parameters and test error, p > n",
                spearman_interval(beyond, "parameters", "test_error"),
                0,
            ),
            above(
                "whole curve",
                "Spearman of squared norm and test error, all p",
                spearman_interval(table, "squared_norm", "test_error"),
                0,
            ),
            above(
                "estimated VC-dimension",
                "Spearman of the estimated VC-dimension and test error, p > n",
                spearman_interval(beyond, ESTIMATE, "test_error"),
                0.8,
            ),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The places of the peaks."""
    means = table.groupby("features")[["test_error", "squared_norm"]].mean()
    places = means.index.to_numpy(dtype=int)
    error_peak = places[1 + means["test_error"].to_numpy()[1:].argmax()]
    norm_peak = places[means["squared_norm"].to_numpy().argmax()]
    n = int(table["n"].iloc[0])
    beyond = table[table["features"] > n]
    rho = shown(spearman_interval(beyond, "squared_norm", "test_error"))
    estimate, smallest = shown(spearman_interval(beyond, ESTIMATE, "test_error")), beyond[BOUND].min()
    return [
        Beside(
            f"features at the peak of the test error; of the norm (n = {n})",
            "both at the interpolation threshold (figures only)",
            "as recalled",
            f"{error_peak}; {norm_peak}",
        ),
        Beside(
            "rank correlation with the test error in the second descent",
            "the bound has the shape of the test error",
            "as recalled",
            f"squared norm {rho}; estimated VC-dimension {estimate}",
        ),
        Beside(
            "least value of the bound on the gap in the second descent",
            "near the gap (figures only)",
            "as recalled",
            f"{smallest:.3g}{' (vacuous)' if smallest >= 1 else ''}",
        ),
    ]


VC_SECOND_DESCENT = Phenomenon(
    name="vc_second_descent",
    source="leecherkassky2022",
    quick=Settings("digits", 300, 0.2, (10, 20, 40, 80, 150, 220, 260, 300, 340, 400, 500, 700, 1000, 1600, 2500), 5),
    full=Settings(
        "mnist", 2000, 0.2, (20, 50, 100, 200, 500, 1000, 1500, 1800, 2000, 2200, 2500, 3000, 5000, 10_000), 10
    ),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel("Test error", "features", "test_error", "random features p", "test error, true labels", log="x"),
        Panel(
            "Squared norm of the output weights",
            "features",
            "squared_norm",
            "random features p",
            "‖w‖²",
            log="xy",
        ),
    ),
    follows=(Follow("test_error", "with the number of features"),),
)
