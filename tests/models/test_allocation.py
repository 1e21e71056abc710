"""Freed memory is handed out again: a second large block costs no new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from gapbench.models.allocation import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
# The default adapts to blocks of up to 32 MiB. An aligned block does not fit where one of its size was: it takes a few
# until two such places are one.
size = 64 << 20
for _ in range(30):
    torch.ones(size // 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(size // 4)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (5 * size))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_blocks_cost_no_new_pages() -> None:
    found = {}
    for way in ("default", "kept"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
        found[way] = float(done.stdout)
    assert found["kept"] < 1e-4
    # The control. Where the system hands out huge pages, a fault is for 512 small ones.
    assert found["default"] > 1e-3


def _asked(environment: dict[str, str]) -> str:
    program = """
import os
from gapbench.models.allocation import ask_for_huge_pages

ask_for_huge_pages()
print(os.environ["THP_MEM_ALLOC_ENABLE"])
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def test_huge_pages_are_asked_for_unless_the_user_said_otherwise() -> None:
    bare = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    assert _asked(bare) == "1"
    assert _asked({**bare, "THP_MEM_ALLOC_ENABLE": "0"}) == "0"
