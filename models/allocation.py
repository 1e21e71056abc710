"""How the C library hands memory out."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from glibc's malloc.h."""
_LARGEST = 1 << 30
_LARGEST_OF_OLD_VERSIONS = 1 << 25


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Have large freed blocks handed out again, instead of given back to the system; whether the C library can.

    By default each large tensor comes as new pages, which the system must fill with zeros: for convolutions more than
    a third of a training step. It changes no result, and a process's memory stays what its peak was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD_VERSIONS)
    return bool(kept and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def ask_for_huge_pages() -> None:
    """Have PyTorch ask the system for huge pages for large tensors, in this process and those it starts.

    Each page costs a fault when it is first written, and a huge one stands for 512. PyTorch looks once, at its first
    tensor: call this before. A variable THP_MEM_ALLOC_ENABLE of the user's own stays as it is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
