"""The network in the README keeps the contract."""

from __future__ import annotations

import re
from pathlib import Path

from gapbench.models.network_contract import check_network
from gapbench.models.plugins import check_fields, own_architectures

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_network_is_sound(tmp_path: Path) -> None:
    code = re.search(r"```python\n(import math\n.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert code is not None
    file = tmp_path / "mine.py"
    file.write_text(code.group(1), encoding="utf-8")
    ((name, own),) = own_architectures(file).items()
    checks, trained = check_network(name, own, check_fields(own))
    assert [one.what for one in checks if not one.passed] == []
    assert trained is not None
