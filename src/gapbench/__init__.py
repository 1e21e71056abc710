"""gapbench: which quantity of a trained network, computed without held-out data, predicts its generalization gap?

``run`` trains a zoo and reads its measures, ``read`` reads measures of one network and ``read_layers`` their terms by
layer, ``leaderboard`` scores a zoo, ``report`` writes its page, ``measure`` declares a new measure and
``architecture`` a new network. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapbench.api import compare, leaderboard, plan, read, read_layers, report, run, score
    from gapbench.measures.registry import Estimate, LayerSum, Undefined, measure, per_sample, quantity, variants
    from gapbench.models.plugins import architecture

__version__ = version("gapbench")

_HOMES = {
    **dict.fromkeys(
        ("compare", "leaderboard", "plan", "read", "read_layers", "report", "run", "score"), "gapbench.api"
    ),
    **dict.fromkeys(
        ("Estimate", "LayerSum", "Undefined", "measure", "per_sample", "quantity", "variants"),
        "gapbench.measures.registry",
    ),
    "architecture": "gapbench.models.plugins",
}

__all__ = [
    "Estimate",
    "LayerSum",
    "Undefined",
    "__version__",
    "architecture",
    "compare",
    "leaderboard",
    "measure",
    "per_sample",
    "plan",
    "quantity",
    "read",
    "read_layers",
    "report",
    "run",
    "score",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gapbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
