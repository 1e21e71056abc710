"""The commands on tables and the export of a stored zoo, as a user meets them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import gapbench
from gapbench.cli import main


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(24)
    frame = pd.DataFrame({"series": ["a", "b"] * 12, "log norm": y + rng.standard_normal(24), "y": y})
    frame["width"], frame["depth"], frame["rate"] = np.arange(24) % 4, np.arange(24) // 4 % 3, np.arange(24) // 12
    path = tmp_path / "models.csv"
    frame.to_csv(path, index=False)
    return path


def test_score_in_json_equals_the_api(table: Path) -> None:
    result = invoke("score", table, "--target", "y", "--measures", "log norm", "--group", "series", "--format", "json")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    frame = gapbench.score(table, "y", measures=["log norm"], group="series")
    assert [record["group"] for record in records] == ["a", "b"]
    for record, (_, row) in zip(records, frame.iterrows(), strict=True):
        assert {"n", "kendall_tau_b", "tau_a", "spearman", "a", "b", "r2", "rmse"} <= set(record)
        assert all(record[name] == row[name] for name in ("n", "kendall_tau_b", "r2", "rmse", "a_low"))


def test_score_with_axes_adds_the_scores_of_a_design(table: Path) -> None:
    result = invoke(
        "score", table, "--target", "y", "--axes", "width,depth,rate", "--measures", "log norm", "--format", "json"
    )
    record = json.loads(result.stdout)[0]
    assert record["group"] is None
    assert -1 <= record["granulated_tau"] <= 1
    assert record["pgdl_score"] > 0
    assert 0 <= record["conditional_mutual_information"] <= 1


def test_score_writes_files_and_shows_tables(table: Path, tmp_path: Path) -> None:
    result = invoke("score", table, "--target", "y", "--format", "csv", "--out", tmp_path / "new" / "s.csv")
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(tmp_path / "new" / "s.csv")) == 4
    for form, mark in (("table", "log norm"), ("markdown", "| log norm |"), ("latex", r"\toprule")):
        assert mark in invoke("score", table, "--target", "y", "--format", form).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "yy"], "unknown column 'yy'; did you mean y"),
        (["--target", "y", "--measures", "log_norm"], "did you mean log norm"),
        (["--target", "series"], "column 'series' is not numeric"),
        ([], "name the column to predict"),
    ],
)
def test_wrong_arguments_exit_with_2_and_close_names(table: Path, arguments: list[str], message: str) -> None:
    result = invoke("score", table, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert invoke("score", table.parent / "missing.csv", "--target", "y").exit_code == 2


def test_an_infinite_value_is_refused_or_dropped(table: Path) -> None:
    frame = pd.read_csv(table)
    frame.loc[4, "log norm"] = -np.inf
    frame.to_csv(table, index=False)
    refused = invoke("score", table, "--target", "y")
    assert refused.exit_code == 2
    assert "row 5, column 'log norm' is -inf" in refused.stderr
    kept = invoke("score", table, "--target", "y", "--measures", "log norm", "--drop-nonfinite", "--format", "json")
    assert json.loads(kept.stdout)[0]["n"] == 23


def test_compare_two_tables(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    after = tmp_path / "after.parquet"
    frame.assign(**{"log norm": frame["y"]}).to_parquet(after)
    result = invoke("compare", table, after, "--target", "y", "--measures", "log norm", "--format", "json")
    assert result.exit_code == 0, result.output
    found = {record["score"]: record for record in json.loads(result.stdout)}
    assert found["kendall_tau_b"]["second"] == 1.0
    assert found["kendall_tau_b"]["beyond"]
    assert "paired over the runs that both have" in result.stderr
    assert "kendall_tau_b" in invoke("compare", table, after, "--target", "y", "--measures", "log norm").stdout
    assert invoke("compare", table, after).exit_code == 2
    assert invoke("compare", table, tmp_path / "nowhere", "--target", "y").exit_code == 2


ZOO = """
name = "tiny"
seeds = [0]
[data]
name = "digits"
train_size = 24
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.05
batch_size = 8
max_epochs = 400
[axes]
width = [8, 16]
weight_decay = [0.0, 1e-3]
label_noise = [0.0, 0.5]
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "tiny.toml").write_text(ZOO)
    gapbench.run(folder / "tiny.toml", out=folder / "tiny", only=["l2", "path_norm"], jobs=1, progress=False)
    return folder / "tiny"


def test_export_holds_exactly_the_measures_shown(zoo: Path, tmp_path: Path) -> None:
    options = ["--resamples", "20"]
    board = gapbench.leaderboard(zoo, resamples=20, permutations=20)
    for form in ("csv", "markdown", "latex"):
        result = invoke("export", zoo, "--format", form, *options)
        assert result.exit_code == 0, result.output
        assert all(key.replace("_", r"\_" if form == "latex" else "_") in result.stdout for key in board.index)
    parquet = tmp_path / "scores.parquet"
    assert invoke("export", zoo, "--format", "parquet", "--out", parquet, *options).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), board, check_dtype=False)
    one = invoke("export", zoo, "--format", "bibtex", "--only", "path_norm", *options).stdout
    assert "@inproceedings{neyshabur2015" in one
    assert "jiang2020" not in one or "jiang2020" in board.loc["path_norm", "source"]
    assert invoke("export", zoo, "--format", "parquet", *options).exit_code == 2
    assert len(invoke("export", zoo, "--top", "1", *options).stdout.splitlines()) == 2


def test_the_values_of_the_page_are_those_of_the_export(zoo: Path, tmp_path: Path) -> None:
    page, table, options = tmp_path / "report.html", tmp_path / "scores.csv", ["--resamples", "20"]
    assert invoke("report", zoo, "--out", page, *options).exit_code == 0
    result = invoke("export", zoo, "--further", "--out", table, *options)
    assert result.exit_code == 0, result.output
    with table.open(newline="") as lines:
        frame = {row["measure"]: row for row in csv.DictReader(lines)}
    text = page.read_text(encoding="utf-8")
    columns = {
        '<table id="board"': {2: "within_noise_tau", 3: "within_noise_tau_p", 5: "granulated_tau", 6: "tau_b"},
        '<table class="heat': {1: "psi_width", 2: "psi_weight_decay", 3: "randomisation_auc"},
        '<table class="sortable folding stat"': {1: "spearman"},
    }
    for start, shown in columns.items():
        part = text[text.index(start) : text.index("</table>", text.index(start))]
        rows = re.findall(r'<tr[^>]*>((?:(?!</tr>).)*<td class="name" data-v="([^"]*)".*?)</tr>', part, re.S)
        assert {"l2", "path_norm"} <= {key for _, key in rows} <= set(frame)
        for row, key in rows:
            cells = re.findall(r'<td[^>]* data-v="([^"]*)"', row)
            for at, name in shown.items():
                assert cells[at] == frame[key][name], (start, key, name)
    refused = invoke("export", zoo, "--further", "--format", "latex", *options)
    assert refused.exit_code == 2
    assert "--further goes into CSV and Parquet" in refused.output


def test_compare_a_zoo_with_itself(zoo: Path) -> None:
    result = invoke("compare", zoo, zoo, "--format", "json")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert {record["measure"] for record in records} == {"l2", "path_norm"}
    assert not any(record["beyond"] for record in records)
    assert invoke("compare", zoo, "models.csv").exit_code == 2
