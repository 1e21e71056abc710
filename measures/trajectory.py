"""Training in output space: propagator, dissipation Gramian and transfer operators along a path of kernels.

Mathematics only, nothing is registered. Objects and names after Litman & Guo 2026 (arXiv:2605.01172), for gradient flow
u' = −K g, g' = −B K g in the time τ = Σ η: outputs u and output gradients g = ∇Φ(u) of n examples and p outputs as
vectors of N = n·p entries, example by example; K the tangent kernel; B = ∇²Φ(u), block diagonal over examples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softmax

SERIES_BELOW = 0.1
"""Below this, the functions of an eigenvalue times a time are summed as series: their closed forms cancel."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of the path on which the kernel and the loss's curvature are taken for constant.

    ``kernel`` K (N, N), symmetric; ``root`` S (N, r) with B = S Sᵀ; ``time`` the sum Δ of the step sizes along it;
    ``cross`` the rows K_QS (Q, N) of probed outputs, where there are any.
    """

    kernel: Float[Tensor, "N N"]
    root: Float[Tensor, "N r"]
    time: float
    cross: Float[Tensor, "Q N"] | None = None


@dataclass(frozen=True)
class Transfer:
    """What a path of training does to output gradients, from its start s to its end T.

    ``propagator`` P = P_g(T, s): g(T) = P g(s); ``gramian`` W = ∫ PᵀKP dτ; ``training`` D = ∫ K P dτ, so that
    u(T) − u(s) = −D g(s); ``probes`` G = ∫ K_QS P dτ, likewise for the probed outputs. Shapes (N, N), and (Q, N) for G.
    """

    propagator: Float[Tensor, "N N"]
    gramian: Float[Tensor, "N N"]
    training: Float[Tensor, "N N"]
    probes: Float[Tensor, "Q N"] | None


def transfer(stretches: Iterable[Stretch]) -> Transfer:
    """The operators of a path that is constant on each of its stretches: exact there, one `eigh` a stretch.

    Formula: with C = SᵀKS = VΛVᵀ and the flow e^{−SSᵀKs} = I − S V ((1−e^{−Λs})/Λ) VᵀSᵀK, over a stretch of time Δ
    ∫ K e^{−BKs} ds = ΔK − K S Ψ SᵀK, Ψ = V ((Δ − (1−e^{−ΛΔ})/Λ)/Λ) Vᵀ, and
    ∫ e^{−KBs} K e^{−BKs} ds = ΔK − 2 K S Ψ SᵀK + K S (∫ (1−e^{−Λs})²/Λ ds) SᵀK.
    Where stretches stand for a kernel that moves, the error is that of the midpoint rule, second order in their length.
    Raises: ValueError where there is no stretch.
    """
    propagator: Tensor | None = None
    for stretch in stretches:
        kernel, time = stretch.kernel, stretch.time
        if propagator is None:
            propagator = torch.eye(len(kernel), dtype=kernel.dtype)
            gramian, training = torch.zeros_like(kernel), torch.zeros_like(kernel)
            probes = None if stretch.cross is None else torch.zeros_like(stretch.cross)
        image = kernel @ stretch.root
        eigenvalues, vectors = torch.linalg.eigh(_symmetric(stretch.root.T @ image))
        rates = eigenvalues.clamp_min(0.0) * time
        rotated = image @ vectors  # K S V
        ahead = rotated.T @ propagator  # VᵀSᵀK P
        straight = kernel @ propagator
        once, twice, square = _decay(rates)
        bent = (twice * time**2).unsqueeze(1) * ahead
        gramian += time * propagator.T @ straight
        gramian += ahead.T @ ((square * time**2 - 2 * twice * time**2).unsqueeze(1) * ahead)
        training += time * straight - rotated @ bent
        rooted = stretch.root @ vectors
        if probes is not None and stretch.cross is not None:
            probes += stretch.cross @ (time * propagator - rooted @ bent)
        propagator = propagator - rooted @ ((once * time).unsqueeze(1) * ahead)
    if propagator is None:
        raise ValueError("a path needs at least one stretch")
    return Transfer(propagator, _symmetric(gramian), training, probes)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _decay(x: Float[Tensor, " r"]) -> tuple[Tensor, Tensor, Tensor]:
    """(1−e^{−x})/x, (1 − (1−e^{−x})/x)/x and (1 − 2(1−e^{−x})/x + (1−e^{−2x})/(2x))/x for x >= 0, to 1e-13."""
    safe = x.clamp_min(SERIES_BELOW)
    once = -torch.expm1(-safe) / safe
    closed = (once, (1 - once) / safe, (1 - 2 * once - torch.expm1(-2 * safe) / (2 * safe)) / safe)
    # Σ_k (−x)^k/(k+1)!, Σ_k (−x)^k/(k+2)! and Σ_k (−1)^k (2^{k+2}−2) x^{k+1}/(k+3)!, twelve terms each.
    series = [torch.zeros_like(x) for _ in closed]
    for k in range(12):
        series[0] += (-x) ** k / _factorial(k + 1)
        series[1] += (-x) ** k / _factorial(k + 2)
        series[2] += -((-x) ** (k + 1)) * (2 ** (k + 2) - 2) / _factorial(k + 3)
    found = [torch.where(x < SERIES_BELOW, short, full) for short, full in zip(series, closed, strict=True)]
    return found[0], found[1], found[2]


def _factorial(k: int) -> float:
    return float(torch.arange(1, k + 1, dtype=torch.float64).prod())


Blocks = Float[Tensor, "n p p"]
"""The curvature B of a loss that couples no two examples, one p x p block an example."""


def squared_loss_curvature(examples: int, outputs: int) -> Blocks:
    """B = I/n, the curvature of Φ = ‖u − y‖²/(2n)."""
    return torch.eye(outputs, dtype=torch.float64).expand(examples, -1, -1) / examples


def cross_entropy_curvature(logits: Float[Tensor, "n p"]) -> Blocks:
    """B_i = (diag π_i − π_i π_iᵀ)/n, the curvature of the mean cross-entropy; singular along 1_p."""
    shares = softmax(logits.double(), dim=1)
    return (torch.diag_embed(shares) - shares.unsqueeze(2) * shares.unsqueeze(1)) / len(logits)


def root(curvature: Blocks) -> Float[Tensor, "N N"]:
    """S with S Sᵀ = B, block diagonal; eigenvalues that rounding made negative are taken for zero."""
    eigenvalues, vectors = torch.linalg.eigh(curvature)
    blocks = vectors * eigenvalues.clamp_min(0.0).sqrt().unsqueeze(1)
    examples, outputs = blocks.shape[:2]
    dense = blocks.new_zeros(examples, outputs, examples, outputs)
    places = torch.arange(examples)
    dense[places, :, places] = blocks
    square: Tensor = dense.view(examples * outputs, examples * outputs)
    return square


def between(
    kernels: Sequence[Float[Tensor, "N N"]], curvatures: Sequence[Blocks], times: Sequence[float]
) -> Iterator[Stretch]:
    """The stretches between checkpoints, each with the mean kernel and the mean curvature of its ends.

    Raises: ValueError where the numbers do not fit: one kernel and one curvature a checkpoint, one time a stretch.
    """
    if not len(kernels) == len(curvatures) == len(times) + 1:
        raise ValueError(f"{len(kernels)} kernels, {len(curvatures)} curvatures, {len(times)} times make no path")
    ends = zip(itertools.pairwise(kernels), itertools.pairwise(curvatures), times, strict=True)
    for (kernel, later), (curvature, flatter), time in ends:
        yield Stretch((kernel + later) / 2, root((curvature + flatter) / 2), time)
