"""What the shell completes: names of measures and zoos, found without importing torch."""

from __future__ import annotations

import ast
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

_INSTRUCTIONS = {
    "bash": 'eval "$(_GAPBENCH_COMPLETE=bash_source gapbench)"',
    "zsh": 'eval "$(_GAPBENCH_COMPLETE=zsh_source gapbench)"',
    "fish": "_GAPBENCH_COMPLETE=fish_source gapbench | source",
}


def measure_names() -> list[str]:
    """The names of the built-in measures, read off the source: importing the registry would import torch."""
    # find_spec does not import the package; importlib.resources would.
    package = find_spec("gapbench.measures")
    folders = package.submodule_search_locations if package is not None else None
    sources = [file.read_text(encoding="utf-8") for folder in folders or () for file in Path(folder).glob("*.py")]
    return sorted(name for source in sources for node in ast.parse(source).body for name in _declared(node))


def _declared(statement: ast.stmt) -> list[str]:
    """The measures that a statement declares: a decorated function, or ``per_sample(function)``."""
    if isinstance(statement, ast.FunctionDef):
        return [statement.name] if any(_calls(mark, "measure") for mark in statement.decorator_list) else []
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and _calls(statement.value, "per_sample")
    ):
        return [f"{given.id}_per_sample" for given in statement.value.args if isinstance(given, ast.Name)]
    return []


def _calls(expression: ast.expr, name: str) -> bool:
    return isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == name


def complete_measure(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Measures that begin so."""
    return [CompletionItem(name) for name in measure_names() if name.startswith(incomplete)]


def complete_grid(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Bundled zoos and TOML files that begin so."""
    bundled = (
        file.name[:-5] for file in (files("gapbench.evaluate") / "zoos").iterdir() if file.name.endswith(".toml")
    )
    own = (str(path) for path in Path().glob(f"{incomplete}*") if path.is_dir() or path.suffix == ".toml")
    return [CompletionItem(name) for name in sorted({*bundled, *own}) if name.startswith(incomplete)]


def complete_zoo(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Stored zoos that begin so."""
    names = (path.parent.name for path in Path("zoos").glob("*/zoo.toml"))
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def complete_phenomenon(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Phenomena that begin so."""
    return [CompletionItem(name) for name in phenomenon_names() if name.startswith(incomplete)]


def phenomenon_names() -> list[str]:
    """The names of the phenomena, read off the source: importing them would import torch."""
    package = find_spec("gapbench.evaluate")
    folders = package.submodule_search_locations if package is not None else None
    sources = [
        file.read_text(encoding="utf-8")
        for folder in folders or ()
        for file in (Path(folder) / "phenomena").glob("*.py")
    ]
    calls = (node for source in sources for node in ast.walk(ast.parse(source)) if _calls_phenomenon(node))
    return sorted(
        keyword.value.value
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    )


def _calls_phenomenon(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Phenomenon"


def instructions(shell: str) -> str:
    """The line that turns completion on, for the start-up file of a shell."""
    return _INSTRUCTIONS[shell]
