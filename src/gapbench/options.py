"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gapbench import completion

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


def options(*several: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator that adds several options, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return add


ONLY = click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    shell_complete=completion.complete_measure,
    help="Only measures whose name matches, such as 'path_*'; may be given again.",
)
FILES = click.option(
    "--measures", "files", multiple=True, type=FILE, metavar="FILE", help="A Python file with more measures."
)
SEED = click.option("--seed", default=0, show_default=True, help="The root of every random draw.")
