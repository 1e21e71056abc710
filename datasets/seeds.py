"""Seeds and generators: every random draw of gapbench starts here."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(root: int, *names: str | int) -> int:
    """A seed for the stream called ``names`` under the seed ``root``.

    Formula: the first 63 bits of SHA-256 of the names, each written with its length, so that no two streams
    coincide and no arithmetic on seeds is needed.

    Returns: an integer in [0, 2^63).
    """
    digest = hashlib.sha256()
    for name in (root, *names):
        text = str(name).encode()
        digest.update(f"{type(name).__name__}:{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def generator(root: int, *names: str | int) -> torch.Generator:
    """A CPU generator seeded with ``derive_seed(root, *names)``; the global generators are never touched."""
    return torch.Generator().manual_seed(derive_seed(root, *names))
