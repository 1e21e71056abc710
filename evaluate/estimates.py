"""The scores of measures that are defined on the same runs, with what each recipe contributes to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import PSI, CellPairs, granulated_estimates
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.randomisation import auc_estimates
from gapbench.evaluate.statistics.rank import noise_strata, tau_estimates
from gapbench.evaluate.statistics.resampling import Estimate

SCORES = ("within_noise_tau", "granulated_tau", "tau_b", "tau_a", "randomisation_auc")
"""The scores, in the order by which measures are sorted, best first."""

PSI_PREFIX = "psi_"


def estimates(
    measures: Floats,
    gap: Floats,
    design: Design,
    drawn: NDArray[np.int64] | None = None,
    *,
    scores: Sequence[str] = SCORES,
) -> list[dict[str, Estimate]]:
    """For each column of measures (runs, measures), finite: these scores, and with granulated tau the axes' psi.

    ``drawn`` (resamples, recipes): how often each recipe is drawn, for `Estimate.resamples`.
    """
    strata = {"within_noise_tau": noise_strata(gap, design)}
    out: list[dict[str, Estimate]] = [{} for _ in range(measures.shape[1])]
    for score in scores:
        if score == "granulated_tau":
            granulated = granulated_estimates(measures, gap, CellPairs.of(design, gap), drawn)
            for found, by_axis in zip(out, granulated):
                found["granulated_tau"] = by_axis[PSI]
                found.update({PSI_PREFIX + axis: by_axis[axis] for axis in design.axes})
            continue
        if score == "randomisation_auc":
            columns = auc_estimates(measures, design, drawn)
        else:
            runs = strata.get(score, [np.arange(len(gap))])
            columns = tau_estimates(measures, gap, design, runs, "a" if score == "tau_a" else "b", drawn=drawn)
        for found, estimate in zip(out, columns):
            found[score] = estimate
    return out
