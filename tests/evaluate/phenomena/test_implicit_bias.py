"""The maximum margin direction against a search, and the least nuclear norm against a matrix where it is known."""

from __future__ import annotations

import numpy
import pytest

from gapbench.evaluate.phenomena.implicit_bias import angle, least_nuclear_norm, max_margin


def test_the_maximum_margin_is_that_of_a_search_over_directions() -> None:
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    signs = numpy.sign(x @ numpy.array([1.0, 0.5]))
    signed = x * signs[:, None]
    turns = numpy.linspace(0, 2 * numpy.pi, 100_001)
    circle = numpy.stack([numpy.cos(turns), numpy.sin(turns)], axis=1)
    best = circle[(circle @ signed.T).min(axis=1).argmax()]
    assert angle(max_margin(x, signs), best) < 0.05
    # Positive control: the mean of the classes is another direction.
    assert angle(signed.mean(axis=0), best) > 1


def test_angles_are_in_degrees() -> None:
    assert angle(numpy.array([1.0, 0.0]), numpy.array([1.0, 1.0])) == pytest.approx(45)


def test_a_matrix_of_rank_one_is_completed() -> None:
    """[[1, 1], [1, ?]]: the nuclear norm is least at 1, where the rank is one."""
    truth = numpy.ones((2, 2))
    seen = numpy.array([[True, True], [True, False]])
    found = least_nuclear_norm(truth, seen)
    assert found[1, 1] == pytest.approx(1, abs=1e-4)
    values = numpy.linspace(-1, 3, 401)
    norms = [numpy.linalg.norm(numpy.array([[1, 1], [1, value]]), "nuc") for value in values]
    assert values[int(numpy.argmin(norms))] == pytest.approx(1, abs=0.02)
