"""The commands on tables from elsewhere: score one, compare two."""

from __future__ import annotations

from pathlib import Path

import click

from gapbench.datasets.errors import InputError
from gapbench.options import FILE, ONLY, options
from gapbench.output import deliver, render

TABLE = options(
    click.option("--target", metavar="COLUMN", help="What the measures are to predict."),
    click.option("--axes", metavar="A,B", help="Columns of hyper-parameters; rows equal in all are one configuration."),
    click.option("--seed", metavar="COLUMN", help="The column of the seed, where axes are named."),
    click.option("--measures", metavar="A,B", help="Columns to score  [default: every numeric one without a part]"),
    click.option("--group", metavar="COLUMN", help="Score each of its values by itself."),
    click.option("--drop-nonfinite", is_flag=True, help="Take infinite values for missing instead of refusing them."),
)


@click.command()
@click.argument("table", type=FILE)
@TABLE
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown", "latex"]),
    default="table",
    show_default=True,
)
@click.option("--out", type=FILE, metavar="FILE", help="Write to a file instead of the terminal.")
def score(
    table: Path,
    target: str | None,
    axes: str | None,
    seed: str | None,
    measures: str | None,
    group: str | None,
    drop_nonfinite: bool,
    form: str,
    out: Path | None,
) -> None:
    """Score the measures of a TABLE from elsewhere (CSV, TSV or Parquet, a row a model) against its target column.

    For each group and measure: n (models that have both), Kendall's tau_b and tau_a, Spearman's rho, and the line
    target = a + b measure with R² and rmse = sqrt(SSR/n); with --axes also granulated tau, conditional information and
    the PGDL score. Intervals are of 95 % over configurations. A missing value takes the model out of the measure's n.
    True and false columns are scored where they are named. A column name with a comma stands in double quotes.

    \b
    gapbench score models.csv --target test_error --group family
    gapbench score zoo.parquet --target gap --axes width,depth --seed seed --measures path_norm,l2 --format json
    """
    from gapbench import api
    from gapbench.evaluate.external import named
    from gapbench.reports import rescored

    if target is None:
        raise InputError(f"{table}: name the column to predict with --target")
    frame = api.score(
        table,
        target,
        axes=named(axes),
        seed=seed,
        measures=named(measures),
        group=group,
        drop_nonfinite=drop_nonfinite,
    )
    for note in frame.attrs["notes"]:
        click.echo(f"note: {note}", err=True)
    if form == "table":
        render(rescored.terminal(frame), out)
        return
    made = {
        "csv": rescored.as_csv,
        "json": rescored.as_json,
        "markdown": rescored.as_markdown,
        "latex": rescored.as_latex,
    }
    deliver(made[form](frame), out)


@click.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@ONLY
@TABLE
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json", "markdown"]), default="table", show_default=True
)
@click.option("--out", type=FILE, metavar="FILE", help="Write to a file instead of the terminal.")
def compare(
    first: Path,
    second: Path,
    only: tuple[str, ...],
    target: str | None,
    axes: str | None,
    seed: str | None,
    measures: str | None,
    group: str | None,
    drop_nonfinite: bool,
    form: str,
    out: Path | None,
) -> None:
    """Say which scores moved from FIRST to SECOND, and whether beyond their uncertainty.

    Both are stored zoos, or both tables (CSV, TSV, Parquet). The change of a score is paired over the runs that both
    have. --only is for zoos (--target is then error_gap unless named), --axes, --seed, --measures and --group for
    tables.

    \b
    gapbench compare zoos/quick zoos/quick-second
    gapbench compare before.csv after.csv --target gap --axes width,depth --seed seed
    """
    from gapbench import api
    from gapbench.evaluate.external import named
    from gapbench.reports import compared, rescored

    frame = api.compare(
        first,
        second,
        target=target,
        only=only,
        axes=named(axes),
        seed=seed,
        measures=named(measures),
        group=group,
        drop_nonfinite=drop_nonfinite,
    )
    for note in [*frame.attrs["notes"], compared.summary(frame)]:
        click.echo(f"note: {note}", err=True)
    if form == "table":
        render(compared.terminal(frame), out)
        return
    made = {"csv": rescored.as_csv, "json": rescored.as_json, "markdown": compared.as_markdown}
    deliver(made[form](frame), out)
