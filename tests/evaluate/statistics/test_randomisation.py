"""The randomisation AUC against naive loops, and its null by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.randomisation import auc_replicates, randomisation_auc


def zoo(noises=(0.0, 0.3, 1.0), seeds=2, keep=1.0):
    runs = pd.DataFrame(
        itertools.product(range(2), range(3), noises, range(seeds)), columns=["A", "B", "label_noise", "seed"]
    )
    kept = np.random.default_rng(0).random(len(runs)) < keep
    runs = runs[kept].sample(frac=1.0, random_state=0).reset_index(drop=True)
    return runs, Design.of(runs, ["A", "B"])


def naive(runs, measure):
    wins = []
    for _, twins in runs.assign(measure=measure).dropna().groupby(["A", "B", "seed"]):
        twins = twins.sort_values("label_noise")
        for less, more in itertools.pairwise(twins["measure"]):
            wins.append((1 + np.sign(more - less)) / 2)
    return np.mean(wins), len(wins)


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_agrees_with_naive_loops(keep):
    runs, design = zoo(keep=keep)
    measure = np.random.default_rng(1).integers(0, 4, len(runs)).astype(float)
    measure[::7] = np.nan
    assert randomisation_auc(measure, design).point == pytest.approx(naive(runs, measure)[0], abs=1e-12)


def test_rises_falls_and_cannot_tell():
    runs, design = zoo()
    noise = runs["label_noise"].to_numpy()
    assert randomisation_auc(noise, design).point == 1.0
    assert randomisation_auc(-noise, design).point == 0.0
    equal_in_twins = runs["A"].to_numpy() * 0.1 + runs["B"] ** 0.5 + runs["seed"]
    assert randomisation_auc(equal_in_twins.to_numpy(), design).point == 0.5


def test_each_level_is_compared_with_the_next_only():
    runs, design = zoo(seeds=1)
    measure = runs["label_noise"].map({0.0: 2.0, 0.3: 3.0, 1.0: 1.0}).to_numpy()
    assert randomisation_auc(measure, design).point == 0.5  # (up, down); with (0, 1) as well it were 1/3


def test_without_twins_it_is_undefined():
    runs, design = zoo(noises=(0.0,))
    assert math.isnan(randomisation_auc(np.ones(len(runs)), design).point)
    assert math.isnan(randomisation_auc(np.full(len(runs), np.nan), design).point)
    assert np.isnan(auc_replicates(np.ones((len(runs), 1)), design, 3, np.random.default_rng(0))).all()


def test_the_null_swaps_whole_recipes():
    """Two recipes of three seeds and two levels: four swaps, so the AUC of the noise is 0, ½ (twice) or 1."""
    runs = pd.DataFrame(itertools.product(range(2), (0.0, 1.0), range(3)), columns=["A", "label_noise", "seed"])
    design = Design.of(runs, ["A"])
    measure = runs["label_noise"].to_numpy()[:, None]
    null = auc_replicates(measure, design, 2000, np.random.default_rng(0))[0]
    shares = {value: (null == value).mean() for value in np.unique(null)}
    assert set(shares) == {0.0, 0.5, 1.0}
    assert shares[0.5] == pytest.approx(0.5, abs=0.05)


def test_the_null_of_three_levels_scores_the_shuffled_measure():
    runs = pd.DataFrame({"label_noise": [0.0, 0.5, 1.0], "seed": 0})
    design = Design.of(runs, [])
    null = auc_replicates(np.array([[1.0], [2.0], [3.0]]), design, 3000, np.random.default_rng(0))[0]
    expected = [
        np.mean([(1 + np.sign(b - a)) / 2 for a, b in itertools.pairwise(order)])
        for order in itertools.permutations((1, 2, 3))
    ]
    for value in (0.0, 0.5, 1.0):
        assert (null == value).mean() == pytest.approx(np.mean(np.equal(expected, value)), abs=0.03)
