from __future__ import annotations

import pytest
import torch

from gapbench.datasets.spec import Split
from gapbench.measures.pac_bayes import (
    pacbayes_flatness,
    pacbayes_init,
    pacbayes_mag_flatness,
    pacbayes_mag_init,
    pacbayes_mag_orig,
    pacbayes_orig,
)
from gapbench.measures.perturbation import PerturbationScale

HALF = PerturbationScale(0.5, standard_error=0.01)
WEIGHTS = torch.tensor([3, 0, 0, 4, 1, 2, 2, -1], dtype=torch.float64)
INITIAL = torch.tensor([1, 0, 0, 1, 1, 0, 0, -1], dtype=torch.float64)
TRAIN = Split(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64), 2)


def test_values_on_the_hand_worked_network() -> None:
    assert pacbayes_init(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(34.68887945, abs=1e-8)
    assert pacbayes_orig(HALF, WEIGHTS, TRAIN).value == pytest.approx(48.68887945, abs=1e-8)
    assert pacbayes_flatness(HALF).value == pytest.approx(4, abs=1e-12)
    assert pacbayes_mag_flatness(HALF).value == pytest.approx(4, abs=1e-12)
    assert pacbayes_mag_init(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(29.6781061, abs=1e-7)
    assert pacbayes_mag_orig(HALF, WEIGHTS, INITIAL, TRAIN).value == pytest.approx(30.6997571, abs=1e-7)


def test_values_move_with_the_weights_and_with_the_start() -> None:
    assert pacbayes_init(HALF, WEIGHTS, WEIGHTS / 2, TRAIN).value != pytest.approx(34.68887945, abs=1e-3)
    assert pacbayes_mag_orig(HALF, WEIGHTS, WEIGHTS / 2, TRAIN).value != pytest.approx(30.6997571, abs=1e-3)


@pytest.mark.parametrize(
    "value",
    [
        lambda scale: pacbayes_init(scale, WEIGHTS, INITIAL, TRAIN),
        lambda scale: pacbayes_orig(scale, WEIGHTS, TRAIN),
        pacbayes_flatness,
        lambda scale: pacbayes_mag_init(scale, WEIGHTS, INITIAL, TRAIN),
        lambda scale: pacbayes_mag_orig(scale, WEIGHTS, INITIAL, TRAIN),
        pacbayes_mag_flatness,
    ],
)
def test_the_standard_error_is_the_slope_times_that_of_sigma(value) -> None:  # type: ignore[no-untyped-def]
    there, back = value(PerturbationScale(0.5 + 1e-6)), value(PerturbationScale(0.5 - 1e-6))
    slope = abs(there.value - back.value) / 2e-6
    assert value(HALF).standard_error == pytest.approx(slope * 0.01, rel=1e-5)
    assert value(PerturbationScale(0.5, standard_error=0.02)).standard_error == pytest.approx(slope * 0.02, rel=1e-5)


def test_a_search_that_hit_its_cap_is_passed_on() -> None:
    assert not pacbayes_flatness(PerturbationScale(10.0, converged=False)).converged
    assert pacbayes_flatness(HALF).converged
