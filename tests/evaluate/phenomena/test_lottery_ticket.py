"""Pruning and masked training."""

from __future__ import annotations

import torch

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.lottery_ticket import fit, prune, share_left, weights
from gapbench.models.build import build
from gapbench.models.spec import RunSpec

SPEC = RunSpec(DataSpec("digits", 40), "mlp", 10, 1, 0.01, 20, optimiser="adam", max_epochs=3)


def network() -> torch.nn.Module:
    return build(SPEC, (1, 8, 8), 10, torch.Generator().manual_seed(0))


def test_the_smallest_weights_go_and_half_as_many_in_the_output() -> None:
    made = network()
    masks = prune(made, [torch.ones_like(weight) for weight in weights(made)], 0.5)
    assert [int(mask.sum()) for mask in masks] == [320, 75]
    for weight, mask in zip(weights(made), masks, strict=True):
        assert weight.abs()[mask > 0].min() >= weight.abs()[mask == 0].max()
    again = prune(made, masks, 0.5)
    assert all(bool((new <= old).all()) for new, old in zip(again, masks, strict=True))
    assert share_left(again) < share_left(masks) < 1


def test_masked_weights_stay_0_and_the_others_learn() -> None:
    made, start = network(), network()
    masks = prune(made, [torch.ones_like(weight) for weight in weights(made)], 0.5)
    fit(made, masks, load(SPEC.data)[0], SPEC, torch.Generator().manual_seed(1))
    for weight, before, mask in zip(weights(made), weights(start), masks, strict=True):
        assert bool((weight[mask == 0] == 0).all())
        assert bool((weight != before)[mask > 0].any())
