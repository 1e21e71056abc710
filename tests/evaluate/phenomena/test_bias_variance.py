"""The decomposition of the squared error, against its parts drawn at random."""

from __future__ import annotations

import pytest
import torch

from gapbench.evaluate.phenomena.bias_variance import decomposed


def test_planted_parts_are_found_without_bias() -> None:
    stream = torch.Generator().manual_seed(0)
    samples, starts, examples, classes = 3, 2, 400, 5
    target = torch.zeros(examples, classes, dtype=torch.float64)
    found = []
    for _ in range(60):
        of_sample = 0.4 * torch.randn(samples, 1, examples, classes, generator=stream, dtype=torch.float64)
        of_start = 0.3 * torch.randn(samples, starts, examples, classes, generator=stream, dtype=torch.float64)
        found.append(decomposed(0.5 + of_sample + of_start, target))
    mean = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
    assert mean["variance_start"] == pytest.approx(5 * 0.09, rel=0.02)
    assert mean["variance_sample"] == pytest.approx(5 * 0.16, rel=0.02)
    assert mean["variance"] == pytest.approx(5 * 0.25, rel=0.02)
    assert mean["bias"] == pytest.approx(5 * 0.25, rel=0.02)


def test_without_variance_all_is_bias() -> None:
    probabilities = torch.full((2, 2, 10, 3), 1 / 3, dtype=torch.float64)
    target = torch.eye(3, dtype=torch.float64)[torch.arange(10) % 3]
    found = decomposed(probabilities, target)
    assert found["bias"] == pytest.approx(2 / 3)
    assert found["variance"] == pytest.approx(0)
