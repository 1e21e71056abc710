"""Measures of the Fisher information and the Gauss–Newton matrix: traces, spectral entropy, and Laplace evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import one_hot, softmax

from gapbench.measures.curvature import square_root_columns
from gapbench.measures.per_example import squared_gradient_norms
from gapbench.measures.registry import Undefined, measure, quantity
from gapbench.measures.tangent import TANGENT_EXAMPLES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from gapbench.datasets.spec import Split

_EXACT = ("unit_permutation", "example_permutation", "example_duplication")


@quantity
def gauss_newton_eigenvalues(tangent_gram: Tensor, logits: Tensor) -> Float[Tensor, " N"]:
    """The eigenvalues, ascending, of the Gauss–Newton matrix of the loss summed over the tangent kernel's examples.

    Formula: those of Sᵀ K S, with diag p_i − p_i p_iᵀ = S_i S_iᵀ for each example i, which are those of
    Σ_i J_iᵀ (diag p_i − p_i p_iᵀ) J_i but for zeros; those that rounding leaves below 0 are set to 0.
    """
    classes = logits.shape[1]
    examples = len(tangent_gram) // classes
    roots = square_root_columns(logits[:examples]).permute(1, 2, 0)
    blocks = tangent_gram.view(examples, classes, examples, classes)
    size = examples * (classes - 1)
    product = torch.einsum("iac,iajb,jbd->icjd", roots, blocks, roots).reshape(size, size)
    eigenvalues: Tensor = torch.linalg.eigvalsh(product)
    return eigenvalues.clamp_min(0.0)


@measure(source="kunstner2019, eq. 3", sign=+1, invariances=_EXACT)
def fisher_trace(gauss_newton_trace: float) -> float:
    """Trace of the Fisher information matrix at the end of training.

    Formula: (1/m) Σ_i E_{y ~ p_i} ‖∇ ln p_i(y)‖² = tr (1/m) Σ_i J_iᵀ (diag p_i − p_i p_iᵀ) J_i, labels drawn from the
    model itself; for softmax it is the trace of the Gauss–Newton matrix, exact here; over the m
    examples of `curvature_sample`. On piecewise linear networks it is
    `hessian_trace`; the empirical Fisher is `empirical_fisher_trace`.
    Sign: more information in the weights costs a longer description, so larger predicts a larger gap.
    """
    return gauss_newton_trace


@measure(source="kunstner2019, eq. 4", sign=+1, invariances=_EXACT, cost="gradient")
def empirical_fisher_trace(evaluated: nn.Module, curvature_sample: Split) -> float:
    """Trace of the empirical Fisher matrix: the mean squared norm of the gradient of one example's loss.

    Formula: (1/m) Σ_i ‖∇ ℓ_i(w)‖², with the labels of the m examples of `curvature_sample`, over all parameters, biases
    included.
    Sign: gradients that still differ between fitted examples are of a sharp minimum: larger predicts a larger gap.
    """
    return float(squared_loss_gradient_norms(evaluated, curvature_sample).mean())


def squared_loss_gradient_norms(network: nn.Module, sample: Split) -> Float[Tensor, " n"]:
    """‖∇ℓ_i‖² of the cross-entropy of each example, over all parameters, in the precision of the network."""

    def residuals(logits: Tensor, part: slice) -> Float[Tensor, "1 part classes"]:
        return (softmax(logits, dim=1) - one_hot(sample.labels[part], sample.classes))[None]

    inputs = sample.inputs.to(next(network.parameters()).dtype)
    return squared_gradient_norms(network, inputs, residuals)[0]


@measure(source="roy2007, effective rank", sign=+1, invariances=("unit_permutation",))
def gauss_newton_spectral_entropy(gauss_newton_eigenvalues: Tensor) -> float:
    """Entropy of the normalised spectrum of the Gauss–Newton matrix, in nats.

    Formula: −Σ_j q_j ln q_j, q_j = μ_j / Σ μ, exact, on the first 64 training examples.
    Sign: a wide spectrum is of many directions that the sample has had to fix, so larger predicts a larger gap.
    Raises: Undefined where the matrix is zero.
    """
    return spectral_entropy(gauss_newton_eigenvalues)


@measure(source="immer2021, generalised Gauss–Newton Laplace", sign=+1, invariances=("unit_permutation",))
def laplace_evidence(gauss_newton_eigenvalues: Tensor, losses: Tensor, evaluated_parameters: Tensor) -> float:
    """Negative log evidence of the network by Laplace's approximation, in nats an example.

    Formula: −ln Z / n = (1/n) min over δ of [Σ_i ℓ_i + δ‖w‖²/2 + ½ Σ_j ln(1 + μ_j/δ)], with a prior N(0, I/δ) on all
    weights and biases, the eigenvalues μ of the full Gauss–Newton matrix of the summed loss, on the first n = 64
    training examples. The best δ solves δ‖w‖² = Σ_j μ_j/(μ_j + δ) (MacKay 1992), which has one root: the left side
    rises, the right side falls. The weights are those of training, not a maximum of the posterior.
    Sign: evidence prefers what needs little information from the sample, so larger predicts a larger gap.
    Raises: Undefined where the matrix or the weights are zero.
    """
    square, mu = float(evaluated_parameters.square().sum()), gauss_newton_eigenvalues
    if square == 0 or float(mu.max()) == 0:
        raise Undefined("the Gauss–Newton matrix or the weights are zero: the evidence has no best prior")
    low, high = math.log(1e-300), math.log(len(mu) / square)
    for _ in range(200):
        middle = (low + high) / 2
        delta = math.exp(middle)
        rises = delta * square > float((mu / (mu + delta)).sum())
        low, high = (low, middle) if rises else (middle, high)
    delta, fitted = math.exp(high), losses[:TANGENT_EXAMPLES]
    return (float(fitted.sum()) + delta * square / 2 + float((mu / delta).log1p().sum()) / 2) / len(fitted)


def spectral_entropy(eigenvalues: Float[Tensor, " N"]) -> float:
    """−Σ q ln q of eigenvalues of at least 0, normalised to add up to 1.

    Raises: Undefined where all are zero.
    """
    total = eigenvalues.sum()
    if float(total) == 0:
        raise Undefined("the spectrum is zero")
    return float(torch.special.entr(eigenvalues / total).sum())
