"""The spectra of weight matrices against weightwatcher, an independent package."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.measures.layers import weight_layers
from gapbench.measures.quantities import singular_values
from gapbench.measures.spectrum import fit_power_law, weight_spectra

weightwatcher = pytest.importorskip("weightwatcher", reason="weightwatcher is not installed: pip install gapbench[dev]")

TIGHT = 1e-7
"""weightwatcher adds small constants inside its logarithms, and takes some of its weights in single precision."""


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    """Three linear layers, one with a heavy tail, one with spikes."""
    rng = generator(0, "weightwatcher")
    made = nn.Sequential(nn.Linear(200, 120), nn.ReLU(), nn.Linear(120, 100), nn.ReLU(), nn.Linear(100, 60)).double()
    with torch.no_grad():
        for module in made:
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.1, generator=rng)
        heavy, spiked = made[2], made[4]
        assert isinstance(heavy, nn.Linear)
        assert isinstance(spiked, nn.Linear)
        heavy.weight.copy_(heavy.weight.sign() * heavy.weight.abs().pow(3) * 100)
        left, right = (torch.randn(size, 2, dtype=torch.float64, generator=rng) for size in (60, 100))
        spiked.weight.add_(0.02 * left @ right.T)
    return made


@pytest.fixture(scope="module")
def details(network: nn.Sequential) -> object:
    """weightwatcher's table, a row a layer."""
    return weightwatcher.WeightWatcher(model=network).analyze(min_evals=16)


def test_every_layer_agrees(network: nn.Sequential, details: object) -> None:
    layers = weight_layers(network, network, torch.zeros(1, 200))
    spectra = weight_spectra(layers, singular_values(layers))
    assert len(spectra) == len(details) == 3  # type: ignore[arg-type]
    for place, spectrum in enumerate(spectra):
        row = details.iloc[place]  # type: ignore[attr-defined]
        values = spectrum.eigenvalues
        # weightwatcher's distance is that of the law without its end at the largest value.
        law = fit_power_law(values, truncated=False)
        assert law.alpha == pytest.approx(row["alpha"], rel=TIGHT)
        assert law.x_min == pytest.approx(row["xmin"], rel=TIGHT)
        assert law.distance == pytest.approx(row["D"], rel=TIGHT)
        assert law.tail == row["num_pl_spikes"]
        assert law.alpha * math.log10(values[-1]) == pytest.approx(row["alpha_weighted"], rel=TIGHT)
        total = float(torch.logsumexp(law.alpha * values.log(), dim=0)) / math.log(10)
        assert total == pytest.approx(row["log_alpha_norm"], rel=TIGHT)
        assert math.log10(values.sum()) == pytest.approx(row["log_norm"], rel=TIGHT)
        assert math.log10(values[-1]) == pytest.approx(row["log_spectral_norm"], rel=TIGHT)
        assert float(values.sum() / values[-1]) == pytest.approx(row["stable_rank"], rel=TIGHT)
        shares = values / values.sum()
        entropy = float(-(shares * shares.log()).sum()) / math.log(len(values))
        assert entropy == pytest.approx(row["entropy"], rel=TIGHT)


def test_another_matrix_disagrees(network: nn.Sequential, details: object) -> None:
    """The positive control: weights moved by a tenth of a percent are told apart."""
    layers = weight_layers(network, network, torch.zeros(1, 200))
    row = details.iloc[0]  # type: ignore[attr-defined]
    moved = torch.linalg.svdvals(layers[0].matrix * 1.001).square().flip(0)
    assert math.log10(moved.sum()) != pytest.approx(row["log_norm"], rel=1e-6)
