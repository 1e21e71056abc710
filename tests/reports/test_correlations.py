from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from gapbench.reports import correlations, figures


@pytest.fixture(scope="module")
def alike(small: Any) -> pd.DataFrame:
    return correlations.rank_correlations(small, list(small.measures))


def test_correlations_are_scipys_over_the_runs_that_both_have(small: Any, alike: pd.DataFrame) -> None:
    kept = small.runs["converged"]
    assert small.values.loc[kept, "measure_05"].isna().any()
    for one, other in (("measure_00", "measure_01"), ("measure_05", "measure_03"), ("num_params", "measure_05")):
        pair = small.values.loc[kept, [one, other]].dropna()
        sign = small.measures[one].sign * small.measures[other].sign
        assert alike.loc[one, other] == pytest.approx(sign * spearmanr(pair[one], pair[other]).statistic, abs=1e-12)
        assert alike.loc[other, one] == alike.loc[one, other]
    assert alike.loc["measure_00", "measure_03"] < 0 or small.measures["measure_03"].sign == -1


def test_what_is_constant_or_undefined_has_none(small: Any) -> None:
    values = small.values.assign(measure_01=1.0)
    found = correlations.rank_correlations(replace(small, values=values), list(small.measures))
    assert found[["measure_01", "never"]].isna().all(axis=None)
    assert set(correlations.known(found)) == set(found) - {"measure_01", "never"}
    assert "never" not in dict(correlations.neighbours(found)["measure_00"])
    assert correlations.neighbours(found)["never"] == []


def test_clusters_put_the_alike_together() -> None:
    random = np.random.default_rng(0)
    groups = random.standard_normal((100, 2))
    values = np.repeat(groups, 4, axis=1) + 0.1 * random.standard_normal((100, 8))
    names = [f"m{at}" for at in range(8)]
    shuffled = list(random.permutation(names))
    frame = pd.DataFrame(np.corrcoef(values.T), names, names).loc[shuffled, shuffled]
    order = list(correlations.clustered(frame).index)
    assert {frozenset(order[:4]), frozenset(order[4:])} == {frozenset(names[:4]), frozenset(names[4:])}


def test_neighbours_are_the_strongest_of_either_sign() -> None:
    frame = pd.DataFrame([[1, 0.2, -0.9], [0.2, 1, np.nan], [-0.9, np.nan, 1]], list("abc"), list("abc"))
    assert correlations.neighbours(frame, 1) == {"a": [("c", -0.9)], "b": [("a", 0.2)], "c": [("a", -0.9)]}


def test_the_packed_map_unpacks_to_its_hundredths(alike: pd.DataFrame) -> None:
    known = correlations.known(alike)
    packed = correlations.packed(known)
    codes = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(len(known), -1).astype(float)
    unpacked = np.where(codes == 0, np.nan, (codes - 128) / 100)
    np.testing.assert_allclose(unpacked, known.loc[packed["names"], packed["names"]], atol=0.00501)


def test_the_map_is_one_picture_with_its_names(alike: pd.DataFrame) -> None:
    known = correlations.known(alike)
    root = ElementTree.fromstring(figures.svg(correlations.correlation_map(known), "p-"))
    images = [element for element in root.iter() if element.tag.endswith("image")]
    assert len(images) == 1, "cells are pixels, not a rectangle each"
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    assert texts == list(correlations.clustered(known).index)
    assert all(name.startswith("p-") for element in root.iter() if (name := element.get("id")))
