"""The bundled zoos: how many runs each has, by stratum, and a tiny run of every kind of network in each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from gapbench.datasets.spec import Split
from gapbench.evaluate.execute import check_specs
from gapbench.evaluate.zoo import bundled, load_zoo
from gapbench.models.spec import RunSpec, run_id, twin
from gapbench.models.train import train

SHAPES = {"mnist": (1, 28, 28), "digits": (1, 8, 8), "gaussian_mixture": (10,)}
COUNTS = {
    "cifar10-cnn": 64, "digits-cnn": 192, "dziugaite": 16_000, "jiang": 4_374, "jiang-mini": 128, "quick": 192,
    "tangent": 144,
}  # fmt: skip


def sample(name: str) -> Split:
    shape = SHAPES.get(name, (3, 32, 32))
    return Split(torch.randn(6, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3, 10)


def kinds(specs: tuple[RunSpec, ...]) -> Iterator[RunSpec]:
    """One run of each kind of network and way to train it, on each data set."""
    seen = set()
    for spec in specs:
        kind = (spec.data.name, spec.architecture, spec.norm, spec.optimiser, spec.augmentation, spec.patience > 0)
        if kind not in seen:
            seen.add(kind)
            yield spec


@pytest.mark.parametrize("name", bundled())
def test_a_tiny_run_of_every_kind(name: str) -> None:
    zoo = load_zoo(name)
    check_specs(zoo.specs)
    runs = list(kinds(zoo.specs))
    assert len({spec.architecture for spec in runs}) == len({spec.architecture for spec in zoo.specs})
    for spec in runs:
        data = sample(spec.data.name)
        width = 16 if spec.architecture in ("vit", "mlp") else 4
        tiny = dataclasses.replace(spec, max_epochs=1, batch_size=3, width=min(spec.width, width))
        trained, outcome, _ = train(tiny, (data, data))
        assert outcome.steps == (2 if len(trained.train) == 6 else 1) or spec.patience, spec
        assert torch.isfinite(torch.tensor(outcome.train_loss_nats)), spec


@pytest.mark.parametrize("name", bundled())
def test_counts_and_twins(name: str) -> None:
    zoo = load_zoo(name)
    ids = {run_id(spec) for spec in zoo.specs}
    assert len(ids) == len(zoo.specs)
    if name in COUNTS:
        assert len(ids) == COUNTS[name]
    assert all(run_id(twin(spec)) in ids for spec in zoo.specs if spec.data.label_noise == 0.0)


def test_zhang_has_every_randomisation_of_every_network_and_every_regulariser() -> None:
    specs = load_zoo("zhang").specs
    networks = {(spec.architecture, spec.norm, spec.depth) for spec in specs}
    assert len(networks) == 5  # inception with and without batch norm, alexnet, mlp of one and three layers
    for network in networks:
        own = [spec for spec in specs if (spec.architecture, spec.norm, spec.depth) == network]
        assert {"natural", "shuffled_pixels", "random_pixels", "gaussian_pixels"} == {spec.data.pixels for spec in own}
        assert {0.0, 1.0} <= {spec.data.label_noise for spec in own}
    regularised = Counter(
        field for spec in specs for field in ("augmentation", "weight_decay", "dropout", "patience")
        if getattr(spec, field) not in ("none", 0)
    )  # fmt: skip
    assert all(regularised[field] >= 4 for field in ("augmentation", "weight_decay", "dropout", "patience"))
    assert {0.0, 0.2, 0.4, 0.6, 0.8, 1.0} == {spec.data.label_noise for spec in specs}
    assert len(specs) < 120


def test_pgdl_like_is_several_tasks_with_axes_of_their_own() -> None:
    specs = load_zoo("pgdl-like").specs
    tasks = Counter((spec.data.name, spec.architecture) for spec in specs)
    assert len(tasks) == 6
    assert all(number >= 32 for number in tasks.values())
