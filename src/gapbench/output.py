"""Where a command's result goes: the terminal or a file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(renderable: RenderableType, out: Path | None) -> None:
    """Print what rich renders, or write it to a file, 100 columns wide."""
    from rich.console import Console

    if out is None:
        console = Console()
        # A pipe or a log has no width of its own; 80 columns, rich's guess, would cut the table.
        (console if console.is_terminal else Console(width=100)).print(renderable)
        return
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    deliver(capture.get(), out)


def follow(made: Callable[[], RenderableType], seconds: float) -> None:
    """Show what ``made`` gives anew every so many seconds, until interrupted."""
    from rich.live import Live

    with Live(made(), auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(made(), refresh=True)


def deliver(content: str, out: Path | None) -> None:
    """Print a text, or write it to a file."""
    if out is None:
        click.echo(content, nl=not content.endswith("\n"))
        return
    store(content.encode(), out)


def store(content: bytes, out: Path) -> None:
    """Write a file, and say so."""
    from gapbench.evaluate.files import storing

    with storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    click.echo(f"written: {out}")
