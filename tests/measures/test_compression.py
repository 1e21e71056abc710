"""Compression: pruning and quantisation against a full scan, the description length against codes counted by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import compression
from gapbench.measures.registry import Undefined


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def when(allowed: Callable[[int], bool]) -> Callable[[Mapping[str, Tensor]], bool]:
    """A test of compressed weights by how many of them are zero."""
    return lambda weights: allowed(sum(int((weight == 0).sum()) for weight in weights.values()))


TWENTY = linear([[float(k) for k in range(1, 257)]])


def test_pruning_finds_the_largest_fraction_to_a_256th() -> None:
    for most in (0, 3, 64, 100, 255, 256):
        found = compression.pruning_ratio(TWENTY, when(lambda zeros, most=most: zeros <= most))
        assert found == most / 256, most


def test_pruning_removes_the_smallest_of_all_layers_together() -> None:
    network = nn.Sequential(linear([[1.0, -8.0], [2.0, 7.0]]), linear([[3.0, -4.0], [6.0, 5.0]]))
    seen: list[list[float]] = []

    def look(weights: Mapping[str, Tensor]) -> bool:
        seen.append(sorted(float(w) for weight in weights.values() for w in weight.flatten() if w != 0))
        return len(seen[-1]) >= 4

    assert compression.pruning_ratio(network, look, coarse=8, halvings=0) == 0.5
    assert seen[3] == [-8.0, 5.0, 6.0, 7.0]


def test_pruning_stops_at_the_first_failure_of_a_non_monotone_error() -> None:
    """Errors may fall again at high fractions; what lies beyond the first failure is no gain."""
    odd = when(lambda zeros: zeros <= 40 or zeros >= 200)
    assert compression.pruning_ratio(TWENTY, odd) == 40 / 256


def test_levels_are_equally_spaced_and_include_both_ends() -> None:
    weight = torch.tensor([[0.0, 1.0, 2.0, 3.0, 1.4, 2.6]])
    numbers, values = compression.levels(weight, 2)
    assert numbers.tolist() == [[0, 1, 2, 3, 1, 3]]
    assert values.tolist() == [[0.0, 1.0, 2.0, 3.0, 1.0, 3.0]]
    assert compression.levels(weight, 1)[1].unique().tolist() == [0.0, 3.0]
    assert torch.equal(compression.levels(torch.full((2, 2), 5.0), 3)[1], torch.full((2, 2), 5.0))


def bits_used(good: Callable[[int], bool]) -> Callable[[Mapping[str, Tensor]], bool]:
    """A test of quantised weights by their bits, read off the number of levels of `TWENTY` (256 distinct weights)."""
    by_levels = {len(compression.levels(TWENTY.weight.detach(), bits)[1].unique()): bits for bits in range(1, 9)}
    exact = [0]

    def fits(weights: Mapping[str, Tensor]) -> bool:
        (weight,) = weights.values()
        bits = by_levels[len(weight.unique())]
        if bits == 8:
            exact[0] += 1
            bits += exact[0] - 1  # beyond 8 bits all 256 weights are told apart: the calls go up one by one
        return good(bits)

    return fits


def test_fewest_bits_is_the_end_of_the_run_that_holds_eight() -> None:
    assert compression.fewest_bits(TWENTY, bits_used(lambda bits: bits >= 5)) == 5
    assert compression.fewest_bits(TWENTY, bits_used(lambda bits: bits >= 1)) == 1
    assert compression.fewest_bits(TWENTY, bits_used(lambda bits: bits >= 6 or bits == 3)) == 6
    assert compression.fewest_bits(TWENTY, bits_used(lambda bits: bits >= 11)) == 11
    with pytest.raises(Undefined, match="16 bits"):
        compression.fewest_bits(TWENTY, lambda weights: False)


def test_what_is_compressible_against_errors_counted_one_by_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs = torch.randn(300, 4)
    labels = network(inputs).argmax(dim=1)
    labels[:30] = (labels[:30] + 1) % 3  # errors of the network itself do not count
    fits = compression.compressible(network, Split(inputs, labels, 3))
    assert fits({})

    def errors(weight: Tensor) -> int:
        other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        other.load_state_dict({**network.state_dict(), "2.weight": weight})
        return sum(int(other(x[None]).argmax() != y) for x, y in zip(inputs, labels))

    seen = set()
    noise = torch.randn(3, 8)
    for scale in (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3):
        changed = network[2].weight.detach() + scale * noise
        expected = errors(changed) <= 30 + 3
        assert fits({"2.weight": changed}) == expected, scale
        seen.add(expected)
    assert seen == {True, False}


def test_description_length_by_hand() -> None:
    """One bit: codes 0,0,0,1 (0.8113 bits each) and table log2 C(5,1); 3 biases and a second layer 0,1 (1 bit each)."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].weight.data = torch.tensor([[0.0, 0.1], [0.2, 1.0]])
    network[1].weight.data = torch.tensor([[-1.0, 1.0]])
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    expected = 4 * entropy + math.log2(5) + 64 + 2 * 1 + math.log2(3) + 64 + 3 * 32
    assert compression.description_length(network, 1) == pytest.approx(expected, rel=1e-12)
    assert compression.description_length(network, 2) != pytest.approx(expected, rel=1e-3)


def test_entropy_code_is_not_shorter_than_the_enumeration_of_the_codes() -> None:
    """n H is within log2(n + 1)·K of log2 of the multinomial coefficient, the exact number of arrangements."""
    torch.manual_seed(1)
    network = nn.Linear(50, 40, bias=False)
    counts = compression.levels(network.weight.detach(), 4)[0].flatten().bincount(minlength=16)
    arrangements = (math.lgamma(2001) - sum(math.lgamma(int(c) + 1) for c in counts)) / math.log(2)
    code = compression.description_length(network, 4) - 64
    assert arrangements < code < arrangements + 2 * 16 * math.log2(2001)
