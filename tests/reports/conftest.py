"""A synthetic zoo for the reports: 2^5 configurations, three label-noise levels, two seeds, and a leaderboard of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.measures.registry import Measure
from gapbench.reports.references import Reference, parse

SCORES = ("tau_b", "tau_a", "granulated_tau", "within_noise_tau", "randomisation_auc")
AXES = ("width", "depth", "learning_rate", "batch_size", "weight_decay")
VALUES: dict[str, tuple[float, float]] = {
    "width": (64, 256),
    "depth": (2, 4),
    "learning_rate": (0.01, 0.1),
    "batch_size": (32, 128),
    "weight_decay": (0.0, 5e-4),
}


@dataclass(frozen=True)
class FakeTable:
    """The fields of `gapbench.evaluate.table.Table`."""

    runs: pd.DataFrame
    values: pd.DataFrame
    readings: pd.DataFrame
    measures: Mapping[str, Measure]
    axes: tuple[str, ...]
    test_errors: np.ndarray | None


def make_measure(name: str, sign: int = 1, **options: Any) -> Measure:
    """A registered measure whose function is never called."""

    def function(weights: Any, margins: Any, *, radius: float = 0.1) -> float:
        """Sum over layers of the squared norm.

        Formula: ``sum_i ||W_i||^2``, dimensionless.
        """
        raise AssertionError("a report never evaluates a measure")

    function.__name__ = name
    declared: dict[str, Any] = {"family": "norms", "source": "jiang2020, eq. 33", **options}
    return Measure(name=name, function=function, needs=("weights", "margins"), sign=sign, **declared)


def make_runs(levels: tuple[float, ...] = (0.0, 0.5, 1.0), seeds: int = 2, seed: int = 0) -> pd.DataFrame:
    """One row a run; the gap grows with the label noise, and within a level with the configuration."""
    random = np.random.default_rng(seed)
    rows = []
    for cell in itertools.product(*VALUES.values()):
        quality = random.normal()
        for level, replicate in itertools.product(levels, range(seeds)):
            train = abs(random.normal(0, 0.002))
            test = 0.1 + 0.02 * quality + 0.8 * level + random.normal(0, 0.005)
            rows.append(
                {
                    **dict(zip(AXES, cell)),
                    "label_noise": level,
                    "seed": replicate,
                    "train_error": train,
                    "test_error": test,
                    "clean_test_error": 0.9 * test,
                    "train_loss_nats": 0.01,
                    "test_loss_nats": 3 * test,
                    "epochs": 20 + round(60 * level),
                    "steps": 1000,
                    "converged": random.random() > 0.03,
                    "test_size": 500,
                    "error_gap": test - train,
                    "loss_gap": 3 * test - 0.01,
                    "clean_error_gap": 0.9 * test - train,
                    "error_gap_standard_error": 0.01,
                }
            )
    return pd.DataFrame(rows, index=pd.Index([f"{i:020x}" for i in range(len(rows))], name="run_id"))


def make_table(measures: int = 40, **options: Any) -> FakeTable:
    """Measures of mixed worth, some undefined or failed, one never defined, one bound, two controls."""
    runs = make_runs(**options)
    random = np.random.default_rng(1)
    declared: dict[str, Measure] = {}
    columns: dict[str, np.ndarray] = {}

    def add(entry: Measure, values: np.ndarray) -> None:
        declared[entry.key] = entry
        columns[entry.key] = np.asarray(values, dtype=float)

    noise = runs["label_noise"].to_numpy()
    for i in range(measures - 6):
        sign = -1 if i % 4 == 3 else 1
        raw = sign * (
            random.normal(0, 1) * noise + random.normal() * runs["error_gap"] + random.normal(0, 1, len(runs))
        )
        entry = make_measure(f"measure_{i:02d}", sign, family=("norms", "margins", "path")[i % 3], bound=i == 4)
        add(entry, np.exp(3 * raw) if i % 3 == 0 else raw)
    add(make_measure("num_params", family="capacity"), runs["width"] * runs["depth"] * 1000)
    add(make_measure("path_norm", family="path"), noise + 0.1 * random.normal(size=len(runs)))
    add(make_measure("sharpness", family="sharpness", knobs={"radius": 0.05}), random.normal(size=len(runs)))
    add(make_measure("never", family="spectrum", source="unpublished"), random.normal(size=len(runs)))
    add(make_measure("coin", family="controls", control=True, source="unpublished"), random.normal(size=len(runs)))
    add(make_measure("epochs_trained", family="controls", control=True, source="unpublished"), runs["epochs"])
    values = pd.DataFrame(columns, index=runs.index)
    return FakeTable(runs, values, make_readings(values, random), declared, AXES, None)


def make_readings(values: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The long table; every seventh measure is undefined now and then, every eleventh fails, "never" always is."""
    records = []
    for column, key in enumerate(values):
        for row, run in enumerate(values.index):
            status, reason = "ok", ""
            if key == "never":
                status, reason = "undefined", "layers are smaller than 50 x 50: no power law is fitted"
            elif column % 7 == 5 and random.random() < 0.2:
                status, reason = "undefined", f"training margin is not positive ({-random.random():.3g})"
            elif column % 11 == 9 and random.random() < 0.3:
                status, reason = "failed", f"{key} raised LinAlgError: SVD did not converge"
            if status != "ok":
                values.iat[row, column] = np.nan
            records.append((run, key, 1, values.iat[row, column], 0.0, status, reason, 0.001 * (column + 1)))
    names = ["run", "measure", "revision", "value", "standard_error", "status", "reason", "seconds"]
    return pd.DataFrame(records, columns=names)


def make_frame(rows: Mapping[str, Mapping[str, Any]], **attrs: Any) -> pd.DataFrame:
    """A leaderboard with the stated numbers; a score is a point, or (point, low, high); bands are ±.15 about chance."""
    records = {}
    for key, row in rows.items():
        record: dict[str, Any] = {"family": "norms", "source": "jiang2020", "sign": 1, "control": False}
        record |= {"same_as": ""}
        record |= {"ok": 192, "undefined": 0, "failed": 0, "seconds": 0.02}
        for score in SCORES:
            stated = row.get(score, 0.0)
            point, low, high = stated if isinstance(stated, tuple) else (stated, stated - 0.08, stated + 0.08)
            chance = 0.5 if score == "randomisation_auc" else 0.0
            record |= {score: point, f"{score}_low": low, f"{score}_high": high, f"{score}_p": 0.03}
            record |= {f"{score}_null_low": chance - 0.15, f"{score}_null_high": chance + 0.15}
            if np.isnan(point):
                record |= dict.fromkeys((f"{score}_null_low", f"{score}_null_high", f"{score}_p"), np.nan)
        record |= {"psi_width": 0.31, "psi_width_low": 0.05, "psi_width_high": 0.52}
        record |= {"rank": 2.0, "rank_low": 1.0, "rank_high": 3.5}
        record |= {name: value for name, value in row.items() if name not in SCORES}
        record["n"] = row.get("n", record["ok"])
        records[key] = {"kind": "control" if record["control"] else "measure"} | record
    frame = pd.DataFrame.from_dict(records, orient="index")
    frame.index.name = "measure"
    frame = frame.sort_values("within_noise_tau", ascending=False, kind="stable")
    ceiling = {"split_half": 0.85, "ceiling": 0.9, "low": 0.86, "high": 0.94}
    frame.attrs = {
        "target": "error_gap",
        "runs": 192,
        "excluded_not_converged": 8,
        "recipes": 32,
        "configurations": 96,
        "seeds": 2,
        "noises": [0.0, 0.5, 1.0],
        "constant_gap": [],
        "ceiling": {
            "overall": {**ceiling, "ceiling": 0.95},
            "label_noise=0": ceiling,
            "label_noise=1": {**ceiling, "ceiling": 0.8},
            "within_noise": {**ceiling, "ceiling": 0.85},
        },
        "resamples": 1000,
        "permutations": 999,
        "seed": 7,
        **attrs,
    }
    return frame


def leaderboard_of(table: FakeTable) -> pd.DataFrame:
    """Numbers of the right form for every measure of a table; they are drawn, for a report does not check them."""
    random = np.random.default_rng(2)
    counts = table.readings.groupby("measure")["status"].value_counts().unstack(fill_value=0)
    rows: dict[str, dict[str, Any]] = {}
    for key, entry in table.measures.items():
        points = dict(zip(SCORES, random.uniform(-0.7, 0.8, len(SCORES))))
        points["randomisation_auc"] = random.uniform(0, 1)
        if table.values[key].isna().all():
            points = dict.fromkeys(SCORES, np.nan)
        status = {name: int(counts.loc[key].get(name, 0)) for name in ("ok", "undefined", "failed")}
        options = {"family": entry.family, "source": entry.source, "sign": entry.sign, "control": entry.control}
        rows[key] = {**points, **options, **status, "seconds": float(random.uniform(1e-4, 2))}
    return make_frame(rows)


@pytest.fixture(scope="session")
def tables() -> Callable[..., FakeTable]:
    """Makes a synthetic table: `make_table`."""
    return make_table


@pytest.fixture(scope="session")
def frames() -> Callable[..., pd.DataFrame]:
    """Makes a leaderboard with planted numbers: `make_frame`."""
    return make_frame


@pytest.fixture(scope="session")
def boards() -> Callable[[FakeTable], pd.DataFrame]:
    """Makes a leaderboard of drawn numbers for a table: `leaderboard_of`."""
    return leaderboard_of


@pytest.fixture(scope="session")
def declare() -> Callable[..., Measure]:
    """Makes a registered measure: `make_measure`."""
    return make_measure


@pytest.fixture(scope="session")
def table() -> FakeTable:
    """The synthetic zoo; read only."""
    return make_table()


@pytest.fixture
def frame(table: FakeTable) -> pd.DataFrame:
    """Its leaderboard."""
    return leaderboard_of(table)


@pytest.fixture(scope="session")
def small() -> FakeTable:
    """A synthetic zoo of few measures; read only."""
    return make_table(14)


@pytest.fixture
def renamed(small: FakeTable) -> Callable[[str, str], FakeTable]:
    """The synthetic zoo with one measure under another name."""

    def rename(old: str, new: str) -> FakeTable:
        measures = {new if k == old else k: replace(m, name=new) if k == old else m for k, m in small.measures.items()}
        readings = small.readings.replace({"measure": {old: new}})
        return replace(small, measures=measures, readings=readings, values=small.values.rename(columns={old: new}))

    return rename


@pytest.fixture(scope="session")
def references() -> dict[str, Reference]:
    """A bibliography of one."""
    return parse(
        "@article{jiang2020, title = {Fantastic Generalization Measures}, year = 2020, eprint = {1912.02178},\n"
        "  author = {Jiang, Yiding and Neyshabur, Behnam and Mobahi, Hossein}}"
    )
