"""Effective ranks in closed form, and the rate of the theorem."""

from __future__ import annotations

import numpy
import pytest

from gapbench.evaluate.phenomena.benign_overfitting import effective_ranks, spectra, theory


def test_an_isotropic_spectrum_has_both_ranks_equal_to_its_dimension() -> None:
    assert effective_ranks(numpy.full(50, 3.0), 0) == pytest.approx((50, 50))
    assert effective_ranks(numpy.full(50, 3.0), 20) == pytest.approx((30, 30))


def test_a_geometric_spectrum_has_its_ranks_at_every_k() -> None:
    spectrum = 0.5 ** numpy.arange(60)
    assert effective_ranks(spectrum, 7) == pytest.approx((2, 3))


def test_the_rate_is_that_of_a_direct_search() -> None:
    n = 100
    for name, spectrum in spectra(n).items():
        found, rate = theory(spectrum, n)
        direct = next((k for k in range(n) if effective_ranks(spectrum, k)[0] >= n), None)
        if direct is None:
            assert found == n, name
            assert rate >= 1
        else:
            assert found == direct, name
            assert rate == pytest.approx(direct / n + n / effective_ranks(spectrum, direct)[1])


def test_spikes_are_skipped_and_the_length_of_the_tail_counts() -> None:
    n = 100
    short, long = (theory(spectra(n)[f"spikes and a tail of {factor} n"], n) for factor in (2, 100))
    assert short == pytest.approx((10, 0.1 + 1 / 2))
    assert long == pytest.approx((10, 0.1 + 1 / 100))
