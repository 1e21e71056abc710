"""The command line. Every command imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from gapbench import completion
from gapbench.datasets.errors import InputError
from gapbench.phenomena_commands import phenomena, phenomenon
from gapbench.registry_commands import catalog, check, measures, show
from gapbench.result_commands import export, leaderboard, report
from gapbench.table_commands import compare, score
from gapbench.zoo_commands import adopt, plan, run, status, verify


class _Group(click.Group):
    """Prints what the user can mend as one message, without a traceback, and exits with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo(f"\ngapbench: {interrupt or 'stopped'}", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader of a pipe (head, say) went away; stdout must not be flushed again at exit.
            sys.stdout = io.StringIO()
            ctx.exit(1)
        except (InputError, OSError) as error:
            click.echo(f"gapbench: {error}", err=True)
            ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gapbench")
def main() -> None:
    """Which quantity of a trained network, computed without held-out data, predicts its generalization gap?

    \b
    gapbench run quick                    train the demonstration zoo and read every measure
    gapbench status quick --watch 5       see how far it is
    gapbench adopt my_networks            take in networks that were trained elsewhere
    gapbench leaderboard                  score the measures against the true gap
    gapbench report                       write the offline HTML report
    gapbench score models.csv --target gap  score any table of models and measures
    gapbench compare zoos/a zoos/b        say which scores moved, and whether beyond their uncertainty
    gapbench export --format latex        the scores as LaTeX, BibTeX, CSV, Markdown or Parquet
    gapbench phenomenon double_descent    reproduce a phenomenon of generalization and say whether it was seen
    gapbench measures 'path_*'            list measures
    gapbench check mine.py                test a measure of your own against the contract
    gapbench run quick --measures mine.py read it on every stored network

    Tab completion: gapbench completion bash
    """
    from gapbench.models.allocation import ask_for_huge_pages

    ask_for_huge_pages()


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def complete(shell: str) -> None:
    """Print the line that turns on tab completion, for your shell's start-up file.

    \b
    gapbench completion bash >> ~/.bashrc
    """
    click.echo(completion.instructions(shell))


for command in (run, plan, status, verify, adopt, leaderboard, export, report, score, compare, phenomenon, phenomena):
    main.add_command(command)
for command in (measures, show, check, catalog, complete):
    main.add_command(command)
