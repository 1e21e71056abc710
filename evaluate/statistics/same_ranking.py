"""Measures that order the runs alike: the same values up to an increasing map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from gapbench.evaluate.statistics.pairs import Floats, dense_ranks, significant


def same_rankings(measures: Floats, names: Sequence[str], groups: Sequence[Hashable]) -> Mapping[str, str]:
    """Which measures only repeat the ranking of another: name -> the name that stands for all of its ranking.

    Two columns of ``measures`` (runs, measures), multiplied by their declared signs, repeat one another where both are
    defined on the same runs and have the same ranks, ties included, there, up to a relative 1e-12 of each value: one is
    then an increasing function of the other on these runs, and every statistic of ranks of runs is equal. (What first
    averages values, as granulated tau does over seeds, need not be.) The shortest name stands for the others, of
    equally short ones the first in the alphabet. A measure that is constant ranks nothing and repeats nothing. Only
    measures of one of ``groups`` (measures,) are compared.
    """
    ranks = dense_ranks(significant(measures))
    found: dict[tuple[Hashable, bytes], list[str]] = {}
    for at, (name, group) in enumerate(zip(names, groups, strict=True)):
        if np.nanmax(ranks[:, at], initial=0.0) > 0:
            found.setdefault((group, ranks[:, at].tobytes()), []).append(name)
    return {
        name: stands[0]
        for alike in found.values()
        for stands in [sorted(alike, key=lambda name: (len(name), name))]
        for name in stands[1:]
    }
