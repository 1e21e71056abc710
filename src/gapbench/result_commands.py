"""The commands that say what a zoo found: leaderboard, export, report."""

from __future__ import annotations

from pathlib import Path

import click

from gapbench import completion
from gapbench.datasets.errors import InputError
from gapbench.options import FILE, ONLY, SEED, options
from gapbench.output import deliver, render, store

TARGETS = ("error_gap", "loss_gap", "clean_error_gap")
SCORES = options(
    click.argument("zoo", default="quick", shell_complete=completion.complete_zoo),
    ONLY,
    click.option("--target", type=click.Choice(TARGETS), default="error_gap", show_default=True),
    click.option("--resamples", default=1000, show_default=True, help="Bootstrap resamples and permutations."),
    SEED,
)
WITHIN = click.option(
    "--within",
    multiple=True,
    metavar="AXIS=VALUE",
    help="Only the runs with this value, such as label_noise=0; may be given again, of one axis for either value.",
)
SORTABLE = (
    "within_noise_tau",
    "granulated_tau",
    "tau_b",
    "tau_a",
    "randomisation_auc",
    "seconds",
    "measure",
)
"""Those of `gapbench.reports.scores`, whose import would keep --help waiting; a test compares them."""


@click.command()
@SCORES
@WITHIN
@click.option("--sort", metavar="SCORE", help=f"One of: {', '.join(SORTABLE)}  [default: {SORTABLE[0]}]")
@click.option("--axis", metavar="AXIS", help="Show the granulated τ along this hyper-parameter, and sort by it.")
@click.option("--top", type=click.IntRange(1), help="Only the best so many  [default: 20 on a terminal, else all]")
@click.option("--all", "whole", is_flag=True, help="All measures.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "csv"]), default="text", show_default=True)
@click.option("--out", type=FILE, metavar="FILE", help="Write to a file instead of the terminal.")
def leaderboard(
    zoo: str,
    only: tuple[str, ...],
    target: str,
    resamples: int,
    seed: int,
    within: tuple[str, ...],
    sort: str | None,
    axis: str | None,
    top: int | None,
    whole: bool,
    form: str,
    out: Path | None,
) -> None:
    """Score the measures of a stored ZOO against the true generalization gap, best first.

    ZOO is a folder, or a name under ./zoos. Controls, predictors fitted to the gap, and what sees test inputs are
    shown greyed, without a rank.

    \b
    gapbench leaderboard quick --all
    gapbench leaderboard quick --sort randomisation_auc --top 10
    gapbench leaderboard quick --axis width
    gapbench leaderboard quick --within label_noise=0 --within depth=3
    gapbench leaderboard --target loss_gap --only 'pacbayes*'
    gapbench leaderboard --format csv --out leaderboard.csv
    """
    from gapbench import api
    from gapbench.reports import text

    if whole and top is not None:
        raise InputError(f"--all and --top {top} exclude one another: give one of them")
    frame = api.leaderboard(
        zoo, only=only, target=target, resamples=resamples, permutations=resamples, seed=seed, within=within
    )
    if form == "text":
        render(text.terminal(frame, None if whole else top or text.TOP, sort=sort, axis=axis), out)
        return
    chosen = text.ordered(frame, sort, axis)
    shown = chosen if top is None else chosen.head(top)
    deliver(text.markdown(shown) if form == "markdown" else text.csv(shown), out)


@click.command()
@SCORES
@WITHIN
@click.option("--top", type=click.IntRange(1), help="Only the best so many.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "markdown", "latex", "bibtex"]),
    default="csv",
    show_default=True,
)
@click.option("--further", is_flag=True, help="Add the further statistics of the report, to CSV and Parquet.")
@click.option("--out", type=FILE, metavar="FILE", help="Write to a file instead of the terminal; Parquet needs one.")
def export(
    zoo: str,
    only: tuple[str, ...],
    target: str,
    resamples: int,
    seed: int,
    within: tuple[str, ...],
    top: int | None,
    form: str,
    further: bool,
    out: Path | None,
) -> None:
    """Write the scores of a stored ZOO, or the BibTeX entries behind them, for exactly the measures shown.

    The measures are those that `leaderboard` shows with the same options. LaTeX is a booktabs tabular.

    \b
    gapbench export quick --format latex --top 10 --out table.tex
    gapbench export quick --format bibtex --top 10 --out measures.bib
    gapbench export quick --format parquet --further --out scores.parquet
    """
    from gapbench import api
    from gapbench.reports import bibtex, text
    from gapbench.reports.references import bundled_text

    frame = api.leaderboard(
        zoo, only=only, target=target, resamples=resamples, permutations=resamples, seed=seed, within=within
    )
    shown = frame if top is None else frame.head(top)
    if further:
        if within or form not in ("csv", "parquet"):
            raise InputError("--further goes into CSV and Parquet, of a whole zoo (without --within)")
        shown = shown.join(api.assess(zoo, only=only, target=target, permutations=min(resamples, 200), seed=seed))
    if form == "parquet":
        if out is None:
            raise InputError("Parquet is no text: name the file with --out")
        store(shown.to_parquet(), out)
        return
    made = {"csv": text.csv, "markdown": text.markdown, "latex": text.latex}
    if form == "bibtex":
        deliver(bibtex.bibtex(dict(zip(shown.index, shown["source"])), bundled_text()), out)
        return
    deliver(made[form](shown), out)


@click.command()
@SCORES
@click.option("--out", type=FILE, metavar="FILE", help="The page  [default: the zoo's folder/report.html]")
def report(zoo: str, only: tuple[str, ...], target: str, resamples: int, seed: int, out: Path | None) -> None:
    """Write the correlation report of a stored ZOO: one HTML file that needs no network.

    \b
    gapbench report quick --out report.html
    """
    from gapbench import api

    path = api.report(zoo, out=out, only=only, target=target, resamples=resamples, permutations=resamples, seed=seed)
    click.echo(f"report: {path}")
