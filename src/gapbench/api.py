"""What a researcher calls from Python; the command line is a thin layer over these functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.datasets.errors import InputError
from gapbench.names import ZOOS, default_jobs, folder_of, keys_of, locate, matching, paths

if TYPE_CHECKING:
    import pandas

    from gapbench.evaluate.adopt import Adopted
    from gapbench.evaluate.execute import Summary
    from gapbench.evaluate.plan import Plan
    from gapbench.evaluate.status import Status
    from gapbench.evaluate.table import Table
    from gapbench.measures.registry import Measure, Registry
    from gapbench.models.trained import Trained


def run(
    zoo: str | Path = "quick",
    *,
    out: str | Path | None = None,
    only: Sequence[str] = (),
    cost: str | None = None,
    measures: Collection[str | Path] = (),
    networks: Collection[str | Path] = (),
    jobs: int | None = None,
    executor: str = "local",
    address: str | None = None,
    slurm: Mapping[str, str] | None = None,
    bundle_minutes: float = 30.0,
    seed: int = 0,
    shard: str = "1/1",
    data_dir: str | Path | None = None,
    retry_failed: bool = False,
    reread: bool = False,
    progress: bool = True,
) -> Summary:
    """Train every network of a zoo that is not stored yet, and read every measure that was not read.

    ``zoo``: a bundled name or a TOML file; ``out``: its folder, by default zoos/NAME; ``only``: names or globs of
    measures, by default all; ``cost``: only those that cost at most this, one of `measures.registry.COSTS`;
    ``measures``: Python files with more measures, ``networks``: with more architectures; ``jobs``: worker processes, by
    default one a core, fewer where memory is short; ``seed``: the root of every random draw; ``shard``: "3/16" does the
    third of sixteen parts. ``executor``: "local", "dask", "ray" or "slurm";
    ``address``, ``slurm`` and ``bundle_minutes``: as in `gapbench.evaluate.engines.Engine`.

    Raises: InputError where an argument is wrong, or where the disk is full or cannot be written.
    """
    from gapbench.evaluate.engines import Engine
    from gapbench.evaluate.execute import run as execute
    from gapbench.evaluate.zoo import load_zoo

    chosen = load_zoo(zoo, seed)
    workers = jobs or default_jobs(folder_of(chosen.name, out))
    return execute(
        chosen,
        folder_of(chosen.name, out),
        keys_of(only, measures, cost),
        files=paths(measures),
        networks=paths(networks),
        engine=Engine(executor, workers, address, bundle_minutes, slurm or {}),
        part=shard,
        retry_failed=retry_failed,
        reread=reread,
        data_dir=None if data_dir is None else Path(data_dir),
        progress=progress,
    )


def plan(
    zoo: str | Path = "quick",
    *,
    out: str | Path | None = None,
    only: Sequence[str] = (),
    cost: str | None = None,
    measures: Collection[str | Path] = (),
    networks: Collection[str | Path] = (),
    jobs: int | None = None,
    seed: int = 0,
    shard: str = "1/1",
    retry_failed: bool = False,
    reread: bool = False,
) -> Plan:
    """What `run` would do with these arguments, and how long it would take; nothing is written."""
    from gapbench.evaluate.plan import plan as make_plan
    from gapbench.evaluate.zoo import load_zoo

    chosen = load_zoo(zoo, seed)
    return make_plan(
        chosen,
        folder_of(chosen.name, out),
        keys_of(only, measures, cost),
        files=paths(measures),
        networks=paths(networks),
        jobs=jobs or default_jobs(folder_of(chosen.name, out)),
        part=shard,
        retry_failed=retry_failed,
        reread=reread,
    )


def adopt(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    networks: Collection[str | Path] = (),
    data_dir: str | Path | None = None,
) -> Adopted:
    """Take networks that were trained elsewhere into a zoo: ``folder`` holds weights and a manifest.

    The manifest is described in `gapbench.evaluate.adopt`. Raises: InputError where it or a file is wrong.
    """
    from gapbench.evaluate.adopt import adopt as take

    where = None if out is None else Path(out)
    return take(Path(folder), where, networks=paths(networks), data_dir=None if data_dir is None else Path(data_dir))


def status(zoo: str | Path = "quick") -> Status:
    """What a stored zoo is doing right now: runs by state, readings, rate, failures, workers.

    Raises: InputError where there is no such zoo.
    """
    from gapbench.evaluate.status import status as look

    return look(locate(zoo))


def read(
    measures: Sequence[str | Callable[..., Any]] | None,
    trained: Trained,
    *,
    files: Collection[str | Path] = (),
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """Read measures of one trained network.

    ``measures``: names, globs, or functions declared with ``@gapbench.measure``; ``None`` reads all.
    ``progress``: say on the error stream how far it is, where it takes long.
    Returns: a DataFrame with index ``measure`` and columns value, standard_error, status ("ok", "undefined" or
    "failed"), reason, seconds, revision, digest.
    Raises: InputError where a name is unknown, a function is not declared, or the parts of ``trained`` do not fit.
    """
    import pandas

    from gapbench.evaluate.progress import stepping
    from gapbench.measures.given import examine
    from gapbench.measures.read import read as read_measures

    examine(trained)
    chosen, registry = _chosen(measures if measures is not None else ["*"], files)
    with stepping("reading: measure", shown=progress) as step:
        readings = read_measures(chosen, registry, trained, seed=seed, step=step)
    columns = ["value", "standard_error", "status", "reason", "seconds", "revision", "digest"]
    frame = pandas.DataFrame([asdict(reading) for reading in readings], columns=["measure", *columns])
    return frame.set_index("measure")


def read_layers(
    measures: Sequence[str | Callable[..., Any]] | None,
    trained: Trained,
    *,
    files: Collection[str | Path] = (),
    seed: int = 0,
) -> pandas.DataFrame:
    """Read what each weight layer of one trained network adds to measures that are a sum or a mean over its layers.

    ``measures``: as in `read`; ``None`` reads all that are declared to return such a sum. Measures that have no value
    on this network, or no terms, have no rows.
    Returns: a DataFrame with index ``measure`` and ``layer`` (its name in the network) and the column value: the term.
    Raises: InputError where a name is unknown, a function is not declared, or the parts of ``trained`` do not fit.
    """
    import pandas

    from gapbench.measures.given import examine
    from gapbench.measures.read import read_layers as read_terms

    examine(trained)
    chosen, registry = _chosen(measures if measures is not None else ["*"], files)
    if measures is None:
        chosen = [entry for entry in chosen if entry.has_terms]
    terms = read_terms(chosen, registry, trained, seed=seed)
    frame = pandas.DataFrame([asdict(term) for term in terms], columns=["measure", "layer", "value"])
    return frame.set_index(["measure", "layer"])


def _chosen(
    measures: Sequence[str | Callable[..., Any]], files: Collection[str | Path]
) -> tuple[list[Measure], Registry]:
    """The measures that names, globs and declared functions stand for, and a registry that holds them."""
    from gapbench.measures.plugins import load_registry
    from gapbench.measures.registry import build, entries

    registry = load_registry(paths(files))
    names: list[str] = []
    for given in measures:
        if isinstance(given, str):
            names += matching(registry.measures, given)
            continue
        declared = entries(given, family=given.__module__)
        if not declared:
            raise InputError(f"{given.__name__} is not declared: decorate it with @gapbench.measure(...)")
        registry = build([*registry.quantities.values(), *registry.measures.values(), *declared])
        names += [entry.key for entry in registry.measures.values() if entry.function is given]
    return [registry.measures[name] for name in dict.fromkeys(names)], registry


def leaderboard(
    zoo: str | Path | Table = "quick",
    *,
    only: Sequence[str] = (),
    target: str = "error_gap",
    resamples: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
    within: Sequence[str] = (),
) -> pandas.DataFrame:
    """Score every measure of a stored zoo against the true gap, best first.

    Predictors, which are fitted to the gap, and controls are listed with them and not ranked.
    ``zoo``: the folder of a zoo, its name under ./zoos, or a table; ``target``: error_gap, loss_gap or
    clean_error_gap; ``within``: only the runs with these values, such as "label_noise=0" (see
    `gapbench.evaluate.within.within`). Columns and definitions: `gapbench.evaluate.leaderboard.leaderboard`.
    """
    from gapbench.evaluate.leaderboard import leaderboard as compute
    from gapbench.evaluate.predictors import with_predictors
    from gapbench.evaluate.remembered import remembered
    from gapbench.evaluate.table import Table
    from gapbench.evaluate.within import within as part

    chosen = table(zoo, only=only)
    if within or isinstance(zoo, Table):
        chosen = with_predictors(part(chosen, within), target=target, seed=seed)
        frame = compute(chosen, target=target, resamples=resamples, permutations=permutations, seed=seed)
        frame.attrs["within"] = list(within)
        return frame
    return remembered(locate(zoo), chosen, target=target, resamples=resamples, permutations=permutations, seed=seed)


def assess(
    zoo: str | Path = "quick",
    *,
    only: Sequence[str] = (),
    target: str = "error_gap",
    permutations: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """The further statistics of everything on the leaderboard of a stored zoo; minutes at a thousand runs, once.

    Columns: `gapbench.evaluate.assessment.assessment`.
    """
    from gapbench.evaluate.progress import stepping
    from gapbench.evaluate.remembered import remembered_assessment

    folder = locate(zoo)
    chosen = table(folder, only=only)
    with stepping("assessing: step", shown=progress) as step:
        return remembered_assessment(folder, chosen, target=target, permutations=permutations, seed=seed, progress=step)


def score(
    table: str | Path | pandas.DataFrame,
    target: str,
    *,
    axes: Sequence[str] = (),
    seed: str | None = None,
    measures: Sequence[str] = (),
    group: str | None = None,
    drop_nonfinite: bool = False,
) -> pandas.DataFrame:
    """Score the measures of any table of models: a CSV or Parquet file, or a DataFrame.

    ``target``: the column to predict; ``measures``: columns, by default every numeric one that has no other part;
    ``group``: a column by whose values the table is divided; ``axes`` and ``seed``: the columns that say which models
    share a configuration. Returns: one row a group and measure; columns: `gapbench.evaluate.rescore.rescore`.
    Raises: InputError where a column does not exist or is not numeric, or a value is infinite and not dropped.
    """
    from gapbench.evaluate.external import read_external
    from gapbench.evaluate.rescore import rescore

    return rescore(
        read_external(
            table,
            target=target,
            axes=axes,
            seed=seed,
            measures=measures,
            group=group,
            drop_nonfinite=drop_nonfinite,
        )
    )


def compare(
    first: str | Path | pandas.DataFrame,
    second: str | Path | pandas.DataFrame,
    *,
    target: str | None = None,
    only: Sequence[str] = (),
    axes: Sequence[str] = (),
    seed: str | None = None,
    measures: Sequence[str] = (),
    group: str | None = None,
    drop_nonfinite: bool = False,
) -> pandas.DataFrame:
    """What moved between two stored zoos, or two tables (files or DataFrames), and whether beyond its uncertainty.

    ``target``: by default the error gap of zoos; needed for tables. ``only``: measures of zoos; the other arguments are
    those of `score`, for tables. Columns: `gapbench.evaluate.comparison.compare`.
    Raises: InputError where one is a zoo and the other a table, or as `table` and `score`.
    """
    from gapbench.evaluate.comparison import compare as made
    from gapbench.evaluate.comparison import scored_table, scored_zoo
    from gapbench.evaluate.external import is_table, read_external

    if is_table(first) != is_table(second):
        raise InputError(f"{first} and {second} cannot be compared: one is a table, the other a zoo")
    if not is_table(first):
        assert isinstance(first, (str, Path))
        assert isinstance(second, (str, Path))
        zoos = [table(zoo, only=only) for zoo in (first, second)]
        return made(*(scored_zoo(zoo, target or "error_gap") for zoo in zoos))
    if target is None:
        raise InputError("name the column to predict as the target")
    one, other = (
        read_external(
            one, target=target, axes=axes, seed=seed, measures=measures, group=group, drop_nonfinite=drop_nonfinite
        )
        for one in (first, second)
    )
    return made(scored_table(one, other), scored_table(other, one))


def report(
    zoo: str | Path = "quick",
    *,
    out: str | Path | None = None,
    only: Sequence[str] = (),
    target: str = "error_gap",
    resamples: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the report of a stored zoo as one offline HTML file, by default ZOO/report.html, and return its path."""
    from gapbench.evaluate.predictors import with_predictors
    from gapbench.evaluate.provenance import provenance
    from gapbench.evaluate.remembered import remembered
    from gapbench.reports.html import report as write

    folder = locate(zoo)
    chosen = table(folder, only=only)
    frame = remembered(folder, chosen, target=target, resamples=resamples, permutations=permutations, seed=seed)
    few = min(permutations, 200)
    assessed = assess(folder, only=only, target=target, permutations=few, seed=seed, progress=progress)
    return write(
        with_predictors(chosen, target=target, seed=seed),
        frame,
        assessment=assessed,
        provenance=provenance(folder, chosen) | {"statistics seed": seed},
        out=Path(out) if out is not None else folder / "report.html",
    )


def table(zoo: str | Path | Table, *, only: Sequence[str] = ()) -> Table:
    """The table of a stored zoo: a row a run, with its outcome and its readings."""
    from gapbench.evaluate.table import Table, table

    if isinstance(zoo, Table):
        return zoo
    whole = table(locate(zoo))
    if not only:
        return whole
    return table(locate(zoo), [key for pattern in only for key in matching(whole.measures, pattern)])


def standings(key: str) -> dict[str, str]:
    """How a measure did on every zoo under ./zoos that it was read on, by zoo, in words.

    A zoo whose leaderboard was not made yet is scored first, which can take some seconds.
    """
    from gapbench.reports.standing import standing

    found = {}
    for folder in sorted(path.parent for path in ZOOS.glob("*/zoo.toml")):
        try:
            frame = leaderboard(folder)
        except InputError as error:
            found[folder.name] = f"cannot be scored: {error}"
            continue
        if key in frame.index:
            found[folder.name] = standing(frame, key)
    return found
