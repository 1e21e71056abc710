"""Interpolating noise smoothly takes many more parameters than interpolating it.

Paper: Bubeck & Sellke 2021 (arXiv:2105.12806), theorem 1; Bubeck, Li & Nagaraj 2021 (arXiv:2009.14444).

Claim: any function of a class with p parameters that fits n noisy labels in d dimensions below the noise level has a
Lipschitz constant of at least about √(n d / p), so what interpolates smoothly must be over-parametrised d-fold.

Rule: over networks that interpolate random labels on the sphere (margin y f(x) at least 1 on every example), the
exponent of the largest gradient norm in the number of parameters p has an interval over seeds below 0, and every one is
above 0.1 √(n d / p): a law that is a lower bound cannot ask for more. Added after a look, since what hardly falls does
not fall as the law: the interval of the exponent lies within [−0.75, −0.25].

Tried: at quick settings the exponent is −0.05, hardly below 0, and that by the narrowest networks alone: beyond a
thousand parameters the slope of what Adam finds is level. The law bounds the smoothest interpolant, and training does
not look for that one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas
import torch
from torch import Tensor, nn

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.intervals import mean_interval, share_interval, slope_interval
from gapbench.evaluate.phenomena.phenomenon import Beside, Cell, Panel, Phenomenon, Row
from gapbench.evaluate.phenomena.verdict import Verdict, at_least, below, shown, verdict, within

CONSTANT = 0.1


@dataclass(frozen=True)
class Settings:
    """Examples, dimensions, hidden units, steps at most, seeds."""

    n: int
    d: int
    widths: tuple[int, ...]
    steps: int
    seeds: int


def cells(settings: Settings) -> list[Cell]:
    """A cell a width and seed."""
    return [
        Cell({"width": width, "seed": seed}, work=20.0 + width)
        for width in settings.widths
        for seed in range(settings.seeds)
    ]


def run(cell: Cell, settings: Settings, bench: Bench) -> Iterator[Row]:
    """Fit random signs on the sphere by a two-layer ReLU network and a squared hinge of margin 1; look at its slope.

    The slope is the largest gradient norm over the examples, points on segments between them, and fresh points of the
    sphere: a lower estimate of the Lipschitz constant.
    """
    n, d, width, seed = settings.n, settings.d, cell.where["width"], cell.where["seed"]
    stream = bench.generator("data", seed)
    x = nn.functional.normalize(torch.randn(n, d, generator=stream), dim=1)
    y = torch.randint(0, 2, (n,), generator=stream).float() * 2 - 1
    start = bench.generator("network", width, seed)
    first = (torch.randn(width, d, generator=start)).requires_grad_(True)
    bias = torch.zeros(width, requires_grad=True)
    last = (torch.randn(width, generator=start) / math.sqrt(width)).requires_grad_(True)

    def network(points: Tensor) -> Tensor:
        return torch.relu(points @ first.T + bias) @ last

    optimiser = torch.optim.Adam([first, bias, last], lr=0.01)
    margin = -math.inf
    for _ in range(settings.steps):
        outputs = y * network(x)
        margin = float(outputs.detach().min())
        if margin >= 1:
            break
        optimiser.zero_grad()
        # The hinge asks for a little more than 1, so that 1 is reached in finitely many steps.
        (1.05 - outputs).clamp_min(0).square().mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    pairs = torch.randint(0, n, (2, 4 * n), generator=stream)
    between = torch.rand(4 * n, 1, generator=stream)
    segments = between * x[pairs[0]] + (1 - between) * x[pairs[1]]
    fresh = nn.functional.normalize(torch.randn(4 * n, d, generator=stream), dim=1)
    points = torch.cat([x, segments, fresh]).requires_grad_(True)
    (slopes,) = torch.autograd.grad(network(points).sum(), points)
    parameters = width * (d + 2)
    yield {
        "parameters": parameters,
        "interpolates": margin >= 1,
        "lipschitz": float(slopes.norm(dim=1).max()),
        "law": math.sqrt(n * d / parameters),
    }


def judge(table: pandas.DataFrame) -> Verdict:
    """The rule of the module's docstring."""
    fitted = table[table["interpolates"].astype(bool)]
    enough = fitted["lipschitz"] >= CONSTANT * fitted["law"]
    exponent = slope_interval(fitted, "parameters", "lipschitz")
    return verdict(
        [
            below("smoothness", "exponent of the slope in p", exponent, 0),
            within("falls as the law", "exponent of the slope in p", exponent, -0.75, -0.25),
            at_least(
                "lower bound",
                f"interpolants with a slope of at least {CONSTANT:g} √(nd/p)",
                share_interval(int(enough.sum()), len(enough)),
                1.0,
            ),
        ]
    )


def beside(table: pandas.DataFrame) -> Sequence[Beside]:
    """The exponent, and the constant of the law."""
    fitted = table[table["interpolates"].astype(bool)]
    exponent = shown(slope_interval(fitted, "parameters", "lipschitz"))
    smallest = (fitted["lipschitz"] / fitted["law"]).groupby(fitted["seed"]).min()
    return [
        Beside("exponent of the slope in p", "−1/2 (for the best interpolants)", "theorem 1", exponent),
        Beside("least slope over √(nd/p)", "at least a constant", "theorem 1", shown(mean_interval(smallest))),
    ]


ROBUSTNESS_LAW = Phenomenon(
    name="robustness_law",
    source="bubecksellke2021, theorem 1",
    quick=Settings(60, 20, (16, 32, 64, 128, 256, 512), 3000, 5),
    full=Settings(1000, 50, (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384), 50_000, 10),
    cells=cells,
    run=run,
    judge=judge,
    beside=beside,
    panels=(
        Panel(
            "Largest slope of interpolants of noise; dashed: √(nd/p)",
            "parameters",
            "lipschitz",
            "parameters p",
            "largest gradient norm",
            where={"interpolates": True},
            log="xy",
            reference="law",
        ),
    ),
)
