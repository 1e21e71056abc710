"""Compressed classifiers: what training did to the weights, pruned, quantised and coded; mathematics only.

The decoder knows the architecture and the initial weights w0, neither of which depends on the sample. The code of a
classifier is a sequence of choices, each uniform over a set that the earlier ones fix, so that the probabilities
2^(−bits) of all codes add up to at most 1 without a header:

* the row of the grid: how many of the p displacements w_i − w0_i are kept, and how many values they may take;
* which ones are kept, the largest in magnitude: log2 of the binomial coefficient;
* the values: 16 bits each, the nearest float16 to the centres of k-means;
* how often each value is taken, and by which of the kept ones: log2 of the number of compositions, and of the
  multinomial coefficient, which is the adaptive arithmetic code's length to within rounding.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gapbench.datasets.spec import Split
from gapbench.measures.bounds import inverse_kl
from gapbench.measures.quantities import channels_last

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

KEPT = tuple(4.0**-step for step in range(8))
LEVELS = (2, 4, 16)
"""The grid: fractions of displacements kept, and numbers of values they may take."""

BITS_A_VALUE = 16

LLOYD_STEPS = 20

SEARCH_EXAMPLES = 128

EXAMPLES_AT_ONCE = 1000


@dataclass(frozen=True)
class Compressed:
    """A compressed classifier: its weights, the length of its code, its training error, and the bound of its error."""

    network: nn.Module
    bits: float
    train_error: float
    bound: float


def occam_bound(train_error: float, bits: float, examples: int, delta: float) -> float:
    """An upper bound of the error of a classifier with a code of so many bits, with probability 1 − δ.

    Formula: the largest ε with kl(train error‖ε) <= (bits·ln 2 + ln(1/δ))/m: the Chernoff bound of the binomial law of
    the training errors of one classifier, at confidence δ·2^(−bits), and the union over all codes.
    """
    return inverse_kl(train_error, (bits * math.log(2) + math.log(1 / delta)) / examples)


def compress(network: nn.Module, initial: nn.Module, sample: Split, delta: float) -> Compressed:
    """The row of the grid that promises the smallest `occam_bound`; the network and its initialisation are not changed.

    The rows are compared by their errors on the first `SEARCH_EXAMPLES` examples, the shortest codes first; those that
    would not do even with an error of zero are passed over. Only the bound of the one chosen takes the whole sample.
    """
    start, end = (torch.cat([one.detach().flatten() for one in net.parameters()]) for net in (initial, network))
    moved = end - start
    order = moved.abs().argsort(descending=True, stable=True)
    few = Split(sample.inputs[:SEARCH_EXAMPLES], sample.labels[:SEARCH_EXAMPLES], sample.classes)
    classifier = copy.deepcopy(network)
    least, bits, chosen = math.inf, 0.0, moved
    for kept, levels in itertools.product(sorted({max(1, round(part * len(moved))) for part in KEPT}), LEVELS):
        quantised, length = quantise(moved, order[:kept], min(levels, kept))
        length += math.log2(len(KEPT) * len(LEVELS))
        if occam_bound(0.0, length, len(sample), delta) >= least:
            continue
        torch.nn.utils.vector_to_parameters(start + quantised, classifier.parameters())
        promised = occam_bound(mean_error(classifier, few), length, len(sample), delta)
        if promised < least:
            least, bits, chosen = promised, length, quantised
    torch.nn.utils.vector_to_parameters(start + chosen, classifier.parameters())
    error = mean_error(classifier, sample)
    return Compressed(classifier, bits, error, occam_bound(error, bits, len(sample), delta))


def quantise(values: Float[Tensor, " p"], kept: Tensor, levels: int) -> tuple[Float[Tensor, " p"], float]:
    """Zero but for ``kept``, those at the nearest of so many values; and the length of the code of that, in bits."""
    chosen = values[kept]
    centres = kmeans(chosen, levels).half().to(values.dtype).sort().values
    nearest = torch.bucketize(chosen, (centres[1:] + centres[:-1]) / 2)
    quantised = torch.zeros_like(values)
    quantised[kept] = centres[nearest]
    return quantised, code_length(len(values), torch.bincount(nearest, minlength=levels).tolist())


def code_length(parameters: int, counts: list[int]) -> float:
    """The bits of positions, values, counts and assignments; ``counts``: how often each value is taken, zeros too."""
    kept, levels = sum(counts), len(counts)
    positions = _log_factorial(parameters) - _log_factorial(kept) - _log_factorial(parameters - kept)
    compositions = _log_factorial(kept + levels - 1) - _log_factorial(kept) - _log_factorial(levels - 1)
    assignments = _log_factorial(kept) - sum(map(_log_factorial, counts))
    return BITS_A_VALUE * levels + (positions + compositions + assignments) / math.log(2)


def _log_factorial(count: int) -> float:
    return math.lgamma(count + 1)


def kmeans(values: Float[Tensor, " n"], levels: int) -> Float[Tensor, " levels"]:
    """The centres of k-means on a line: Lloyd's iterations from equal steps over the range; an empty one stays."""
    ordered = values.double().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(dim=0)])
    centres = torch.linspace(float(ordered[0]), float(ordered[-1]), levels, dtype=torch.float64)
    for _ in range(LLOYD_STEPS):
        inner = torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        edges = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])
        sizes = edges.diff()
        centres = torch.where(sizes > 0, sums[edges].diff() / sizes.clamp_min(1), centres)
    return centres


def mean_error(network: nn.Module, sample: Split) -> float:
    """The fraction of the sample that the network misclassifies, in its own precision."""
    inputs = channels_last(sample.inputs.to(next(network.parameters()).dtype))
    with torch.no_grad():
        outputs = torch.cat([network(batch) for batch in torch.split(inputs, EXAMPLES_AT_ONCE)])
    return float((outputs.argmax(dim=1) != sample.labels).double().mean())
