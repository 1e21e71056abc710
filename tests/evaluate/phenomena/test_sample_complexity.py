"""The pooling of patches, and the rate of its least squares."""

from __future__ import annotations

import numpy
import pytest

from gapbench.evaluate.phenomena.sample_complexity import pooling


def test_it_adds_up_the_patches() -> None:
    x = numpy.arange(10.0) ** 2
    patches = [x[start : start + 4] for start in range(0, 7, 3)]
    assert pooling(10, 4, 3).T @ x == pytest.approx(numpy.sum(patches, axis=0))
