from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gapbench.datasets.seeds import derive_seed, generator


def test_golden_seeds() -> None:
    assert derive_seed(0) == 6034241650067879687
    assert derive_seed(0, "digits", "split") == 2801450959971406042


def test_streams_whose_names_join_to_the_same_text_differ() -> None:
    assert (
        len({derive_seed(0, "ab", "c"), derive_seed(0, "a", "bc"), derive_seed(0, "abc"), derive_seed(0, "ab", 1)}) == 4
    )
    assert derive_seed(0, 1) != derive_seed(0, "1")


@given(st.integers(), st.lists(st.text() | st.integers()))
def test_a_seed_fits_into_63_bits_and_is_repeatable(root: int, names: list[str | int]) -> None:
    seed = derive_seed(root, *names)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(root, *names)


def test_generators_are_repeatable_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, second = (torch.rand(3, generator=generator(1, "x")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
