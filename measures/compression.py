"""How far the weights can be compressed before training errors appear: pruning, quantisation, description length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gapbench.datasets.spec import Split
from gapbench.measures.information import EXAMPLES_AT_ONCE, entropy_bits, weight_tensors
from gapbench.measures.quantities import channels_last
from gapbench.measures.registry import Undefined, measure, per_sample, quantity

COMPRESSION_EXAMPLES = 500
"""Errors are counted on this many training examples, the first ones: the order of a sample is a random permutation."""

ERROR_RISE = 0.01
"""A compressed network may have this much more training error."""

MOST_BITS = 16

FLOAT_BITS = 32

Weights = Mapping[str, Tensor]


@quantity(cost="forward")
def compressible(folded_float32: nn.Module, train: Split) -> Callable[[Weights], bool]:
    """Whether the folded network with these tensors in place of its own has at most 0.01 more training error."""
    inputs = channels_last(train.inputs[:COMPRESSION_EXAMPLES].float())
    labels = train.labels[:COMPRESSION_EXAMPLES]

    def errors(weights: Weights) -> int:
        with torch.no_grad():
            batches = torch.split(inputs, EXAMPLES_AT_ONCE)
            outputs = torch.cat([functional_call(folded_float32, dict(weights), batch) for batch in batches])
        return int((outputs.argmax(dim=1) != labels).sum())

    most = errors({}) + ERROR_RISE * len(labels)
    return lambda weights: errors(weights) <= most


@measure(
    source="frankle2019, global magnitude pruning without retraining",
    sign=-1,
    invariances=("unit_permutation",),
    cost="iterative",
)
def pruning_ratio(
    folded_float32: nn.Module, compressible: Callable[[Weights], bool], *, coarse: int = 8, halvings: int = 5
) -> float:
    """The largest fraction of the weights that can be set to zero with at most 0.01 more training error.

    Formula: the largest f such that the network without its f·n weights of least |w| (all layers together, biases
    kept) has a training error at most 0.01 above its own, counted on the first 500 examples. Error need not rise with
    f: f is sought below the *first* of the fractions 1/``coarse``, 2/``coarse``, … that fails (where the largest error
    met so far, an envelope that does rise, leaves the tolerance), by ``halvings`` bisections from there.
    Raises: nothing. Sign: a network that needs few of its weights is simpler.
    """
    weights = weight_tensors(folded_float32)
    ranked = torch.cat([weight.abs().flatten() for weight in weights.values()]).sort().values

    def fits(fraction: float) -> bool:
        count = int(fraction * len(ranked))
        threshold = float(ranked[count - 1]) if count else -1.0
        return compressible({name: weight * (weight.abs() > threshold) for name, weight in weights.items()})

    low, high = 0.0, 1.0
    for step in range(1, coarse + 1):
        if not fits(step / coarse):
            high = step / coarse
            break
        low = step / coarse
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def levels(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The nearest of 2^bits equally spaced levels between least and largest weight: its number, and its value."""
    least, largest = weight.min(), weight.max()
    step = (largest - least) / (2**bits - 1)
    numbers = ((weight - least) / step).round() if float(step) > 0 else torch.zeros_like(weight)
    return numbers.long(), least + numbers * step


@quantity(cost="iterative")
def fewest_bits(folded_float32: nn.Module, compressible: Callable[[Weights], bool]) -> int:
    """The fewest bits a weight, quantised uniformly in each layer, with at most 0.01 more training error.

    Sought from 8 bits downwards to the first number that fails, or upwards to the first that does not.
    Raises: Undefined where 16 bits do not suffice.
    """
    weights = weight_tensors(folded_float32)

    def fits(bits: int) -> bool:
        return compressible({name: levels(weight, bits)[1] for name, weight in weights.items()})

    bits = 8
    if fits(bits):
        while bits > 1 and fits(bits - 1):
            bits -= 1
        return bits
    while bits < MOST_BITS:
        bits += 1
        if fits(bits):
            return bits
    raise Undefined(f"quantised to {MOST_BITS} bits, the network has more than {ERROR_RISE} more training error")


@measure(source="han2016, without retraining", sign=+1, invariances=("unit_permutation",))
def quantisation_bits(fewest_bits: int) -> float:
    """The fewest bits a weight with at most 0.01 more training error.

    Formula: the least b such that the network with each weight at the nearest of 2^b equally spaced levels, between
    the least and the largest of its layer (biases kept), has a training error at most 0.01 above its own, counted on
    the first 500 examples. Where error does not fall with b, it is the end of the run of good b that holds 8, or else
    the first good b above 8. Raises: Undefined where 16 bits do not suffice.
    Sign: weights that must be known precisely hold more information.
    """
    return float(fewest_bits)


@measure(
    source="zhou2019, compressed size; han2016, entropy coding",
    sign=+1,
    invariances=("unit_permutation",),
)
def description_length(folded_float32: nn.Module, fewest_bits: int) -> float:
    """The compressed size of the network at its fewest bits a weight, in bits.

    Formula: Σ_l [n_l H_l + log2 C(n_l + K − 1, K − 1) + 2·32] + 32·(other parameters), K = 2^b levels, b as in
    `quantisation_bits`, H_l the entropy of the levels of the n_l weights of layer l: the length of an ideal entropy
    code, of its table of K counts, and of the layer's range; biases as 32-bit numbers. (A compressor's own output
    differs between its versions.) The networks' architecture is not described.
    Raises: Undefined where 16 bits do not suffice. Sign: Occam's bound on the gap grows with the description length.
    """
    length, alphabet = 0.0, 2**fewest_bits
    for weight in weight_tensors(folded_float32).values():
        size = weight.numel()
        counts = levels(weight, fewest_bits)[0].flatten().bincount(minlength=alphabet)
        table = math.lgamma(size + alphabet) - math.lgamma(alphabet) - math.lgamma(size + 1)
        length += size * entropy_bits(counts) + table / math.log(2) + 2 * FLOAT_BITS
    others = sum(p.numel() for p in folded_float32.parameters() if p.ndim < 2)
    return length + FLOAT_BITS * others


per_sample(description_length)
