from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.consistency import spectral_bias
from gapbench.measures.interpolations import LINES, POINTS, cosines, line_energies
from gapbench.measures.registry import Undefined


class Wave(nn.Module):
    """The logits cos(πkx), −cos(πkx), plus a ramp on both that no prediction depends on."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, inputs: Tensor) -> Tensor:
        wave = (math.pi * self.frequency * inputs).cos()
        return torch.cat([wave, -wave], dim=1) + 5 * inputs


ENDS = Split(torch.tensor([[0.0], [1.0]]), torch.tensor([1, 1]), 2)
PLACES = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS


def test_the_transform_is_scipys() -> None:
    values = torch.randn(POINTS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = dct(values.numpy(), type=2, norm="ortho", axis=0)[1:]
    np.testing.assert_allclose((cosines(PLACES) @ values).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("frequency", [1, 4, 5, 9])
def test_a_wave_has_its_own_frequency_only(frequency: int) -> None:
    energies = line_energies(Wave(frequency), ENDS, torch.Generator())
    assert energies.shape == (2, POINTS - 1)
    assert energies.argmax(dim=1).tolist() == [frequency - 1] * 2
    assert energies.sum(dim=1).tolist() == pytest.approx([POINTS] * 2, rel=1e-5)  # 2 · P/2, without the ramp
    found = spectral_bias(energies)
    assert found.value == pytest.approx(float(frequency <= 4), abs=1e-6)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_a_linear_function_has_nearly_no_high_frequency() -> None:
    """The energies of a ramp fall as k⁻⁴ over odd k; a jump back at the end, as in a plain transform, as k⁻²."""
    network = nn.Linear(1, 2)
    found = spectral_bias(line_energies(network, ENDS, torch.Generator()))
    ramp = dct(PLACES.numpy(), type=2, norm="ortho")[1:] ** 2
    assert found.value == pytest.approx(ramp[:4].sum() / ramp.sum(), rel=1e-5)
    assert found.value == pytest.approx(0.998, abs=5e-4)
    plain = np.abs(np.fft.rfft(PLACES.numpy()))[1:] ** 2
    assert plain[:2].sum() / plain.sum() < 0.95


def test_the_ratio_of_means_and_its_standard_error() -> None:
    """Energies (1, 0) and (1, 2) with the cutoff 1: 2 of 4; residuals .5 and −.5, √.5/4."""
    found = spectral_bias(torch.tensor([[1.0, 0.0], [1.0, 2.0]], dtype=torch.float64), cutoff=1)
    assert (found.value, found.standard_error) == pytest.approx((0.5, math.sqrt(0.5) / 4), rel=1e-12)


def test_re_runs_spread_as_the_standard_error_says() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 3))
    train = Split(3 * torch.randn(200, 4), torch.arange(200) % 3, 3)
    drawn = [spectral_bias(line_energies(network, train, torch.Generator().manual_seed(s))) for s in range(20)]
    spread = float(torch.tensor([one.value for one in drawn], dtype=torch.float64).std())
    error = sum(one.standard_error for one in drawn) / 20
    assert error / 2 < spread < 2 * error
    assert line_energies(network, train, torch.Generator()).shape == (LINES, POINTS - 1)


def test_what_does_not_vary_is_undefined() -> None:
    constant = nn.Linear(1, 2)
    constant.weight.data.zero_()
    with pytest.raises(Undefined, match="do not vary"):
        spectral_bias(line_energies(constant, ENDS, torch.Generator()))
    with pytest.raises(Undefined, match="share a label"):
        line_energies(Wave(1), Split(ENDS.inputs, torch.tensor([0, 1]), 2), torch.Generator())
