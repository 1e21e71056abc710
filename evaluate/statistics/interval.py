"""What every score is: a point, a 95 % interval, and the number of runs behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval; ``n`` runs entered. NaN stands for a point or bound that is not defined."""

    point: float
    low: float
    high: float
    n: int


UNDEFINED_SCORE = math.nan
LEVEL = 0.95


def score_interval(
    point: float, variance: float, *, clusters: int, comparisons: int, lowest: float = -1.0
) -> tuple[float, float]:
    """The 95 % interval of a mean of signs with this variance, by inverting the score test (Wilson).

    Formula: p = (point − lowest) / (1 − lowest) is read as a share of concordant comparisons, n = p (1 − p) / Var p as
    the number of independent ones that would be as precise, and the bounds are Wilson's with a t quantile on
    ``clusters`` − 1 degrees of freedom:
    (p + t²/2n ± t √(p(1−p)/n + t²/4n²)) / (1 + t²/n).
    They stay inside [lowest, 1] and keep their coverage near its ends, where a symmetric interval does not. n is never
    below ``clusters`` / 2: a mean of signs over pairs of exchangeable configurations varies no more than one over
    ``clusters`` / 2 disjoint pairs (Hoeffding 1963, section 5). A perfect score shows no variance, and n is then the
    number of ``comparisons`` between different configurations.

    Returns: (low, high); NaN where there are fewer than three clusters or the point is undefined.
    Source: Wilson 1927; effective size as Korn & Graubard 1998.
    """
    if clusters < 3 or math.isnan(point):
        return math.nan, math.nan
    width = 1.0 - lowest
    share = min(max((point - lowest) / width, 0.0), 1.0)
    spread, variance = share * (1.0 - share), variance / width**2
    size = spread / variance if variance > 0.0 and spread > 1e-12 else float(comparisons)
    size = max(size, clusters / 2)
    t = float(stdtrit(clusters - 1, (1.0 + LEVEL) / 2))
    centre = share + t * t / (2 * size)
    half = t * math.sqrt(spread / size + (t / (2 * size)) ** 2)
    scale = 1.0 + t * t / size
    return lowest + width * max((centre - half) / scale, 0.0), lowest + width * min((centre + half) / scale, 1.0)
