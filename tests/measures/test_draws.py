from __future__ import annotations

import math

import pytest
import torch

from gapbench.measures.draws import DRAWN_EXAMPLES, DRAWS, draws_each, over_draws


def test_the_standard_error_is_the_spread_of_new_draws_for_the_same_examples() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(40, generator=rng, dtype=torch.float64)

    def drawn() -> torch.Tensor:
        return centres + torch.randn(5, 40, generator=rng, dtype=torch.float64)

    estimates = [over_draws(drawn()) for _ in range(400)]
    spread = float(torch.tensor([one.value for one in estimates]).std())
    assert spread == pytest.approx(1 / math.sqrt(5 * 40), rel=0.1)
    assert estimates[0].standard_error == pytest.approx(spread, rel=0.2)
    # The spread between examples is no part of it: taken over all values at once, the error would be ten times this.
    assert float(drawn().std()) / math.sqrt(5 * 40) > 5 * spread


def test_small_samples_get_more_draws_and_all_get_two() -> None:
    assert draws_each(50) == DRAWS // 50
    assert draws_each(DRAWN_EXAMPLES) >= 2
    assert draws_each(10 * DRAWS) == 2
