"""Eigenvalue spectra of the weight matrices: power-law tails, random-matrix bulks, ranks and entropies.

Of each layer: the eigenvalues of WᵀW (not divided by its size), convolutions reshaped to out x in·kh·kw. A layer with
fewer than `MIN_EIGENVALUES` of them is left out, and a measure is the plain mean over the layers that remain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.measures.layers import Layer
from gapbench.measures.registry import LayerSum, Undefined, measure, quantity

MIN_EIGENVALUES = 16
"""Below this, the exponent of a fitted tail is noise."""

SMALLEST_EIGENVALUE = 1e-5
"""Eigenvalues up to this are taken for zero, as in the published fits."""


@dataclass(frozen=True)
class Spectrum:
    """The positive eigenvalues of WᵀW of one layer, ascending, the sides of W, and the layer's place in the network."""

    eigenvalues: Float[Tensor, " rank"]
    longer_side: int
    shorter_side: int
    layer: int = 0


@dataclass(frozen=True)
class PowerLaw:
    """A fitted tail p(x) ∝ x^−alpha, x >= x_min, with its Kolmogorov–Smirnov distance and number of values."""

    alpha: float
    x_min: float
    distance: float
    tail: int


def fit_power_law(values: Float[Tensor, " n"], *, truncated: bool = True) -> PowerLaw:
    """The power law fitted to the tail of these values by maximum likelihood, at the x_min of least KS distance.

    Formula: for each value x_min but the largest, α = 1 + n/Σ ln(x_i/x_min) over the n values >= x_min, and
    D = max_i |F(x_i) − i/n|, i = 0..n−1, with F(x) = 1 − (x/x_min)^{1−α}, divided by F(x_max) where ``truncated``
    (α itself is not corrected for x_max): clauset2009 as powerlaw 1.5 computes it with xmax, in the fits of yang2023.
    Ties of D: the smallest x_min.
    Raises: Undefined where fewer than two distinct positive values are given.
    """
    ascending = values[values > 0].sort().values
    starts = torch.unique(ascending)[:-1]
    if len(starts) == 0:
        raise Undefined(f"a power law needs two distinct positive values, not {len(ascending)} equal ones")
    first = torch.searchsorted(ascending, starts)
    tails = (len(ascending) - first).double()
    ratio = (ascending.log().unsqueeze(0) - starts.log().unsqueeze(1)).clamp(min=0)
    exponents = tails / ratio.sum(dim=1)
    fitted = -torch.expm1(-exponents.unsqueeze(1) * ratio)
    if truncated:
        fitted = fitted / fitted[:, -1:]
    rank = torch.arange(len(ascending)).unsqueeze(0) - first.unsqueeze(1)
    errors = (fitted - rank / tails.unsqueeze(1)).abs()
    distances = errors.masked_fill(rank < 0, -1).max(dim=1).values
    best = int(distances.argmin())
    return PowerLaw(float(1 + exponents[best]), float(starts[best]), float(distances[best]), int(tails[best]))


@quantity
def weight_spectra(layers: tuple[Layer, ...], singular_values: list[Tensor]) -> tuple[Spectrum, ...]:
    """The spectra of the layers with at least `MIN_EIGENVALUES` eigenvalues.

    Raises: Undefined where no layer has so many.
    """
    found = []
    for place, (layer, values) in enumerate(zip(layers, singular_values, strict=True)):
        eigenvalues = values.square().flip(0)
        eigenvalues = eigenvalues[eigenvalues > SMALLEST_EIGENVALUE]
        if len(eigenvalues) >= MIN_EIGENVALUES:
            found.append(Spectrum(eigenvalues, max(layer.matrix_shape), min(layer.matrix_shape), place))
    if not found:
        most = max(len(values) for values in singular_values)
        raise Undefined(
            f"no layer has {MIN_EIGENVALUES} eigenvalues above {SMALLEST_EIGENVALUE:g} (most values: {most})"
        )
    return tuple(found)


@quantity
def power_laws(weight_spectra: tuple[Spectrum, ...]) -> tuple[PowerLaw, ...]:
    """The power law of each spectrum, truncated at its largest eigenvalue (see `fit_power_law`)."""
    return tuple(fit_power_law(spectrum.eigenvalues) for spectrum in weight_spectra)


@quantity
def bulk_edges(weight_spectra: tuple[Spectrum, ...]) -> tuple[float, ...]:
    """λ₊ of each spectrum: the upper edge of the Marchenko–Pastur bulk, its variance taken from the bulk itself.

    Formula: λ₊ = N σ²(1 + √(M/N))², M <= N the sides of W, N σ² the mean of the eigenvalues <= λ₊: the fixed point
    reached from that of all eigenvalues (zeros included) by leaving out those above the edge.
    """
    edges = []
    for spectrum in weight_spectra:
        stretch = (1 + math.sqrt(spectrum.shorter_side / spectrum.longer_side)) ** 2
        zeros = spectrum.shorter_side - len(spectrum.eigenvalues)
        inside = len(spectrum.eigenvalues)
        while True:
            bulk = spectrum.eigenvalues[:inside]
            edge = float(bulk.sum()) / (inside + zeros) * stretch
            remaining = int((bulk <= edge).sum())
            if remaining == inside:
                break
            inside = remaining
        edges.append(edge)
    return tuple(edges)


def _mean(values: list[float], spectra: tuple[Spectrum, ...]) -> LayerSum:
    return LayerSum(float(numpy.mean(values)), values, [spectrum.layer for spectrum in spectra])


@measure(source="martin2021", sign=+1, invariances=("unit_permutation", "example_permutation"))
def alpha(power_laws: tuple[PowerLaw, ...], weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean power-law exponent of the layers' spectra.

    Formula: α as in `fit_power_law`. Raises: Undefined where every layer has too few eigenvalues.
    Sign: heavier tails (smaller α) are those of stronger correlations learnt from the data.
    """
    return _mean([law.alpha for law in power_laws], weight_spectra)


@measure(source="martin2021, weighted alpha", sign=+1, invariances=("unit_permutation", "example_permutation"))
def alpha_weighted(power_laws: tuple[PowerLaw, ...], weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean power-law exponent weighted by the log of the largest eigenvalue.

    Formula: mean over layers of α·log10 λ_max. Raises: Undefined as `alpha`.
    Sign: it approximates the log of a capacity-like norm, and rewards heavy tails.
    """
    pairs = zip(power_laws, weight_spectra, strict=True)
    return _mean([law.alpha * math.log10(spectrum.eigenvalues[-1]) for law, spectrum in pairs], weight_spectra)


@measure(source="martin2021, log α-norm", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_alpha_norm(power_laws: tuple[PowerLaw, ...], weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean log of the layers' Schatten norms of the exponent of their own tail.

    Formula: mean over layers of log10 Σ_k λ_k^α. Raises: Undefined as `alpha`.
    Sign: a larger norm is a larger capacity.
    """
    pairs = zip(power_laws, weight_spectra, strict=True)
    logs = [float(torch.logsumexp(law.alpha * spectrum.eigenvalues.log(), dim=0)) for law, spectrum in pairs]
    mean = _mean(logs, weight_spectra)
    return LayerSum(mean / math.log(10), [term / math.log(10) for term in mean.terms], mean.layers)


@measure(source="martin2021", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_spectral_norm(weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean log of the layers' largest eigenvalues.

    Formula: mean over layers of log10 λ_max. Raises: Undefined as `alpha`. Sign: a larger norm is a larger capacity.
    """
    return _mean([math.log10(spectrum.eigenvalues[-1]) for spectrum in weight_spectra], weight_spectra)


@measure(source="martin2021", sign=+1, invariances=("unit_permutation", "example_permutation"))
def log_norm(weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean log of the layers' squared Frobenius norms.

    Formula: mean over layers of log10 Σ_k λ_k. Raises: Undefined as `alpha`. Sign: a larger norm is a larger capacity.
    """
    return _mean([math.log10(spectrum.eigenvalues.sum()) for spectrum in weight_spectra], weight_spectra)


@measure(source="martin2021implicit", sign=+1, invariances=("unit_permutation", "example_permutation"))
def stable_rank(weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean stable rank of the layers' matrices.

    Formula: mean over layers of Σ_k λ_k/λ_max. Raises: Undefined as `alpha`.
    Sign: a layer of few directions is a simpler map.
    """
    spectra = [spectrum.eigenvalues for spectrum in weight_spectra]
    return _mean([float(eigenvalues.sum() / eigenvalues[-1]) for eigenvalues in spectra], weight_spectra)


@measure(source="roy2007", sign=+1, invariances=("unit_permutation", "example_permutation"))
def effective_rank(weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean effective rank of the layers' matrices.

    Formula: mean over layers of exp(−Σ_k p_k ln p_k), p_k = s_k/Σ_j s_j of the singular values s_k = √λ_k.
    Raises: Undefined as `alpha`. Sign: a layer of few directions is a simpler map.
    """
    return _mean([math.exp(_entropy(spectrum.eigenvalues.sqrt())) for spectrum in weight_spectra], weight_spectra)


@measure(source="martin2021implicit", sign=+1, invariances=("unit_permutation", "example_permutation"))
def matrix_entropy(weight_spectra: tuple[Spectrum, ...]) -> LayerSum:
    """The mean normalised entropy of the layers' spectra, between 0 and 1.

    Formula: mean over layers of −Σ_k p_k ln p_k / ln R, p_k = λ_k/Σ_j λ_j, R the number of eigenvalues.
    Raises: Undefined as `alpha`. Sign: order in the weights (low entropy) is what training has put there.
    """
    spectra = [spectrum.eigenvalues for spectrum in weight_spectra]
    return _mean([_entropy(eigenvalues) / math.log(len(eigenvalues)) for eigenvalues in spectra], weight_spectra)


def _entropy(weights: Tensor) -> float:
    shares = weights / weights.sum()
    return float(-(shares * shares.log()).sum())


@measure(source="martin2021implicit", sign=+1, invariances=("unit_permutation", "example_permutation"))
def mp_soft_rank(weight_spectra: tuple[Spectrum, ...], bulk_edges: tuple[float, ...]) -> LayerSum:
    """The mean ratio of the edge of the Marchenko–Pastur bulk to the largest eigenvalue.

    Formula: mean over layers of λ₊/λ_max, λ₊ as in `bulk_edges`. Raises: Undefined as `alpha`.
    Sign: near 1 a layer is still a random matrix; signal learnt from the data lowers it.
    """
    pairs = zip(bulk_edges, weight_spectra, strict=True)
    return _mean([edge / float(spectrum.eigenvalues[-1]) for edge, spectrum in pairs], weight_spectra)


@measure(source="martin2021implicit", sign=-1, invariances=("unit_permutation", "example_permutation"))
def num_spikes(weight_spectra: tuple[Spectrum, ...], bulk_edges: tuple[float, ...]) -> LayerSum:
    """The mean number of eigenvalues above the edge of the Marchenko–Pastur bulk.

    Formula: mean over layers of #{k: λ_k > λ₊}, λ₊ as in `bulk_edges`. Raises: Undefined as `alpha`.
    Sign: spikes are signal learnt from the data.
    """
    pairs = zip(bulk_edges, weight_spectra, strict=True)
    return _mean([float((spectrum.eigenvalues > edge).sum()) for edge, spectrum in pairs], weight_spectra)
