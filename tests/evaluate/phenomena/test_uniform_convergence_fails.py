"""The linear problem, against examples drawn one by one."""

from __future__ import annotations

import dataclasses
import math

import numpy
import pytest

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.uniform_convergence_fails import (
    UNIFORM_CONVERGENCE_FAILS,
    linear,
    network,
)


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


def test_networks_are_trained_to_the_margin_of_the_settings() -> None:
    changes = {"data": "digits", "test_size": 100, "width": 64, "depth": 3, "learning_rate": 0.1, "batch_size": 10}
    settings = dataclasses.replace(UNIFORM_CONVERGENCE_FAILS.quick, **changes, margin=2.0)
    found = network(50, 0, settings, Bench("tests"))
    assert found["reached_margin"]
    cut = network(50, 0, dataclasses.replace(settings, epochs=found["epochs"] - 1), Bench("tests"))
    assert not cut["reached_margin"]
    further = network(50, 0, dataclasses.replace(settings, margin=4.0), Bench("tests"))
    assert further["epochs"] > found["epochs"]
