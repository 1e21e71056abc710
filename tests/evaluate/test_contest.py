"""Places and distances to the best come from one set of resamples, on the runs that two measures share."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.evaluate.contest import Contest, places
from gapbench.evaluate.estimates import SCORES, estimates
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import granulated_tau
from gapbench.evaluate.statistics.randomisation import randomisation_auc
from gapbench.evaluate.statistics.rank import tau_a, tau_b, within_noise_tau
from gapbench.evaluate.statistics.resampling import resampled_counts

PLAIN = {
    "within_noise_tau": within_noise_tau,
    "granulated_tau": lambda x, y, design: granulated_tau(x, y, design).mean,
    "tau_b": tau_b,
    "tau_a": tau_a,
    "randomisation_auc": lambda x, _, design: randomisation_auc(x, design),
}


@pytest.fixture(scope="module")
def contest():
    """Five measures: two nearly alike, one worse, one of chance, one with missing values; and one that is absent."""
    rng = np.random.default_rng(0)
    rows = itertools.product(range(2), range(3), range(3), (0.0, 0.5), range(2))
    runs = pd.DataFrame(list(rows), columns=["a", "b", "c", "label_noise", "seed"])
    design = Design.of(runs, ["a", "b", "c"])
    gap = rng.standard_normal(design.recipes)[design.recipe] + 0.2 * rng.standard_normal(len(runs)) + design.level
    noises = (0.5, 0.5, 2.0, 50.0, 0.6)
    values = np.stack([gap + size * rng.standard_normal(len(gap)) for size in noises], axis=1)
    values[:, 1] = values[:, 0] + 0.02 * rng.standard_normal(len(gap))
    values[rng.random(len(gap)) < 0.15, 4] = np.nan
    values = np.column_stack([values, np.full(len(gap), np.nan)])
    return Contest(values, gap, design, resampled_counts(design.recipes, 400, rng))


@pytest.fixture(scope="module")
def found(contest):
    return places(contest, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("score", SCORES)
def test_distances_are_those_on_the_runs_that_both_cover(contest, found, score):
    own = [PLAIN[score](column, contest.gap, contest.design).point for column in contest.values.T]
    best = int(np.nanargmax(own))
    for column in range(5):
        both = np.isfinite(contest.values[:, column]) & np.isfinite(contest.values[:, best])
        kept = contest.design.take(both)
        expected = [PLAIN[score](contest.values[both, at], contest.gap[both], kept).point for at in (column, best)]
        assert found.loc[column, f"{score}_behind"] == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert found.loc[best, [f"{score}_behind", f"{score}_behind_low", f"{score}_behind_high"]].tolist() == [0, 0, 0]
    assert found.loc[best, f"{score}_beats_best"] == 0.5
    assert found.loc[3, f"{score}_behind_high"] < 0  # chance is worse than the best beyond doubt
    assert found.loc[3, f"{score}_beats_best"] < 0.025
    assert found.loc[5].isna().all()


@pytest.mark.parametrize("score", SCORES)
def test_places_and_bounds_are_those_of_the_scaled_resamples(contest, found, score):
    rank = "rank" if score == SCORES[0] else f"{score}_rank"
    points, draws = [], []
    for column in range(5):
        covered = np.isfinite(contest.values[:, column])
        measure = contest.values[covered][:, [column]]
        one = estimates(measure, contest.gap[covered], contest.design.take(covered), contest.drawn)[0][score]
        points.append(one.point)
        centred = one.resamples - one.resamples.mean()
        widened = scipy.stats.t.ppf(0.975, one.recipes - 1) / scipy.stats.norm.ppf(0.975)
        draws.append(one.point + centred * np.sqrt(one.variance) / one.resamples.std() * widened)
    order = pd.DataFrame(np.stack(draws, axis=1)).rank(axis=1, ascending=False)
    assert found[rank].dropna().tolist() == pd.Series(points).rank(ascending=False).tolist()
    assert found[f"{rank}_low"].dropna().tolist() == pytest.approx(order.quantile(0.025).tolist())
    assert found[f"{rank}_high"].dropna().tolist() == pytest.approx(order.quantile(0.975).tolist())
    best = int(np.argmax(points))
    if best in (0, 1):
        difference = draws[1 - best] - draws[best]
        bounds = found.loc[1 - best, [f"{score}_behind_low", f"{score}_behind_high"]].tolist()
        assert bounds == pytest.approx(np.quantile(difference, [0.025, 0.975]).tolist(), abs=1e-12)
        assert found.loc[1 - best, f"{score}_beats_best"] == pytest.approx(np.mean((np.sign(difference) + 1) / 2))


def test_nothing_to_rank():
    design = Design.of(pd.DataFrame({"a": range(4)}), ["a"])
    empty = Contest(np.full((4, 1), np.nan), np.arange(4.0), design, resampled_counts(4, 5, np.random.default_rng(0)))
    assert places(empty, [0]).isna().all(axis=None)
    assert len(places(empty, [])) == 0


def test_measures_without_a_run_in_common_have_no_distance(contest):
    halves = np.array([contest.values[:, 0], contest.values[:, 2]]).T
    middle = len(halves) // 2
    halves[middle:, 0], halves[:middle, 1] = np.nan, np.nan
    found = places(Contest(halves, contest.gap, contest.design, contest.drawn), [0, 1])
    assert found["rank"].tolist() == [1.0, 2.0]
    assert found.loc[1, "within_noise_tau_behind":"within_noise_tau_beats_best"].isna().all()
    assert found.loc[0, "within_noise_tau_behind"] == 0


def test_a_perfect_score_of_few_runs_has_no_sure_place(contest):
    few = np.stack([contest.gap, contest.values[:, 0]], axis=1)
    few[contest.design.recipe > 3, 0] = np.nan
    found = places(Contest(few, contest.gap, contest.design, contest.drawn), [0, 1])
    assert found.loc[0, ["rank_low", "rank_high"]].tolist() == [1.0, 2.0]
    whole = places(Contest(few[:, [1, 1]], contest.gap, contest.design, contest.drawn), [0, 1])
    assert whole["within_noise_tau_behind_low"].tolist() == [0.0, 0.0]


def test_of_equal_scores_the_first_column_given_leads(contest):
    values = np.stack([contest.values[:, 3], contest.gap, contest.gap], axis=1)
    values[40:, 2] = np.nan
    for order in ([1, 2, 0], [2, 1, 0]):
        found = places(Contest(values, contest.gap, contest.design, contest.drawn), order)
        covered = np.isfinite(values[:, order[0]])
        coin = tau_b_within(values[covered, 0], contest.gap[covered], contest.design.take(covered))
        assert found.loc[0, "within_noise_tau_behind"] == pytest.approx(coin - 1.0)


def tau_b_within(values, gap, design):
    return within_noise_tau(values, gap, design).point
