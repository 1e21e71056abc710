"""What every test shares: shape checks on, the checkout off ``sys.path``, one thread, small trained networks."""

from __future__ import annotations

import os
import random
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]

# With the checkout on sys.path, `import datasets` would find ours instead of Hugging Face's.
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]

# beartype draws from the global generator to pick which items of a list to check, and the tests watch that generator:
# it gets one of its own.
random.getrandbits, _getrandbits = random.Random(0).getrandbits, random.getrandbits
import beartype._check.code.codemain  # noqa: E402

random.getrandbits = _getrandbits
from beartype import BeartypeConf, beartype  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# The shapes in annotations are checked on every call that a test makes; an int may stand for a float, as in PEP 484.
# jaxtyping takes the name of a checker, not the checker, so this one needs a module.
_checker = types.ModuleType("gapbench_shape_checker")
vars(_checker)["check"] = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker
install_import_hook("gapbench", "gapbench_shape_checker.check")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, or a skip that says how to give one."""
    folder = os.environ.get("GAPBENCH_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real MNIST and CIFAR-10 are not here: set GAPBENCH_DATA to their folder")
    return Path(folder)
