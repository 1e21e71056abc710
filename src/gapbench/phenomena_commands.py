"""The commands on phenomena: one, or all with their page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gapbench import completion
from gapbench.datasets.errors import InputError, unknown
from gapbench.options import FILE, options

if TYPE_CHECKING:
    from gapbench.evaluate.phenomena import Phenomenon
    from gapbench.evaluate.phenomena.experiment import Result

WORK = options(
    click.option("--quick", "settings", flag_value="quick", default=True, help="Minutes on two cores (the default)."),
    click.option(
        "--full", "settings", flag_value="full", help="Larger settings, nearer the paper's, for a bigger machine."
    ),
    click.option(
        "--out", type=FILE, metavar="DIR", default=Path("phenomena"), help="Their folder  [default: phenomena]"
    ),
    click.option("--seed", default=0, show_default=True, help="The root of every random draw."),
    click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes."),
    click.option("--data-dir", type=FILE, metavar="DIR", help="Where data files are  [default: $GAPBENCH_DATA]"),
    click.option("--again", is_flag=True, help="Work again what is stored."),
    click.option("--plan", is_flag=True, help="Say how much is to be done, and do nothing."),
    click.option("--no-progress", is_flag=True, help="Print no progress."),
)


@click.command()
@click.argument("name", required=False, shell_complete=completion.complete_phenomenon)
@click.option("--list", "listed", is_flag=True, help="List the phenomena.")
@click.option("--index", "indexed", is_flag=True, help="Print sources, claims and rules of all as Markdown.")
@click.option(
    "--only",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Work only the cells with this value, print their rows, and judge nothing; may be given again.",
)
@WORK
def phenomenon(
    name: str | None,
    listed: bool,
    indexed: bool,
    only: tuple[str, ...],
    settings: str,
    out: Path,
    seed: int,
    jobs: int,
    data_dir: Path | None,
    again: bool,
    plan: bool,
    no_progress: bool,
) -> None:
    """Reproduce the phenomenon NAME and say whether it was seen, by a rule fixed beforehand.

    It writes a record, a table and a figure to DIR/NAME/quick (or full). What is stored is not done again. Exit
    status 0 where it was seen, 1 where it was not.

    \b
    gapbench phenomenon --list
    gapbench phenomenon double_descent
    gapbench phenomenon grokking --full --plan
    gapbench phenomenon minimum_norm_kernel --full --only n=60000 --only features=pixels --only seed=0
    """
    from gapbench.evaluate.phenomena import PHENOMENA

    if listed:
        width = max(map(len, PHENOMENA))
        for entry in PHENOMENA.values():
            click.echo(f"{entry.name:{width}}  {entry.title}")
        return
    if indexed:
        from gapbench.reports.phenomena_index import index

        click.echo(index(PHENOMENA.values()), nl=False)
        return
    if name is None:
        raise InputError("name a phenomenon, or list them with: gapbench phenomenon --list")
    entry = _known(name)
    if plan:
        _plan([entry], settings, out, seed)
        return
    if only:
        from gapbench.evaluate.phenomena.experiment import part

        where = dict(_pair(text) for text in only)
        rows = part(entry, settings, out, where, seed=seed, jobs=jobs, data_dir=data_dir, progress=not no_progress)
        click.echo(rows.to_string(index=False))
        return
    from gapbench.reports import phenomena_page

    result = _run(entry, settings, out, seed, jobs, data_dir, again, no_progress)
    phenomena_page.figures(result)
    _say(result)
    sys.exit(0 if result.verdict.seen else 1)


@click.command()
@click.argument("names", nargs=-1, shell_complete=completion.complete_phenomenon)
@WORK
def phenomena(
    names: tuple[str, ...],
    settings: str,
    out: Path,
    seed: int,
    jobs: int,
    data_dir: Path | None,
    again: bool,
    plan: bool,
    no_progress: bool,
) -> None:
    """Reproduce all phenomena, or those of these NAMES, and write DIR/phenomena.html, which shows them side by side.

    What is stored is not done again. Exit status 0 where all were seen, 1 where one was not, 2 where one could not be
    run.

    \b
    gapbench phenomena
    gapbench phenomena expressivity double_descent --out results
    gapbench phenomena --plan
    """
    from gapbench.evaluate.phenomena import PHENOMENA

    chosen = [_known(name) for name in dict.fromkeys(names)] or list(PHENOMENA.values())
    if plan:
        _plan(chosen, settings, out, seed)
        return
    from gapbench.evaluate.files import StorageError
    from gapbench.evaluate.provenance import environment
    from gapbench.reports import phenomena_page

    results: list[Result] = []
    drawn, problems = {}, {}
    for entry in chosen:
        try:
            results.append(_run(entry, settings, out, seed, jobs, data_dir, again, no_progress))
        except StorageError:
            raise
        except InputError as error:
            problems[entry.name] = str(error)
            click.echo(f"gapbench: {entry.name}: {error}", err=True)
            continue
        drawn[entry.name] = phenomena_page.figures(results[-1])
        _say(results[-1])
    provenance = {"settings": settings, "seed": seed, **environment()}
    path = phenomena_page.write(results, problems, out, drawn, provenance=provenance)
    seen = sum(result.verdict.seen for result in results)
    click.echo(f"{seen} of {len(chosen)} seen in full; page: {path}")
    sys.exit(2 if problems else int(seen < len(chosen)))


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--only takes FIELD=VALUE, such as seed=0, not {text!r}")
    return field, value


def _known(name: str) -> Phenomenon:
    from gapbench.evaluate.phenomena import PHENOMENA

    if name not in PHENOMENA:
        raise unknown("phenomenon", name, PHENOMENA)
    return PHENOMENA[name]


def _run(
    entry: Phenomenon,
    settings: str,
    out: Path,
    seed: int,
    jobs: int,
    data_dir: Path | None,
    again: bool,
    no_progress: bool,
) -> Result:
    from gapbench.evaluate.phenomena.experiment import experiment

    return experiment(
        entry, settings, out, seed=seed, jobs=jobs, data_dir=data_dir, again=again, progress=not no_progress
    )


def _say(result: Result) -> None:
    from gapbench.evaluate.progress import duration

    click.echo(f"{result.phenomenon.name}: {result.verdict.statement}")
    for condition in result.verdict.conditions:
        click.echo(f"  {'yes' if condition.holds else 'NO ':3} {condition}")
    for row in result.beside:
        click.echo(f"  {row.what}: published {row.published} ({row.where}); here {row.ours}")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"  {result.cells} cells ({result.worked} now), {duration(result.seconds)} of processor time; {result.folder}"
    )


def _plan(chosen: list[Phenomenon], settings: str, out: Path, seed: int) -> None:
    from gapbench.evaluate.phenomena.experiment import plan

    for entry in chosen:
        click.echo(plan(entry, settings, out, seed))
