"""The phenomena that every theory of generalization must explain, each a file that makes it.

`PHENOMENA` is a read-only mapping from name to entry. A new phenomenon is a new file, named here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gapbench.evaluate.phenomena.benign_overfitting import BENIGN_OVERFITTING
from gapbench.evaluate.phenomena.bias_variance import BIAS_VARIANCE
from gapbench.evaluate.phenomena.double_descent import DOUBLE_DESCENT
from gapbench.evaluate.phenomena.expressivity import EXPRESSIVITY
from gapbench.evaluate.phenomena.grokking import GROKKING
from gapbench.evaluate.phenomena.implicit_bias import IMPLICIT_BIAS
from gapbench.evaluate.phenomena.information_plane import INFORMATION_PLANE
from gapbench.evaluate.phenomena.lottery_ticket import LOTTERY_TICKET
from gapbench.evaluate.phenomena.memorisation_order import MEMORISATION_ORDER
from gapbench.evaluate.phenomena.minimum_norm_kernel import MINIMUM_NORM_KERNEL
from gapbench.evaluate.phenomena.phenomenon import Phenomenon
from gapbench.evaluate.phenomena.randomisation import RANDOMISATION
from gapbench.evaluate.phenomena.regularisers import REGULARISERS_ENTRY
from gapbench.evaluate.phenomena.robustness_law import ROBUSTNESS_LAW
from gapbench.evaluate.phenomena.sample_complexity import SAMPLE_COMPLEXITY
from gapbench.evaluate.phenomena.uniform_convergence_fails import UNIFORM_CONVERGENCE_FAILS
from gapbench.evaluate.phenomena.vc_second_descent import VC_SECOND_DESCENT
from gapbench.evaluate.phenomena.weights_predict_accuracy import WEIGHTS_PREDICT_ACCURACY

PHENOMENA: Mapping[str, Phenomenon] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            EXPRESSIVITY,
            RANDOMISATION,
            REGULARISERS_ENTRY,
            MEMORISATION_ORDER,
            DOUBLE_DESCENT,
            VC_SECOND_DESCENT,
            BIAS_VARIANCE,
            BENIGN_OVERFITTING,
            MINIMUM_NORM_KERNEL,
            IMPLICIT_BIAS,
            SAMPLE_COMPLEXITY,
            ROBUSTNESS_LAW,
            UNIFORM_CONVERGENCE_FAILS,
            GROKKING,
            LOTTERY_TICKET,
            INFORMATION_PLANE,
            WEIGHTS_PREDICT_ACCURACY,
        )
    }
)

__all__ = ["PHENOMENA", "Phenomenon"]
