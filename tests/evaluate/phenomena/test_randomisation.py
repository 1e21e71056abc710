"""Which runs are made, and how fit times are paired."""

from __future__ import annotations

from collections import Counter

import pandas

from gapbench.evaluate.phenomena.randomisation import HALF, RANDOM, RANDOMISATION, RANDOMISATIONS, TRUE, beside, cells


def test_true_and_random_labels_and_levels_have_all_seeds_and_the_rest_the_others() -> None:
    quick = RANDOMISATION.quick
    counts = Counter((cell.where["network"], cell.where["randomisation"]) for cell in cells(quick))
    for network in (one.name for one in quick.architectures):
        levels = network in quick.level_architectures
        for kind in RANDOMISATIONS:
            every = kind in (TRUE, RANDOM) or (kind == HALF and levels)
            assert counts[network, kind] == (quick.seeds if every else quick.other_seeds), (network, kind)
        assert counts[network, "labels random with probability 0.25"] == (quick.seeds if levels else 0)


def test_the_quick_settings_are_the_six_networks_on_cifar10() -> None:
    assert RANDOMISATION.quick.data == "cifar10"
    assert len({one.name for one in RANDOMISATION.quick.architectures}) == 6


def test_slow_downs_are_paired_by_network_and_seed() -> None:
    # Shuffled pixels take 2 and 8 times as long as true labels, where both are there.
    rows = [("A", TRUE, 0, 10), ("A", TRUE, 1, 40), ("B", TRUE, 0, 20)]
    rows += [("A", "shuffled pixels", 0, 20), ("B", "shuffled pixels", 0, 160), ("A", RANDOM, 1, 80)]
    table = pandas.DataFrame(rows, columns=["network", "randomisation", "seed", "epochs_to_fit"]).assign(train_error=0)
    found = {one.what: one.ours for one in beside(table)}
    assert found["slow-down by random labels, A"] == "2"
    assert found["slow-down by shuffled pixels, all networks"].startswith("4 ")
    assert "slow-down by random labels, B" not in found
