"""Who may import whom: datasets <- models <- measures <- evaluate <- reports <- cli, and nothing by its bare name."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("datasets", "models", "measures", "evaluate", "reports")


def imported(source: str, package: str) -> Iterator[str]:
    """Every module that a file of ``package`` imports, as an absolute dotted name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def offences(source: str, layer: str, package: str) -> list[str]:
    """The imports that reach to the right of ``layer``, past the layers, or to a bare name."""
    found = []
    for name in imported(source, package):
        parts = name.split(".")
        if parts[0] in LAYERS:
            found.append(f"{name}: write gapbench.{name}")
        if parts[0] != "gapbench" or len(parts) == 1:
            continue
        right = parts[1] in LAYERS and LAYERS.index(parts[1]) > LAYERS.index(layer)
        if right or parts[1] in ("cli", "api", "completion"):
            found.append(name)
    return found


@pytest.mark.parametrize("file", [file for layer in LAYERS for file in (ROOT / layer).rglob("*.py")], ids=str)
def test_imports_point_left(file: Path) -> None:
    folder = file.relative_to(ROOT).parent
    package = ".".join(("gapbench", *folder.parts))
    assert offences(file.read_text(encoding="utf-8"), folder.parts[0], package) == []


@pytest.mark.parametrize(
    "line",
    [
        "import gapbench.evaluate",
        "from gapbench import evaluate",
        "from gapbench.evaluate import table",
        "from ..evaluate import table",
        "from .. import evaluate",
        "import gapbench.cli",
        "import measures",
        "from datasets import load",
        "def f():\n    from gapbench.reports.html import page",
    ],
)
def test_an_import_to_the_right_is_caught(line: str) -> None:
    assert offences(line, "measures", "gapbench.measures")


def test_imports_to_the_left_are_allowed() -> None:
    assert (
        offences("from gapbench.datasets import load\nfrom .registry import read", "measures", "gapbench.measures")
        == []
    )


def test_every_package_is_listed() -> None:
    """setuptools installs only what pyproject.toml lists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {file.parent.relative_to(ROOT) for layer in LAYERS for file in (ROOT / layer).rglob("*.py")}
    assert {"gapbench", *(".".join(("gapbench", *folder.parts)) for folder in folders)} == set(project["packages"])
    for package, folder in project["package-dir"].items():
        assert (ROOT / folder).is_dir(), package


def test_bare_names_are_not_ours() -> None:
    """`datasets` and `evaluate` are Hugging Face's: installing gapbench must not shadow them."""
    for layer in LAYERS:
        found = importlib.util.find_spec(layer)
        assert found is None or ROOT not in Path(found.origin or "/").parents, layer


@pytest.mark.parametrize("module", ["gapbench", "gapbench.cli", "gapbench.datasets.spec", "gapbench.evaluate.zoo"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
