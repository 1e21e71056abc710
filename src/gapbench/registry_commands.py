"""The commands on measures and networks: list, show, check, and document them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gapbench import completion
from gapbench.datasets.errors import InputError
from gapbench.options import FILE, FILES
from gapbench.output import deliver


@click.command()
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


@click.command()
@click.argument("name", shell_complete=completion.complete_measure)
@FILES
def show(name: str, files: tuple[Path, ...]) -> None:
    """Show a measure: formula, source, sign, needs, cost, invariances, and how it did on the zoos under ./zoos.

    \b
    gapbench show path_norm
    gapbench show 'pacbayes*'
    """
    from gapbench.api import standings
    from gapbench.measures.plugins import load_registry
    from gapbench.names import matching
    from gapbench.reports import catalog

    registry = load_registry(files)
    for key in matching(registry.measures, name):
        click.echo(catalog.show(registry.measures[key], registry, standings=standings(key)))


@click.command()
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


@click.command()
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
