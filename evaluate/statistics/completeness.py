"""How complete a grid is: which configurations of the full factorial design exist, and with how many seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapbench.evaluate.statistics.design import Design


@dataclass(frozen=True)
class Completeness:
    """``configurations`` that exist of the ``full`` design, all values of all axes and label noises crossed; runs a
    configuration, at least and at most; ``values`` of each axis, and how many runs have each.
    """

    configurations: int
    full: int
    fewest_runs: int
    most_runs: int
    values: dict[str, tuple[int, ...]]

    @property
    def complete(self) -> bool:
        """Every configuration exists."""
        return self.configurations == self.full

    @property
    def balanced(self) -> bool:
        """Every configuration exists, with equally many runs."""
        return self.complete and self.fewest_runs == self.most_runs

    def sentence(self) -> str:
        """For a reader: "96 of 128 configurations (75 %), 1 to 3 runs each"."""
        share = 100 * self.configurations / self.full if self.full else 0
        runs = (
            f"{self.fewest_runs}" if self.fewest_runs == self.most_runs else f"{self.fewest_runs} to {self.most_runs}"
        )
        return f"{self.configurations} of {self.full} configurations ({share:.0f} %), {runs} run(s) each"


def completeness(design: Design) -> Completeness:
    """Of the runs of this design."""
    columns = {**dict(zip(design.axes, design.codes.T)), "label_noise": design.level}
    values = {name: tuple(int(k) for k in np.unique(column, return_counts=True)[1]) for name, column in columns.items()}
    if not len(design):
        return Completeness(0, 0, 0, 0, values)
    counts = np.unique(np.stack([design.recipe, design.level]), axis=1, return_counts=True)[1]
    full = int(np.prod([len(count) for count in values.values()], dtype=np.int64))
    return Completeness(len(counts), full, int(counts.min()), int(counts.max()), values)
