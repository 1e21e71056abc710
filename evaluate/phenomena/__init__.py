"""The phenomena that every theory of generalization must explain, each a file that makes it.

`PHENOMENA` is a read-only mapping from name to entry. A new phenomenon is a new file, named here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gapbench.evaluate.phenomena.benign_overfitting import BENIGN_OVERFITTING
from gapbench.evaluate.phenomena.double_descent import DOUBLE_DESCENT
from gapbench.evaluate.phenomena.expressivity import EXPRESSIVITY
from gapbench.evaluate.phenomena.implicit_bias import IMPLICIT_BIAS
from gapbench.evaluate.phenomena.phenomenon import Phenomenon
from gapbench.evaluate.phenomena.sample_complexity import SAMPLE_COMPLEXITY

PHENOMENA: Mapping[str, Phenomenon] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            EXPRESSIVITY,
            DOUBLE_DESCENT,
            BENIGN_OVERFITTING,
            IMPLICIT_BIAS,
            SAMPLE_COMPLEXITY,
        )
    }
)

__all__ = ["PHENOMENA", "Phenomenon"]
