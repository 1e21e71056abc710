"""The leaderboard and the assessment of a stored zoo, kept beside it: computed anew only when what they depend on has
changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas

from gapbench.evaluate.assessment import assessment
from gapbench.evaluate.declared import kind
from gapbench.evaluate.files import write_file
from gapbench.evaluate.leaderboard import leaderboard
from gapbench.evaluate.predictors import with_predictors
from gapbench.evaluate.table import Table

_KEY = "remembered_key"


def remembered(
    folder: Path, table: Table, *, target: str, resamples: int, permutations: int, seed: int
) -> pandas.DataFrame:
    """The leaderboard of a zoo's table with its predictors (`with_predictors`).

    It comes from ZOO/leaderboards where it was made from the same table by the same code.

    A folder that cannot be written only costs the time to compute it again.
    Raises: as `leaderboard`.
    """
    arguments = {"target": target, "resamples": resamples, "permutations": permutations, "seed": seed}

    def made() -> pandas.DataFrame:
        extended = with_predictors(table, target=target, seed=seed)
        return leaderboard(extended, target=target, resamples=resamples, permutations=permutations, seed=seed)

    return _kept(folder, table, arguments, made)


def remembered_assessment(
    folder: Path,
    table: Table,
    *,
    target: str,
    permutations: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """The assessment of everything that the leaderboard of a zoo's table lists, kept as `remembered` keeps that.

    ``progress``: called with how many steps of how many are done; not where nothing is to be computed.
    """
    arguments = {"assessment": True, "target": target, "permutations": permutations, "seed": seed}

    def made() -> pandas.DataFrame:
        extended = with_predictors(table, target=target, seed=seed)
        shown = {key: entry for key, entry in extended.measures.items() if kind(entry) != "feature"}
        return assessment(
            dataclasses.replace(extended, measures=shown),
            target=target,
            permutations=permutations,
            seed=seed,
            progress=progress,
        )

    return _kept(folder, table, arguments, made)


def _kept(
    folder: Path, table: Table, arguments: Mapping[str, object], make: Callable[[], pandas.DataFrame]
) -> pandas.DataFrame:
    name = hashlib.sha256(json.dumps([arguments, sorted(table.measures)]).encode()).hexdigest()[:12]
    path, key = folder / "leaderboards" / f"{name}.parquet", _key(table, arguments)
    if path.is_file():
        stored = pandas.read_parquet(path)
        if stored.attrs.pop(_KEY, None) == key:
            return stored
    frame = make()
    if os.access(folder, os.W_OK):
        kept = frame.copy()
        kept.attrs = {**frame.attrs, _KEY: key}
        path.parent.mkdir(exist_ok=True)
        write_file(path, kept.to_parquet())
    return frame


def _key(table: Table, arguments: Mapping[str, object]) -> str:
    """A hash of all that a leaderboard is made from: the table, the arguments and the code."""
    digest = hashlib.sha256(json.dumps([arguments, list(table.axes)]).encode())
    readings = table.readings.astype("str")
    for frame in (table.runs.astype("str"), table.values, readings):
        digest.update(str(list(frame.columns)).encode())
        digest.update(pandas.util.hash_pandas_object(frame).to_numpy().tobytes())
    for key, entry in table.measures.items():
        digest.update(f"{key} {entry.family} {entry.source} {entry.sign} {kind(entry)} {entry.bound}".encode())
    if table.test_errors is not None:
        digest.update(table.test_errors.tobytes())
    digest.update(_code().encode())
    return digest.hexdigest()


@cache
def _code() -> str:
    """A hash of the sources of the leaderboard, of the assessment, of the predictors and of the statistics."""
    here = Path(__file__).parent
    sources: Sequence[Path] = [
        here / "assessment.py",
        here / "contest.py",
        here / "estimates.py",
        here / "leaderboard.py",
        here / "predictors.py",
        *sorted((here / "statistics").glob("*.py")),
    ]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
