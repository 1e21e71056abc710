"""The entropy of the spectrum of the Hessian of the training loss, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gapbench.datasets.spec import Split
from gapbench.measures.curvature import hessian_product, mean_loss_terms
from gapbench.measures.gauss_newton import spectral_entropy
from gapbench.measures.lanczos import Lanczos
from gapbench.measures.registry import Estimate, Undefined, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

HESSIAN_EXAMPLES, HESSIAN_IMAGES, LARGEST_VECTOR = 64, 32, 1000
"""The Hessian is that of the mean loss on the first of the training examples, whose order is random: on fewer of them
where they are of more than a thousand numbers."""

MOST_EXACT_PARAMETERS = 300

PROBES, STEPS = 8, 8


@measure(source="roy2007, effective rank; ubaru2017, alg. 1", sign=+1, cost="iterative")
def hessian_spectral_entropy(
    evaluated: nn.Module, resolving_network: nn.Module, evaluated_parameters: Tensor, train: Split, rng: torch.Generator
) -> Estimate:
    """Entropy of the normalised squared spectrum of the Hessian, in nats.

    Formula: −Σ_j q_j ln q_j, q_j = λ_j² / Σ λ², of the mean loss on the first 64 training examples (32 if they are of
    more than 1,000 numbers); exact, float64, for at most 300 parameters, else by `estimated_entropy` with Hessian
    products in float32 (float64 below a training loss of 1e-4 nats), whose rounding is far below the sampling error.
    Squares, not absolute values: the quadrature cannot tell the many eigenvalues near zero from zero, and their
    absolute values add up: by 96 steps, that entropy of a wide perceptron had not settled within a nat.
    Sign: a wide spectrum is of many directions that the sample has had to fix, so larger predicts a larger gap.
    Raises: Undefined where the Hessian is zero.
    """
    examples = HESSIAN_IMAGES if train.inputs[0].numel() > LARGEST_VECTOR else HESSIAN_EXAMPLES
    few = Split(train.inputs[:examples], train.labels[:examples], train.classes)
    size = len(evaluated_parameters)
    if size <= MOST_EXACT_PARAMETERS:
        exact = hessian_product(mean_loss_terms(evaluated, few), evaluated_parameters)
        dense = torch.stack([exact(unit) for unit in torch.eye(size, dtype=evaluated_parameters.dtype)])
        return Estimate(spectral_entropy(torch.linalg.eigvalsh(dense).square()), 0.0)
    precision = next(resolving_network.parameters()).dtype
    product = hessian_product(mean_loss_terms(resolving_network, few), evaluated_parameters.to(precision))
    return estimated_entropy(lambda vector: product(vector.to(precision)).double(), size, rng)


def estimated_entropy(
    product: Callable[[Tensor], Tensor], size: int, rng: torch.Generator, *, probes: int = PROBES, steps: int = STEPS
) -> Estimate:
    """The entropy of the normalised squared spectrum of a symmetric map on R^size, by stochastic Lanczos quadrature.

    Formula: ln S − T/S with the traces S = tr A² and T = tr A² ln A², each size times the mean over random sign
    vectors, normalised, of the Gauss quadrature with the Ritz values and weights of ``steps`` steps of Lanczos: exact
    for S, and on perceptrons within 0.03 nats for the whole at 8 steps. The standard error is the jackknife's over the
    probes. Source: Ubaru, Chen & Saad 2017.
    Raises: Undefined where the map is zero.
    """
    traces = torch.zeros(probes, 2, dtype=torch.float64)
    for row in traces:
        ritz = Lanczos(product, size, rng, signs=True).ritz(steps)
        squares = ritz.values.square()
        row[0] = size * (ritz.weights @ squares)
        row[1] = -size * (ritz.weights @ torch.special.entr(squares))
    if float(traces[:, 0].sum()) == 0:
        raise Undefined("the spectrum is zero")

    def entropy(total: Tensor) -> Tensor:
        return total[..., 0].log() - total[..., 1] / total[..., 0]

    others = entropy((traces.sum(dim=0) - traces) / (probes - 1))
    error = math.sqrt((probes - 1) * float(others.var(unbiased=False)))
    return Estimate(float(entropy(traces.mean(dim=0))), error)
