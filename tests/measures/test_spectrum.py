"""Spectra: power-law fits against hand values, published fits and a loop; random-matrix bulks; ranks."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gapbench.measures import quantities, spectrum
from gapbench.measures.layers import Layer, weight_layers
from gapbench.measures.registry import Undefined
from gapbench.measures.spectrum import PowerLaw, Spectrum

TAIL = torch.exp(torch.arange(4, dtype=torch.float64))

PUBLISHED = {"good": (1.76, 0.05), "mediocre": (3.46, 0.07), "bad": (4.84, 0.11)}
UNTRUNCATED = {"good": (1.7676, 0.0423), "mediocre": (3.4741, 0.0544), "bad": (4.8368, 0.0846)}
"""Positive control: without the truncation at the largest value the fits differ."""

RECOMPUTED = {
    "good": (1.756335087, 0.052757999, 1.8323700016882793, 391),
    "mediocre": (3.462142292, 0.067208729, 21.30252019600242, 25),
    "bad": (4.83681138, 0.11214169, 15.069016524776359, 25),
}


def loop_fit(values: Tensor, *, truncated: bool) -> tuple[float, float]:
    ascending = sorted(values.tolist())
    best = (math.inf, math.nan)
    for start in ascending[:-1]:
        tail = [value for value in ascending if value >= start]
        alpha = 1 + len(tail) / sum(math.log(value / start) for value in tail)
        end = 1 - (tail[-1] / start) ** (1 - alpha) if truncated else 1.0
        fitted = [(1 - (value / start) ** (1 - alpha)) / end for value in tail]
        distance = max(abs(f - i / len(tail)) for i, f in enumerate(fitted))
        best = min(best, (distance, alpha))
    return best[1], best[0]


def layers_of(*matrices: Tensor) -> tuple[Layer, ...]:
    modules = []
    for matrix in matrices:
        module = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
        module.weight.data = matrix
        modules.append(module)
    network = nn.Sequential(*modules)
    return weight_layers(network, network, torch.ones(1, matrices[0].shape[1]))


def spectra_of(*matrices: Tensor) -> tuple[Spectrum, ...]:
    layers = layers_of(*matrices)
    return spectrum.weight_spectra(layers, quantities.singular_values(layers))


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_tail_by_hand() -> None:
    law = spectrum.fit_power_law(TAIL, truncated=False)
    assert law.alpha == pytest.approx(5 / 3, rel=1e-9)
    assert law.distance == pytest.approx(0.236582881, rel=1e-8)
    assert (law.x_min, law.tail) == (1.0, 4)
    truncated = spectrum.fit_power_law(TAIL)
    assert truncated.alpha == pytest.approx(5 / 3, rel=1e-9)
    assert truncated.distance != pytest.approx(0.236582881, rel=1e-3)
    layer = (Spectrum(TAIL, 4, 4),)
    assert spectrum.alpha((law,), layer) == pytest.approx(1.666666667, rel=1e-9)
    assert spectrum.alpha_weighted((law,), layer) == pytest.approx(2.17147241, rel=1e-8)
    assert spectrum.log_alpha_norm((law,), layer) == pytest.approx(2.261831895, rel=1e-9)
    assert spectrum.log_spectral_norm(layer) == pytest.approx(3 / math.log(10), rel=1e-12)
    assert spectrum.log_norm(layer) == pytest.approx(math.log10(sum(math.exp(k) for k in range(4))), rel=1e-12)


@pytest.mark.parametrize("truncated", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_fit_against_a_loop(seed: int, truncated: bool) -> None:
    values = torch.exp(normal(80, 1, seed).flatten() * 2)
    law = spectrum.fit_power_law(values, truncated=truncated)
    assert (law.alpha, law.distance) == pytest.approx(loop_fit(values, truncated=truncated), rel=1e-9)


def test_fit_recovers_the_exponent_of_a_power_law() -> None:
    uniform = torch.rand(20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[:2000]
    law = spectrum.fit_power_law((1 - uniform) ** (-1 / 1.5), truncated=False)  # p(x) ∝ x^−2.5, x >= 1
    assert law.alpha == pytest.approx(2.5, abs=4 * 1.5 / math.sqrt(law.tail))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_fits(name: str, data_dir: Path) -> None:
    file = data_dir / "published" / "nlp_esd" / "esd_eigenvalues.csv"
    if not file.is_file():
        pytest.skip(f"no published spectra: {file} is missing")
    with file.open() as lines:
        values = torch.tensor([float(row[name]) for row in csv.DictReader(lines)], dtype=torch.float64)
    values = values[values > spectrum.SMALLEST_EIGENVALUE]
    law = spectrum.fit_power_law(values)
    alpha, distance, x_min, tail = RECOMPUTED[name]
    assert (law.alpha, law.distance, law.x_min) == pytest.approx((alpha, distance, x_min), rel=1e-7)
    assert law.tail == tail
    assert (round(law.alpha, 2), round(law.distance, 2)) == PUBLISHED[name]
    untruncated = spectrum.fit_power_law(values, truncated=False)
    assert (untruncated.alpha, untruncated.distance) == pytest.approx(UNTRUNCATED[name], abs=5e-5)


def test_agrees_with_powerlaw_at_its_own_x_min() -> None:
    """powerlaw 2 chooses among other candidates; at one x_min its exponent is ours to 1e-6."""
    powerlaw = pytest.importorskip("powerlaw")
    values = torch.exp(normal(300, 1, 4).flatten())
    law = spectrum.fit_power_law(values, truncated=False)
    theirs = powerlaw.Fit(values.numpy(), xmin=law.x_min, verbose=False)
    assert theirs.power_law.alpha == pytest.approx(law.alpha, rel=1e-6)


def test_ties_and_constant_values() -> None:
    repeated = torch.tensor([1.0, 1.0, 2.0, 2.0, 4.0], dtype=torch.float64)
    law = spectrum.fit_power_law(repeated, truncated=False)
    assert (law.alpha, law.distance) == pytest.approx(loop_fit(repeated, truncated=False), rel=1e-12)
    with pytest.raises(Undefined, match="two distinct"):
        spectrum.fit_power_law(torch.ones(30, dtype=torch.float64))


def test_small_layers_are_left_out_and_never_counted_as_minus_one() -> None:
    big, small = normal(40, 30), normal(5, 40, 1)
    both, alone = spectra_of(big, small), spectra_of(big)
    assert len(both) == len(alone) == 1
    exponents = [spectrum.alpha(spectrum.power_laws(spectra), spectra) for spectra in (both, alone)]
    assert exponents[0] == exponents[1] > 1
    with pytest.raises(Undefined, match="most values: 5"):
        spectra_of(small)


def test_means_over_layers() -> None:
    first, second = normal(40, 30), 3 * normal(30, 40, 1)
    together = spectra_of(first, second)
    for name in ("log_norm", "log_spectral_norm", "stable_rank", "effective_rank", "matrix_entropy"):
        function = getattr(spectrum, name)
        expected = (function(spectra_of(first)) + function(spectra_of(second))) / 2
        assert function(together) == pytest.approx(expected, rel=1e-12), name
    laws = (PowerLaw(2, 1, 0.1, 4), PowerLaw(4, 1, 0.1, 4))
    assert spectrum.alpha(laws, together) == 3


def test_terms_belong_to_the_layers_that_are_large_enough() -> None:
    spectra = spectra_of(normal(40, 30), normal(5, 40, 1), normal(20, 5, 2), 3 * normal(30, 20, 4))
    assert [one.layer for one in spectra] == [0, 3]
    total = spectrum.log_alpha_norm(spectrum.power_laws(spectra), spectra)
    assert total.layers == (0, 3)
    assert total == pytest.approx(sum(total.terms) / 2, rel=1e-12)
    assert total.terms[0] == spectrum.log_alpha_norm(spectrum.power_laws(spectra)[:1], spectra[:1])


def test_ranks_of_an_orthogonal_matrix() -> None:
    orthogonal = torch.linalg.qr(normal(20, 20)).Q
    layer = spectra_of(2 * orthogonal)
    assert spectrum.stable_rank(layer) == pytest.approx(20)
    assert spectrum.effective_rank(layer) == pytest.approx(20)
    assert spectrum.matrix_entropy(layer) == pytest.approx(1)
    assert spectrum.log_spectral_norm(layer) == pytest.approx(math.log10(4))
    spiked = spectra_of(torch.diag(torch.tensor([10.0] + [0.1] * 19, dtype=torch.float64)))
    assert spectrum.stable_rank(spiked) == pytest.approx(1 + 19e-4)
    assert spectrum.matrix_entropy(spiked) < 0.02


def test_bulk_edge_of_a_random_matrix() -> None:
    """λ₊ of a 400 x 100 matrix of unit variance is 400·(1 + 1/2)² = 900; finite size blurs it by about 100^(−2/3)."""
    noise = spectra_of(normal(400, 100))
    (edge,) = spectrum.bulk_edges(noise)
    assert edge == pytest.approx(900, rel=0.03)
    assert spectrum.mp_soft_rank(noise, (edge,)) == pytest.approx(1, abs=0.05)
    assert spectrum.num_spikes(noise, (edge,)) <= 2


def test_planted_spikes_are_counted() -> None:
    noise = normal(400, 100)
    u, v = torch.linalg.qr(normal(400, 3, 5)).Q, torch.linalg.qr(normal(100, 3, 6)).Q
    planted = spectra_of(noise + 100 * u @ v.T)
    edges = spectrum.bulk_edges(planted)
    assert edges[0] == pytest.approx(900, rel=0.03)  # without leaving the spikes out it would be some 40 % too high
    assert 3 <= spectrum.num_spikes(planted, edges) <= 5
    assert spectrum.mp_soft_rank(planted, edges) < 0.1


def test_zero_eigenvalues_belong_to_the_bulk() -> None:
    edges = spectrum.bulk_edges((Spectrum(torch.ones(16, dtype=torch.float64), 32, 32),))
    assert edges[0] == pytest.approx(16 / 32 * 4)
