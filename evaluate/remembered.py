"""The leaderboard of a stored zoo, kept beside it: computed anew only when something it depends on has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas

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
    name = hashlib.sha256(json.dumps([arguments, sorted(table.measures)]).encode()).hexdigest()[:12]
    path, key = folder / "leaderboards" / f"{name}.parquet", _key(table, arguments)
    if path.is_file():
        stored = pandas.read_parquet(path)
        if stored.attrs.pop(_KEY, None) == key:
            return stored
    extended = with_predictors(table, target=target, seed=seed)
    frame = leaderboard(extended, target=target, resamples=resamples, permutations=permutations, seed=seed)
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
        digest.update(f"{key} {entry.family} {entry.source} {entry.sign} {kind(entry)}".encode())
    if table.test_errors is not None:
        digest.update(table.test_errors.tobytes())
    digest.update(_code().encode())
    return digest.hexdigest()


@cache
def _code() -> str:
    """A hash of the sources of the leaderboard, of the predictors and of the statistics."""
    here = Path(__file__).parent
    sources: Sequence[Path] = [
        here / "leaderboard.py",
        here / "predictors.py",
        *sorted((here / "statistics").glob("*.py")),
    ]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
