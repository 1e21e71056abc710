"""Data sets: what is asked for (`DataSpec`), what comes (`Split`), and what there is (`DATASETS`).

Loading is ``from gapbench.datasets.load import load``: ``load`` here is that module, not the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapbench.datasets.spec import DataSpec, Split

if TYPE_CHECKING:
    from gapbench.datasets.load import DATASETS

__all__ = ["DATASETS", "DataSpec", "Split"]


def __getattr__(name: str) -> Any:
    # Light commands need DataSpec and not torch, which takes seconds to import.
    if name == "DATASETS":
        from gapbench.datasets.load import DATASETS

        return DATASETS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
