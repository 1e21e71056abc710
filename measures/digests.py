"""A hash of the code behind a function: its own, and that of the functions, classes and constants of ours it uses."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

_CONSTANTS = (bool, int, float, str, tuple, frozenset)


def digest(functions: Iterable[Callable[..., Any]]) -> str:
    """Twelve hexadecimal digits of the code of these functions; comments, layout and docstrings do not count.

    Followed are the names that a function uses in its own module and in gapbench, through any number of calls, but
    not into other packages.
    """
    parts: dict[str, str] = {}
    pending = [inspect.unwrap(function) for function in functions]
    while pending:
        value = pending.pop()
        name = f"{value.__module__}.{value.__qualname__}"
        if name not in parts:
            parts[name] = _code(value)
            if isinstance(value, FunctionType):
                for used, found in _uses(value):
                    if isinstance(found, FunctionType | type):
                        pending.append(found)
                    else:
                        parts[f"{name}: {used}"] = repr(found)
    # Names of modules are left out: a file of measures may be moved or renamed.
    text = "\n".join(sorted(parts.values()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _uses(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The global names of a function that lead to code or constants of its own module or of gapbench."""
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, FunctionType | type):
            home = value.__module__
            if home == function.__module__ or home.partition(".")[0] == "gapbench":
                yield name, value
        elif isinstance(value, _CONSTANTS):
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def _code(value: FunctionType | type) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    except (OSError, TypeError, SyntaxError):
        # A lambda inside an expression, or code typed at a prompt, has no source that parses by itself.
        if isinstance(value, FunctionType):
            return f"{value.__code__.co_code.hex()} {value.__code__.co_names} {value.__code__.co_consts}"
        return value.__qualname__
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            # A declaration (source, sign, revision) is not what computes the value.
            node.decorator_list = []
    return ast.dump(tree)
