"""The linear problem, against examples drawn one by one."""

from __future__ import annotations

import dataclasses
import math

import numpy
import pytest
import torch
from torch import nn

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.uniform_convergence_fails import (
    SHARE,
    UNIFORM_CONVERGENCE_FAILS,
    fit,
    linear,
    share_at_margin,
)
from gapbench.models.spec import RunSpec


def test_the_test_error_is_that_of_fresh_examples() -> None:
    n, d, rng = 20, 60, numpy.random.default_rng(0)
    labels = rng.choice([-1.0, 1.0], size=n)
    u = numpy.zeros(3)
    u[0] = 1 / math.sqrt(n)
    x = numpy.concatenate([2 * labels[:, None] * u, math.sqrt(32 / d) * rng.standard_normal((n, d))], axis=1)
    w = (labels[:, None] * x).sum(axis=0)
    assert numpy.allclose(w[:3], 2 * n * u)
    fresh_labels = rng.choice([-1.0, 1.0], size=200_000)
    noise = math.sqrt(32 / d) * rng.standard_normal((200_000, d))
    errors = (fresh_labels * (2 * fresh_labels * (u @ w[:3]) + noise @ w[3:]) <= 0).mean()
    deviation = math.sqrt(32 / d) * numpy.linalg.norm(w[3:])
    assert errors == pytest.approx(0.5 * math.erfc(4 / deviation / math.sqrt(2)), abs=0.005)


def test_with_many_dimensions_an_example_it_generalises_and_fails_on_the_mirrored_sample() -> None:
    found = linear(32, 0, UNIFORM_CONVERGENCE_FAILS.quick, Bench("tests"))
    assert found["train_error"] == 0
    assert found["test_error"] < 0.05
    assert found["mirrored_error"] == 1


def test_the_share_at_the_margin_counts_examples_whose_label_leads_by_10() -> None:
    train = load(DataSpec("digits", 40))[0]

    class Leads(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            lead = torch.where(torch.arange(len(inputs)) < 30, 11.0, 9.0)
            return nn.functional.one_hot(train.labels, 10) * lead[:, None]

    assert share_at_margin(Leads(), train, 10.0) == 0.75


def test_training_stops_at_the_margin_and_not_before() -> None:
    spec = RunSpec(DataSpec("digits", 50), "mlp", 64, 3, 0.3, 10, momentum=0.0, max_epochs=2000)
    train = load(spec.data)[0]

    def fitted(epochs: int) -> tuple[float, int]:
        start, order = (torch.Generator().manual_seed(number) for number in (0, 1))
        trained, found = fit(dataclasses.replace(spec, max_epochs=epochs), train, 3.0, start, order)
        return share_at_margin(trained.network, train, 3.0), found

    share, epochs = fitted(spec.max_epochs)
    assert share >= SHARE
    assert 1 < epochs < spec.max_epochs
    assert fitted(epochs - 1)[0] < SHARE
