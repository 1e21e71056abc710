"""The Hessian of the mean training loss: its products, its largest eigenvalues, its density, its trace."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, one_hot, softmax

from gapbench.measures.functional import AtParameters, functional_logits
from gapbench.measures.lanczos import Lanczos, Ritz
from gapbench.measures.layers import trace as calls_of
from gapbench.measures.per_example import squared_gradient_norms
from gapbench.measures.piecewise_linear import is_piecewise_linear
from gapbench.measures.registry import Estimate, quantity

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split

Terms = Sequence[Callable[["Tensor"], "Tensor"]]
"""A loss of a flat parameter vector, as terms that add up to it; only one term's graph is in memory at a time."""

EXAMPLES_AT_ONCE = 1000
"""A term of the loss has at least this many examples, …"""

ACTIVATIONS_AT_ONCE = 2**23
"""… and more while their activations are fewer than this, for the graph of a single term is kept between products."""

RESIDUAL_TOLERANCE = 1e-3
"""Lanczos stops when ‖Hv − θv‖ is at most this times |θ|; the error of θ is at most that, and mostly its square.

To stop by the squared bound instead would save a quarter of the steps, but the gap in it is that of Ritz values: early
on it is too large, and the bound broke in tests.
"""

TOP = 5
"""How many of the largest eigenvalues are found."""

DENSITY_STEPS = 100

MOST_EXACT_PARAMETERS = 2000
"""Up to here a trace is the sum of as many Hessian products as there are parameters; beyond, it is estimated. Products
for eigenvalues are in float64 up to here, beyond in float32."""

FEWEST_PROBES, MOST_PROBES = 20, 400

RELATIVE_ERROR = 0.05
"""Probes are drawn until the standard error of the trace is at most this fraction of it."""


def mean_loss_terms(network: nn.Module, train: Split, *, normalise_logits: bool = False) -> Terms:
    """The mean cross-entropy on a sample, as terms of as many examples as are taken at once.

    ``normalise_logits``: each example's logits are centred and divided by their norm first, so that scaling the output
    changes nothing (Andriushchenko et al. 2023).
    """
    dtype, at_parameters = next(network.parameters()).dtype, AtParameters(network)

    def term(inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        def loss(flat: Tensor) -> Tensor:
            logits = at_parameters(flat, inputs)
            if normalise_logits:
                logits = normalised(logits)
            return cross_entropy(logits, labels, reduction="sum") / len(train)

        return loss

    with torch.no_grad():
        activations = sum(call.output.numel() for call in calls_of(network, train.inputs[:1].to(dtype)))
    size = max(EXAMPLES_AT_ONCE, ACTIVATIONS_AT_ONCE // max(1, activations))
    batches = zip(torch.split(train.inputs, size), torch.split(train.labels, size), strict=True)
    # Convolutions in float32 are faster on images with the channels last in memory.
    layout = torch.channels_last if dtype == torch.float32 and train.inputs.ndim == 4 else torch.preserve_format
    return [term(inputs.to(dtype, memory_format=layout), labels) for inputs, labels in batches]


def normalised(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """Each row centred and divided by its Euclidean norm."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp_min(1e-10)
    return centred / norms


def value(terms: Terms, point: Float[Tensor, " parameters"]) -> float:
    """The loss at a point."""
    with torch.no_grad():
        return float(sum(float(term(point)) for term in terms))


def value_and_gradient(terms: Terms, point: Float[Tensor, " parameters"]) -> tuple[float, Float[Tensor, " parameters"]]:
    """The loss and its gradient at a point."""
    at = point.detach().clone().requires_grad_()
    total, gradient = 0.0, torch.zeros_like(point)
    for term in terms:
        loss = term(at)
        total += float(loss.detach())
        gradient += torch.autograd.grad(loss, at)[0]
    return total, gradient


def hessian_product(terms: Terms, point: Float[Tensor, " parameters"]) -> Callable[[Tensor], Tensor]:
    """The map v ↦ Hv at a point, by differentiating gᵀv; the graph of a single term is built once and kept."""
    at = point.detach().clone().requires_grad_()

    def gradient(term: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(term(at), at, create_graph=True)[0]

    kept = gradient(terms[0]) if len(terms) == 1 else None

    def product(vector: Tensor) -> Tensor:
        total = torch.zeros_like(point)
        for term in terms:
            slope = gradient(term) if kept is None else kept
            # A scalar: given a vector of output gradients, autograd imports sympy on its first call.
            along = (slope * vector).sum()
            total += torch.autograd.grad(along, at, retain_graph=kept is not None, materialize_grads=True)[0]
        return total

    return product


@quantity(large=True, cost="iterative")
def hessian_lanczos(
    curvature_network: nn.Module, resolving_network: nn.Module, curvature_sample: Split, rng: torch.Generator
) -> Lanczos:
    """The Krylov basis of the Hessian of the mean training loss, shared by its eigenvalues and its density.

    Of more than `MOST_EXACT_PARAMETERS` parameters the products are taken in float32, twice as fast, where the training
    loss is at least 1e-4 nats; the basis is float64. Rounding then moves an eigenvalue by 1e-6 of the largest at a loss
    of .01, by 4e-5 at 1e-4, less than `RESIDUAL_TOLERANCE`.
    """
    size = sum(parameter.numel() for parameter in curvature_network.parameters())
    network = curvature_network if size <= MOST_EXACT_PARAMETERS else resolving_network
    return krylov_basis(network, curvature_sample, rng)


def krylov_basis(network: nn.Module, sample: Split, rng: torch.Generator) -> Lanczos:
    """The Krylov basis of the Hessian of the mean loss on a sample, with products in the precision of the network."""
    point = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    product = hessian_product(mean_loss_terms(network, sample), point)
    return Lanczos(lambda vector: product(vector.to(point.dtype)).double(), len(point), rng)


@quantity(cost="iterative")
def top_eigenvalue(hessian_lanczos: Lanczos) -> Estimate:
    """The largest (algebraic) eigenvalue of the Hessian of the mean training loss, by Lanczos.

    The standard error is the bound min(r, r²/gap) on the error, with the residual norm r and the gap to the next
    eigenvalue; ``converged`` is False where r is above 1e-3 |θ| after `lanczos.MOST_STEPS` steps.
    """
    return largest_of(hessian_lanczos, 1)[0]


@quantity(cost="iterative")
def top_eigenvalues(hessian_lanczos: Lanczos) -> tuple[Estimate, ...]:
    """The `TOP` largest (algebraic) eigenvalues of the Hessian of the mean training loss, descending.

    As `top_eigenvalue`, each; fewer where there are fewer parameters. Of equal eigenvalues one is found.
    """
    return largest_of(hessian_lanczos, TOP)


@quantity(cost="iterative")
def spectral_density(hessian_lanczos: Lanczos) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
    """Nodes, ascending, and weights, which add up to one, of the spectral density of the Hessian: stochastic Lanczos.

    Formula: (1/ω) tr f(H) ≈ Σ_k τ_k² f(θ_k), exact in expectation over the Gaussian start for polynomials f of degree
    below twice the `DENSITY_STEPS` steps (Ubaru, Chen & Saad 2017; Ghorbani, Krishnan & Xiao 2019), up to the
    normalisation of the start, whose effect is of the order 1/ω. One start: its error is of the order √(2/ω).
    """
    ritz = hessian_lanczos.ritz(DENSITY_STEPS)
    return ritz.values, ritz.weights


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], size: int, rng: torch.Generator, *, tolerance: float = RESIDUAL_TOLERANCE
) -> Estimate:
    """The largest algebraic eigenvalue of a symmetric map on R^size, float64, by Lanczos stopped by the residual."""
    return largest_of(Lanczos(product, size, rng), 1, tolerance=tolerance)[0]


def largest_of(basis: Lanczos, count: int, *, tolerance: float = RESIDUAL_TOLERANCE) -> tuple[Estimate, ...]:
    """The largest eigenvalues of a map, descending, once the residual of each is at most ``tolerance`` times it."""

    def settled(ritz: Ritz) -> Tensor:
        return ritz.residuals[-count:] <= tolerance * ritz.values[-count:].abs()

    ritz, _ = basis.until(lambda ritz: len(ritz.values) > count and bool(settled(ritz).all()))
    converged = settled(ritz) | ritz.complete
    found = zip(ritz.values[-count:].tolist(), ritz.errors()[-count:].tolist(), converged.tolist(), strict=True)
    return tuple(Estimate(*one) for one in found)[::-1]


@quantity(cost="gradient")
def trace(
    evaluated: nn.Module,
    logits: Tensor,
    evaluated_parameters: Tensor,
    gauss_newton_trace: float,
    curvature_sample: Split,
    rng: torch.Generator,
) -> Estimate:
    """The trace of the Hessian of the mean training loss; exact for piecewise linear networks.

    Formula: tr H = tr G + tr R with the generalised Gauss–Newton matrix G (exact: `gauss_newton_trace`) and
    R = (1/m) Σ_i Σ_c (p_ic − y_ic) ∇² f_ic. Where each weight enters the output piecewise linearly, ∂²f/∂w_j² = 0 and
    tr R = 0. Elsewhere tr R is exact for at most `MOST_EXACT_PARAMETERS` parameters; for more it is estimated by
    Hutchinson's method, the standard error is that of tr R, and ``converged`` is False where it is still above 5 % of
    the trace after `MOST_PROBES` probes.
    """
    if is_piecewise_linear(evaluated, curvature_sample.inputs[:1].to(logits.dtype)):
        return Estimate(gauss_newton_trace, 0.0)
    size = len(evaluated_parameters)
    product = hessian_product(
        _residual_terms(evaluated, logits[: len(curvature_sample)], curvature_sample), evaluated_parameters
    )
    if size <= MOST_EXACT_PARAMETERS:
        return Estimate(gauss_newton_trace + exact_trace(product, size), 0.0)
    return hutchinson_trace(product, size, rng, known=gauss_newton_trace)


@quantity(cost="gradient")
def gauss_newton_trace(evaluated: nn.Module, curvature_sample: Split) -> float:
    """tr (1/m) Σ_i J_iᵀ (diag p_i − p_i p_iᵀ) J_i over all parameters.

    Formula: diag p − ppᵀ = SSᵀ (`square_root_columns`), so the trace is (1/m) Σ_i Σ_c ‖J_iᵀ s_c‖²: one backward sweep a
    column and, in each linear or convolutional layer, only the norms of per-example gradients; other parameters by
    their Jacobian. No probes, no sampling error.
    """
    sample = curvature_sample.inputs.to(next(evaluated.parameters()).dtype)
    return float(squared_gradient_norms(evaluated, sample, lambda logits, _: square_root_columns(logits)).sum()) / len(
        sample
    )


def square_root_columns(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "columns n classes"]:
    """The classes − 1 columns of the Cholesky factors S_i of diag p_i − p_i p_iᵀ, one row of the result for each.

    Formula: with q_j = Σ_{k>j} p_k, summed so that nothing cancels, column j is d_j = √(p_j q_j/(p_j + q_j)) at j,
    −d_j p_k/q_j at each k > j, and 0 before (Tanabe & Sagae 1992, as recalled).
    """
    p = softmax(logits, dim=1)
    tiny = torch.finfo(p.dtype).tiny
    rest = p[:, 1:].flip(1).cumsum(dim=1).flip(1)
    own = p[:, :-1]
    scale = (own * (rest / (own + rest).clamp_min(tiny))).sqrt()
    shares = torch.triu(p.unsqueeze(1) / rest.clamp_min(tiny).unsqueeze(2), diagonal=1)
    units = torch.eye(p.shape[1], dtype=p.dtype)[:-1]
    return (scale.unsqueeze(2) * (units - shares)).transpose(0, 1)


def _residual_terms(network: nn.Module, logits: Tensor, train: Split) -> Terms:
    """Functions of the parameters with the Hessian R: (1/m) Σ_i (p_i − y_i)ᵀ f_i with the residuals held fixed."""
    residuals = (softmax(logits, dim=1) - one_hot(train.labels, train.classes)) / len(train)

    def term(inputs: Tensor, weights: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda flat: (functional_logits(network, flat, inputs) * weights).sum()

    inputs = torch.split(train.inputs.to(logits.dtype), EXAMPLES_AT_ONCE)
    return [term(*batch) for batch in zip(inputs, torch.split(residuals, EXAMPLES_AT_ONCE), strict=True)]


def exact_trace(product: Callable[[Tensor], Tensor], size: int) -> float:
    """Σ_j e_jᵀ H e_j, one product a dimension."""
    total, unit = 0.0, torch.zeros(size, dtype=torch.float64)
    for place in range(size):
        unit[place] = 1.0
        total += float(product(unit)[place])
        unit[place] = 0.0
    return total


def hutchinson_trace(
    product: Callable[[Tensor], Tensor], size: int, rng: torch.Generator, *, known: float = 0.0
) -> Estimate:
    """A known part plus the mean of vᵀHv over random sign vectors v, with the standard error of that mean.

    At least `FEWEST_PROBES` are drawn, then more until the standard error is at most `RELATIVE_ERROR` of the sum;
    ``converged`` is False where it is not after `MOST_PROBES`. Source: Hutchinson 1990.
    """
    values: list[float] = []
    while True:
        probe = torch.randint(2, (size,), generator=rng).double() * 2 - 1
        values.append(float(probe @ product(probe)))
        if len(values) >= FEWEST_PROBES:
            mean, error = known + statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
            converged = error <= RELATIVE_ERROR * abs(mean)
            if converged or len(values) >= MOST_PROBES:
                return Estimate(mean, error, converged)
