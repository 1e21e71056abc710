"""The phenomena that every theory of generalization must explain, each a file that makes it.

`PHENOMENA` is a read-only mapping from name to entry. A new phenomenon is a new file, named here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gapbench.evaluate.phenomena.expressivity import EXPRESSIVITY
from gapbench.evaluate.phenomena.phenomenon import Phenomenon

PHENOMENA: Mapping[str, Phenomenon] = MappingProxyType({entry.name: entry for entry in (EXPRESSIVITY,)})

__all__ = ["PHENOMENA", "Phenomenon"]
