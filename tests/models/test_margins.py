"""Margins of outputs, by hand."""

from __future__ import annotations

import torch

from gapbench.models.margins import label_margins, share_at_margin

LOGITS = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 2.5], [5.0, -1.0, 4.0], [1.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 1, 0, 2])


def test_a_margin_is_the_lead_of_the_label_over_the_largest_other() -> None:
    assert label_margins(LOGITS, LABELS).tolist() == [2.0, -0.5, 1.0, 0.0]


def test_the_share_counts_examples_that_have_just_the_margin() -> None:
    assert share_at_margin(LOGITS, LABELS, 1.0) == 0.5
    assert share_at_margin(LOGITS, LABELS, 1.5) == 0.25
