"""The command line. Every command imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import click

from gapbench import completion
from gapbench.datasets.errors import InputError
from gapbench.options import FILE, ONLY, options
from gapbench.output import deliver, follow, render, store
from gapbench.phenomena_commands import phenomena, phenomenon
from gapbench.table_commands import compare, score

# As gapbench.measures.registry.COSTS, whose import takes seconds; a test compares them.
COSTS = ("weights", "forward", "gradient", "iterative", "second run")
TARGETS = ("error_gap", "loss_gap", "clean_error_gap")


FILES = click.option(
    "--measures", "files", multiple=True, type=FILE, metavar="FILE", help="A Python file with more measures."
)
NETWORKS = click.option(
    "--networks", multiple=True, type=FILE, metavar="FILE", help="A Python file with more network architectures."
)
SEED = click.option("--seed", default=0, show_default=True, help="The root of every random draw.")
WORK = options(
    click.argument("zoo", default="quick", shell_complete=completion.complete_grid),
    click.option("--out", type=FILE, metavar="DIR", help="The folder of the zoo  [default: zoos/NAME]"),
    ONLY,
    click.option(
        "--cost",
        type=click.Choice(COSTS),
        help="Only measures that cost at most this.",
    ),
    FILES,
    NETWORKS,
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Worker processes of one thread  [default: one a core, as far as memory allows]",
    ),
    SEED,
    click.option("--shard", default="1/1", metavar="K/N", help="Do the K-th of N parts, for N machines."),
    click.option("--retry-failed", is_flag=True, help="Try failed trainings and readings again."),
    click.option("--reread", is_flag=True, help="Read again what was read by code that has changed since."),
)
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


@main.command()
@WORK
@click.option(
    "--executor",
    type=click.Choice(["local", "dask", "ray", "slurm"]),
    default="local",
    show_default=True,
    help="Where the work is done; all but local need an extra: pip install 'gapbench[dask]'.",
)
@click.option("--address", metavar="ADDRESS", help="A running Dask scheduler or Ray cluster  [default: start one here]")
@click.option("--slurm", multiple=True, metavar="NAME=VALUE", help="A parameter of Slurm, such as partition=long.")
@click.option(
    "--bundle-minutes", default=30.0, show_default=True, help="How much work a Slurm job is given, 10 to 60 minutes."
)
@click.option("--data-dir", type=FILE, metavar="DIR", help="Where data files are  [default: $GAPBENCH_DATA]")
@click.option("--no-progress", is_flag=True, help="Print no progress.")
def run(
    zoo: str,
    out: Path | None,
    only: tuple[str, ...],
    cost: str | None,
    files: tuple[Path, ...],
    networks: tuple[Path, ...],
    jobs: int | None,
    seed: int,
    shard: str,
    retry_failed: bool,
    reread: bool,
    executor: str,
    address: str | None,
    slurm: tuple[str, ...],
    bundle_minutes: float,
    data_dir: Path | None,
    no_progress: bool,
) -> None:
    """Train the networks of a ZOO and read every measure of each.

    ZOO is a bundled name or a TOML file. What is stored is not done again: run it again after an interruption, or
    with another measure, and only what is missing is done. Exit status 1 where a training or a reading failed.

    \b
    gapbench run quick --jobs 2
    gapbench run jiang-mini --cost forward
    gapbench run quick --measures mine.py --only my_measure
    gapbench run mine.toml --networks my_networks.py
    gapbench run big.toml --shard 3/16
    gapbench run big.toml --executor dask --address tcp://10.0.0.1:8786
    gapbench run big.toml --executor slurm --jobs 100 --slurm partition=long --slurm mem_gb=4
    """
    from gapbench import api
    from gapbench.evaluate.engines import settings_of

    summary = api.run(
        zoo,
        out=out,
        only=only,
        cost=cost,
        measures=files,
        networks=networks,
        jobs=jobs,
        seed=seed,
        shard=shard,
        executor=executor,
        address=address,
        slurm=settings_of(slurm),
        bundle_minutes=bundle_minutes,
        data_dir=data_dir,
        retry_failed=retry_failed,
        reread=reread,
        progress=not no_progress,
    )
    failed = f", {summary.readings_failed} failed" if summary.readings_failed else ""
    click.echo(
        f"{summary.out}: {summary.runs} runs ({summary.not_converged} did not converge), "
        f"{summary.readings_ok} readings ok, {summary.readings_undefined} undefined{failed}; "
        f"now: {summary.trained} trained, {summary.read} read, in {summary.seconds:.0f} s"
    )
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    for problem in summary.problems:
        click.echo(f"gapbench: {problem}", err=True)
    sys.exit(summary.exit_status)


@main.command()
@WORK
def plan(
    zoo: str,
    out: Path | None,
    only: tuple[str, ...],
    cost: str | None,
    files: tuple[Path, ...],
    networks: tuple[Path, ...],
    jobs: int | None,
    seed: int,
    shard: str,
    retry_failed: bool,
    reread: bool,
) -> None:
    """Say what `run` would do with the same arguments, and how long it would take.

    \b
    gapbench plan quick
    gapbench plan quick --measures mine.py
    """
    from gapbench import api

    made = api.plan(
        zoo,
        out=out,
        only=only,
        cost=cost,
        measures=files,
        networks=networks,
        jobs=jobs,
        seed=seed,
        shard=shard,
        retry_failed=retry_failed,
        reread=reread,
    )
    for line in made.lines():
        click.echo(line)


@main.command()
@click.argument("zoo", default="quick", shell_complete=completion.complete_zoo)
@click.option("--repair", is_flag=True, help="Move damaged runs to ZOO/damaged, so that they are done again.")
def verify(zoo: str, repair: bool) -> None:
    """Look at every file of a stored ZOO, and name those that are damaged, lost, or in the wrong place.

    With --repair, the folders of damaged runs are moved aside; `gapbench run` then does these runs again, and nothing
    else, to the same bits. Exit status 1 where a file was damaged and is not repaired.

    \b
    gapbench verify quick
    gapbench verify quick --repair && gapbench run quick
    """
    from gapbench import api
    from gapbench.evaluate.store import open_store
    from gapbench.evaluate.verify import set_aside
    from gapbench.evaluate.verify import verify as look

    store_ = open_store(api.locate(zoo))
    faults = list(look(store_))
    for fault in faults:
        click.echo(fault.what)
    runs = sorted({fault.run for fault in faults if fault.run is not None})
    if repair:
        for run_ in runs:
            click.echo(f"moved aside: {set_aside(store_, run_)}")
    click.echo(f"{len(faults)} damaged files, of {len(runs)} runs")
    left = [fault for fault in faults if fault.run is None or not repair]
    sys.exit(1 if left else 0)


@main.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, metavar="DIR", help="The folder of the zoo  [default: zoos/NAME]")
@NETWORKS
@click.option("--data-dir", type=FILE, metavar="DIR", help="Where data files are  [default: $GAPBENCH_DATA]")
def adopt(folder: Path, out: Path | None, networks: tuple[Path, ...], data_dir: Path | None) -> None:
    """Take networks that were trained elsewhere into a zoo of their own.

    FOLDER holds their weights (safetensors) and manifest.toml. Their errors are computed on the data, and compared with
    what the manifest states. Nothing is unpickled. Then `gapbench run` reads measures and trains nothing.

    \b
    gapbench adopt my_networks
    gapbench run zoos/mine/zoo.toml --out zoos/mine
    gapbench leaderboard mine

    \b
    manifest.toml:
        name = "mine"
        [data]                        # as in a grid: the sample they were trained on
        name = "npz"
        path = "mine.npz"
        train_size = 500
        [run]                         # what they have in common
        architecture = "mlp"
        depth = 2
        learning_rate = 0.1
        batch_size = 32
        [[networks]]                  # what sets each apart
        weights = "first.safetensors"
        initial = "first-initial.safetensors"   # optional
        width = 64
        train_error = 0.0             # optional: checked
        test_error = 0.31
    """
    from gapbench import api

    done = api.adopt(folder, out=out, networks=networks, data_dir=data_dir)
    click.echo(f"{done.out}: {done.taken} networks adopted, {done.known} known before")


@main.command()
@click.argument("zoo", default="quick", shell_complete=completion.complete_zoo)
@click.option(
    "--watch", type=click.FloatRange(0.5), metavar="SECONDS", help="Show it anew every so often; Ctrl-C ends."
)
def status(zoo: str, watch: float | None) -> None:
    """Say what a stored ZOO is doing: runs by state, rate and time left, failures with reasons, workers alive.

    It looks at the folder alone, so it sees workers on every machine that shares it, and may be asked at any time.

    \b
    gapbench status quick
    gapbench status zoos/big --watch 5
    """
    from gapbench import api
    from gapbench.reports.status import rendered

    if watch is None:
        render(rendered(api.status(zoo)), None)
        return
    follow(lambda: rendered(api.status(zoo)), watch)


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
@click.argument("glob", required=False, shell_complete=completion.complete_measure)
@click.option("--family", help="Only this family, such as 'norms'.")
@FILES
def measures(glob: str | None, family: str | None, files: tuple[Path, ...]) -> None:
    """List the measures, all or those whose name matches GLOB.

    \b
    gapbench measures --family spectral
    gapbench measures '*margin*'
    """
    from gapbench.measures.plugins import load_registry
    from gapbench.reports import catalog

    click.echo(catalog.listing(load_registry(files), family=family, glob=glob))


@main.command()
@click.argument("name", shell_complete=completion.complete_measure)
@FILES
def show(name: str, files: tuple[Path, ...]) -> None:
    """Show a measure: formula, source, sign, needs, cost, invariances, and how it did on the zoos under ./zoos.

    \b
    gapbench show path_norm
    gapbench show 'pacbayes*'
    """
    from gapbench.api import matching, standings
    from gapbench.measures.plugins import load_registry
    from gapbench.reports import catalog

    registry = load_registry(files)
    for key in matching(registry.measures, name):
        click.echo(catalog.show(registry.measures[key], registry, standings=standings(key)))


@main.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Test the measures and the networks of a Python FILE against the contract that each of them keeps.

    Measures: finite on small networks, the same value for the same seed, the network, its data and the global random
    generators untouched, every declared invariance true, the source resolved. Networks: the right outputs, decided by
    seed and state dict, each example by itself in evaluation, trained in every parameter, and no measure fails on them.
    Exit status 1 where a check failed.

    \b
    gapbench check mine.py
    gapbench check my_networks.py
    """
    from gapbench.measures import network_contract
    from gapbench.measures.contract import check as run_checks
    from gapbench.measures.plugins import load_registry, own_keys
    from gapbench.models.plugins import load_architectures, own_architectures

    keys, networks = own_keys(file), own_architectures(file)
    if not keys and not networks:
        raise InputError(f"{file} declares no measure and no network: see gapbench.measure and gapbench.architecture")
    found: list[tuple[str, str, bool, str]] = []
    if keys:
        registry = load_registry([file])
        found += [
            (one.measure, one.what, one.passed, one.seen)
            for one in run_checks([registry.measures[key] for key in keys], registry)
        ]
    if networks:
        load_architectures([file])
        for name, own in networks.items():
            found += [(one.network, one.what, one.passed, one.seen) for one in network_contract.check(name, own)]
    for name, what, passed, seen in found:
        mark = click.style("ok  ", fg="green") if passed else click.style("FAIL", fg="red")
        click.echo(f"{mark} {name}: {what} ({seen})")
    failed = sum(not passed for _, _, passed, _ in found)
    click.echo(f"{len(found)} checks ran, {failed} failed")
    sys.exit(1 if failed else 0)


@main.command()
@click.option("--out", type=FILE, metavar="FILE", help="Write to a file instead of the terminal.")
@FILES
def catalog(out: Path | None, files: tuple[Path, ...]) -> None:
    """Print the documentation of every measure as Markdown, made from the registry.

    \b
    gapbench catalog --out docs/measures.md
    """
    from gapbench.measures.plugins import load_registry
    from gapbench.reports.catalog import catalog as make

    deliver(make(load_registry(files)), out)


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def complete(shell: str) -> None:
    """Print the line that turns on tab completion, for your shell's start-up file.

    \b
    gapbench completion bash >> ~/.bashrc
    """
    click.echo(completion.instructions(shell))


main.add_command(score)
main.add_command(compare)
main.add_command(phenomenon)
main.add_command(phenomena)
