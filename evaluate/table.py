"""The table of a zoo: readings beside outcomes. This is the only place where a measure meets the gap."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate import files, tensors
from gapbench.evaluate.compaction import Frames, frames, specs
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.store import TEST, Store, open_store
from gapbench.models.spec import RunSpec
from gapbench.models.trained import Outcome

if TYPE_CHECKING:
    from gapbench.measures.registry import Measure

_NO_AXES = ("seed", "root_seed", "data_seed", "label_noise", "adopted")
"""What tells replicates, and the labels, apart: no hyper-parameters."""


@dataclass(frozen=True)
class Table:
    """Every finished run of a zoo, its outcome, and what each measure read on it.

    ``runs``: index run_id; the fields of the spec (those of the data too: "dataset", "train_size", "label_noise", …;
    its seed is "data_seed"), the fields of `Outcome`, and the gaps with their standard errors.
    ``values``: same index; one float column a measure, raw (not multiplied by its sign), NaN where not "ok".
    ``readings``: one row a run and measure: run, measure, revision, value, standard_error, status, reason, seconds.
    ``measures``: the declarations of the columns of ``values``.
    ``axes``: the hyper-parameters that vary; without "seed" and "label_noise".
    ``test_errors``: (runs, test_size) float32, the error of each test example under the training law, rows as in
    ``runs``; `None` where the runs differ in their number of test examples.
    Runs that did not converge are in the table, with ``converged`` False.
    """

    runs: pandas.DataFrame
    values: pandas.DataFrame
    readings: pandas.DataFrame
    measures: Mapping[str, Measure | Declared]
    axes: tuple[str, ...]
    test_errors: numpy.ndarray | None


def table(
    store_or_path: Store | Path | str, measures: Mapping[str, Measure | Declared] | Collection[str] | None = None
) -> Table:
    """The table of a stored zoo; needs neither torch nor the code of the measures.

    ``measures``: declarations by key, or keys of those that the zoo was read with, by default all of these.

    Raises: InputError where the folder is no zoo, holds no finished run, or a key is unknown; Damaged where a stored
    file is.
    """
    store = store_or_path if isinstance(store_or_path, Store) else open_store(Path(store_or_path))
    made = frames(store)
    if made.outcomes.empty:
        raise InputError(f"{store.path} holds no finished run yet: run the zoo first")
    chosen = _chosen(store, measures)
    runs, axes = _runs(made)
    readings = _readings(made.readings, chosen)
    values = readings[readings["status"] == "ok"].pivot(index="run", columns="measure", values="value")
    values = values.reindex(index=runs.index, columns=pandas.Index(list(chosen), name="measure")).astype("float64")
    values.index.name = "run_id"
    return Table(runs, values, readings, chosen, axes, _test_errors(store, made))


def _chosen(
    store: Store, measures: Mapping[str, Measure | Declared] | Collection[str] | None
) -> Mapping[str, Measure | Declared]:
    if isinstance(measures, Mapping):
        return dict(measures)
    known = store.declarations()
    if measures is None:
        return known
    for key in measures:
        if key not in known:
            raise unknown(f"measure in {store.path}", key, known)
    return {key: known[key] for key in measures}


def _readings(stored: pandas.DataFrame, chosen: Mapping[str, Measure | Declared]) -> pandas.DataFrame:
    wanted = pandas.DataFrame(
        {
            "measure": pandas.Series(list(chosen), dtype="str"),
            "revision": pandas.Series([entry.revision for entry in chosen.values()], dtype="int64"),
        }
    )
    return stored.merge(wanted, on=["measure", "revision"]).drop(columns=["digest", "second_runs"])


def _runs(made: Frames) -> tuple[pandas.DataFrame, tuple[str, ...]]:
    found = specs(made)
    runs = pandas.DataFrame(
        [_hyper_parameters(spec) for spec in found.values()], index=pandas.Index(found, name="run_id")
    )
    if runs.groupby("dataset")["path"].nunique(dropna=False).max() > 1:
        # One name for several files (npz, folder …) would hide that the data differ.
        runs["dataset"] += ":" + runs["path"].fillna("")
    varying = tuple(
        str(name) for name in runs if name not in (*_NO_AXES, "path") and runs[name].nunique(dropna=False) > 1
    )
    outcomes = made.outcomes.set_index("run")[[field.name for field in dataclasses.fields(Outcome)]]
    runs = runs.join(outcomes)
    runs["error_gap"] = runs["test_error"] - runs["train_error"]
    runs["loss_gap"] = runs["test_loss_nats"] - runs["train_loss_nats"]
    runs["clean_error_gap"] = runs["clean_test_error"] - runs["train_error"]
    # The training sample is given, so only the test sample makes a gap uncertain.
    runs["error_gap_standard_error"] = runs["test_error_standard_error"]
    runs["loss_gap_standard_error"] = runs["test_loss_standard_error"]
    runs["clean_error_gap_standard_error"] = runs["clean_test_error_standard_error"]
    return runs, varying


def _hyper_parameters(spec: RunSpec) -> dict[str, Any]:
    fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.name != "data"}
    data = {f.name: getattr(spec.data, f.name) for f in dataclasses.fields(spec.data)}
    # The number of test examples is an outcome's field too, and known there even where the spec leaves it open.
    del data["test_size"]
    return {"dataset": data.pop("name"), "data_seed": data.pop("seed"), **data, **fields}


def _test_errors(store: Store, made: Frames) -> numpy.ndarray | None:
    if made.outcomes["test_size"].nunique() > 1:
        return None
    rows = []
    for run, digests in zip(made.outcomes["run"], made.outcomes["digests"]):
        rows.append(tensors.test_errors(files.read_checked(store.folder(run) / TEST, json.loads(digests)[TEST])))
    return numpy.stack(rows)
