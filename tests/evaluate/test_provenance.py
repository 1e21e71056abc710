"""The provenance of a zoo names what made it, and its digests change with its numbers and with nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from gapbench.evaluate.declared import Declared
from gapbench.evaluate.provenance import environment, provenance
from gapbench.evaluate.table import Table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zoo.toml").write_text('name = "tiny"\n')
    (tmp_path / "provenance.json").write_text(json.dumps({"environments": [{"python": "3.11.0", "torch": "2.5"}]}))
    return tmp_path


@pytest.fixture
def table() -> Table:
    runs = pd.DataFrame({"root_seed": [7, 7], "seed": [0, 1], "train_error": 0.0, "test_error": [0.1, 0.2]}, ["a", "b"])
    runs["clean_test_error"], runs["epochs"], runs["steps"] = runs["test_error"], 5, 50
    readings = pd.DataFrame({"run": ["a", "b"], "measure": "m", "revision": 1, "value": [1.0, 2.0], "status": "ok"})
    entry = Declared("m", "m", "norms", "here", 1, 1, "")
    return Table(runs, readings.pivot(index="run", columns="measure", values="value"), readings, {"m": entry}, (), None)


def test_what_made_it_and_what_scores_it(folder: Path, table: Table) -> None:
    found = provenance(folder, table)
    assert found["made with"] == {"python": "3.11.0", "torch": "2.5"}
    assert found["scored with"] == environment()
    assert found["seeds"] == {"root_seed": [7], "seed": [0, 1]}
    assert (found["runs"], found["readings"]) == (2, 2)
    (folder / "provenance.json").write_text(json.dumps({"environments": [environment(), {"python": "3.12"}]}))
    again = provenance(folder, table)
    assert again["made with (2 of 2)"] == {"python": "3.12"}
    assert "scored with" not in again
    (folder / "provenance.json").unlink()
    assert provenance(folder, table)["scored with"] == environment()


def test_digests_follow_the_numbers_and_not_the_order_of_rows(folder: Path, table: Table) -> None:
    digests = provenance(folder, table)["digests"]
    turned = dataclasses.replace(table, runs=table.runs[::-1], readings=table.readings[::-1])
    assert provenance(folder, turned)["digests"] == digests
    read = dataclasses.replace(table, readings=table.readings.assign(value=[1.0, 2.0 + 1e-15]))
    assert provenance(folder, read)["digests"]["readings"] != digests["readings"]
    assert provenance(folder, read)["digests"]["outcomes"] == digests["outcomes"]
    trained = dataclasses.replace(table, runs=table.runs.assign(test_error=[0.1, 0.3]))
    assert provenance(folder, trained)["digests"]["outcomes"] != digests["outcomes"]
