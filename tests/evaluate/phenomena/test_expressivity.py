"""The construction of Theorem 1."""

from __future__ import annotations

import numpy
import pytest

from gapbench.evaluate.phenomena.expressivity import interpolant

RNG = numpy.random.default_rng(0)
X, Y = RNG.standard_normal((60, 4)), RNG.integers(10, size=60).astype(float)
A = RNG.standard_normal(4)


def test_it_fits_any_labels_with_2n_plus_d_weights() -> None:
    network = interpolant(X, Y, A)
    assert network.weights == 2 * 60 + 4
    assert numpy.abs(network(X) - Y).max() < 1e-9


def test_one_hidden_unit_fewer_cannot_fit() -> None:
    """The positive control: 59 units on 60 points make a matrix of rank 59, whose span holds no random labels."""
    network = interpolant(X, Y, A)
    hidden = numpy.maximum((X @ A)[:, None] - network.b[1:], 0.0)
    weights = numpy.linalg.lstsq(hidden, Y)[0]
    assert numpy.abs(hidden @ weights - Y).max() > 0.1


def test_equal_projections_are_refused() -> None:
    with pytest.raises(ValueError, match="same projection"):
        interpolant(numpy.ones((2, 3)), numpy.zeros(2), numpy.ones(3))
