"""The commands that make a zoo and look after it: run, plan, status, verify, adopt."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gapbench import completion
from gapbench.options import FILE, FILES, ONLY, SEED, options
from gapbench.output import follow, render

# As gapbench.measures.registry.COSTS, whose import takes seconds; a test compares them.
COSTS = ("weights", "forward", "gradient", "iterative", "second run")

NETWORKS = click.option(
    "--networks", multiple=True, type=FILE, metavar="FILE", help="A Python file with more network architectures."
)
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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
    from gapbench.evaluate.store import open_store
    from gapbench.evaluate.verify import set_aside
    from gapbench.evaluate.verify import verify as look
    from gapbench.names import locate

    store_ = open_store(locate(zoo))
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


@click.command()
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
