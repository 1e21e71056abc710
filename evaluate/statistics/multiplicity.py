"""Many measures are tested at once: p-values that account for it."""

from __future__ import annotations

import numpy as np

from gapbench.evaluate.statistics.pairs import Floats


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values: to reject where they are at most α keeps the chance of any false rejection at α.

    Formula: with p ascending, max over j <= i of min(1, (m − j + 1) p_j). Valid whatever the dependence. NaN (not
    tested) stays NaN and is not counted. ``p`` (measures,). Source: Holm 1979.
    """
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p-values: to reject where they are at most q keeps the expected share of false rejections at q.

    Formula: with p ascending, min over j >= i of min(1, m p_j / j). For independent or positively dependent tests. NaN
    stays NaN and is not counted. ``p`` (measures,). Source: Benjamini & Hochberg 1995.
    """
    return _adjusted(
        p,
        lambda ordered: np.minimum.accumulate((ordered * len(ordered) / np.arange(1, len(ordered) + 1))[::-1])[::-1],
    )


def _adjusted(p: Floats, rule: object) -> Floats:
    out = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    assert callable(rule)
    out[order] = np.minimum(rule(p[order]), 1.0)
    return out
