"""The table: columns, gaps, order, missing readings, and what it needs to be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.compaction import compact, frames
from gapbench.evaluate.execute import run
from gapbench.evaluate.files import Damaged
from gapbench.evaluate.store import TEST, Store
from gapbench.evaluate.table import Table, table
from gapbench.evaluate.zoo import Zoo, parse
from gapbench.models.spec import run_id


@pytest.fixture
def zoo_path(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> Path:
    """A finished tiny zoo."""
    run(tiny_zoo, tmp_path / "zoo", keys, files=[measure_file], progress=False)
    return tmp_path / "zoo"


def _equal(one: Table, other: Table) -> bool:
    assert one.test_errors is not None
    assert other.test_errors is not None
    return (
        one.runs.equals(other.runs)
        and one.values.equals(other.values)
        and one.readings.equals(other.readings)
        and bool((one.test_errors == other.test_errors).all())
    )


def test_the_table(zoo_path: Path, tiny_zoo: Zoo, keys: list[str]) -> None:
    made = table(zoo_path)
    specs = {run_id(spec): spec for spec in tiny_zoo.specs}
    assert set(made.runs.index) == set(specs)
    assert made.runs.index.name == made.values.index.name == "run_id"
    assert list(made.runs.index) == list(made.values.index)
    assert made.axes == ("width",)
    assert list(made.values) == list(made.measures) == keys
    for name, spec in specs.items():
        row = made.runs.loc[name]
        assert (row["width"], row["label_noise"], row["dataset"]) == (spec.width, spec.data.label_noise, "digits")
        assert row["error_gap"] == row["test_error"] - row["train_error"]
        assert row["clean_error_gap"] == row["clean_test_error"] - row["train_error"]
        assert row["loss_gap"] == row["test_loss_nats"] - row["train_loss_nats"]
        assert row["error_gap_standard_error"] == row["test_error_standard_error"]
    assert made.runs["converged"].dtype == bool
    assert (made.runs["test_size"] == 50).all()


def test_values_are_those_of_the_readings(zoo_path: Path) -> None:
    made, store = table(zoo_path), Store(zoo_path)
    for name in store.runs():
        rows = store.readings(name)
        assert made.values.loc[name, "weight_sum"] == rows["weight_sum", 1]["value"]
        assert made.values.loc[name, ["broken", "without_value"]].isna().all()
    assert made.readings["status"].value_counts().to_dict() == {"ok": 12, "undefined": 4, "failed": 4}
    assert set(made.readings["reason"][made.readings["measure"] == "without_value"]) == {"it never has a value"}


def test_declarations_are_those_of_the_code(zoo_path: Path) -> None:
    found = table(zoo_path).measures["drawn"]
    assert (found.family, found.sign, found.control, found.bound) == ("tiny_measures", -1, True, False)
    assert (found.summary, found.source, dict(found.knobs)) == ("One uniform draw.", "unpublished", {})


def test_test_errors_are_in_the_order_of_the_runs(zoo_path: Path) -> None:
    made = table(zoo_path)
    assert made.test_errors is not None
    assert made.test_errors.dtype == numpy.float32
    assert made.test_errors.shape == (4, 50)
    assert numpy.allclose(made.test_errors.mean(axis=1), made.runs["test_error"], atol=1e-6)
    # The positive control: the runs differ, so another order would not agree.
    assert not numpy.allclose(made.test_errors[::-1].mean(axis=1), made.runs["test_error"], atol=1e-6)


def test_a_choice_of_measures(zoo_path: Path) -> None:
    everything = table(zoo_path)
    some = table(zoo_path, ["drawn", "weight_sum"])
    assert list(some.values) == list(some.measures) == ["drawn", "weight_sum"]
    pandas.testing.assert_frame_equal(some.values, everything.values[["drawn", "weight_sum"]])
    assert list(table(zoo_path, {"drawn": everything.measures["drawn"]}).values) == ["drawn"]
    with pytest.raises(InputError, match="did you mean drawn"):
        table(zoo_path, ["drawm"])


def test_a_zoo_read_in_part_has_gaps(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    out = tmp_path / "zoo"
    run(tiny_zoo, out, ["drawn"], files=[measure_file], progress=False, part="1/2")
    run(tiny_zoo, out, ["weight_sum"], files=[measure_file], progress=False)
    made = table(out)
    assert made.values.notna().sum().to_dict() == {"drawn": 2, "weight_sum": 4}
    assert made.values.dtypes.unique().tolist() == [numpy.dtype("float64")]


def test_the_parquet_files_change_nothing(zoo_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    names = ("readings.parquet", "outcomes.parquet")
    cached = table(zoo_path)
    contents = {name: (zoo_path / name).read_bytes() for name in names}
    for name in names:
        (zoo_path / name).unlink()
    assert _equal(table(zoo_path), cached)
    for name, content in contents.items():
        for damaged in (b"", content[:-9], content[:200] + bytes([content[200] ^ 255]) + content[201:]):
            for other in names:
                (zoo_path / other).write_bytes(damaged if other == name else contents[other])
            assert _equal(table(zoo_path), cached)
    compact(Store(zoo_path))
    assert _equal(table(zoo_path), cached)


def test_parquet_files_that_are_out_of_date_are_seen(
    zoo_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path
) -> None:
    old = {name: (zoo_path / name).read_bytes() for name in ("readings.parquet", "outcomes.parquet")}
    measure_file.write_text(measure_file.read_text().replace("torch.rand(", "1 + torch.rand("))
    run(tiny_zoo, zoo_path, keys, files=[measure_file], progress=False, reread=True)
    new = table(zoo_path)
    new_readings = (zoo_path / "readings.parquet").read_bytes()
    assert (new.values["drawn"] > 1).all()
    for name, content in old.items():
        (zoo_path / name).write_bytes(content)
    assert _equal(table(zoo_path), new)
    (zoo_path / "readings.parquet").write_bytes(new_readings)
    assert _equal(table(zoo_path), new)


def test_the_parquet_files_are_used(zoo_path: Path) -> None:
    """The positive control of the tests above: readings of an unchanged run come from the Parquet file."""
    store = Store(zoo_path)
    made = frames(store)
    victim = store.folder(store.runs()[0]) / "readings.jsonl"
    stamp, content = victim.stat(), victim.read_bytes()
    victim.write_bytes(b"x" * len(content))
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert frames(store).readings.equals(made.readings)
    os.utime(victim)
    assert frames(store).readings["run"].nunique() == 3


def test_damaged_files_are_named(zoo_path: Path) -> None:
    store = Store(zoo_path)
    path = store.folder(store.runs()[2]) / TEST
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Damaged, match=str(path)):
        table(zoo_path)
    path.write_bytes(content)
    lines = store.folder(store.runs()[2]) / "readings.jsonl"
    lines.write_bytes(b"{torn\n" + lines.read_bytes())
    with pytest.raises(Damaged, match=f"{lines}, line 1"):
        table(zoo_path)


def test_no_zoo_and_no_run(tmp_path: Path, tiny_zoo: Zoo) -> None:
    with pytest.raises(InputError, match="does not exist"):
        table(tmp_path / "missing")
    with pytest.raises(InputError, match="is no zoo"):
        table(tmp_path)
    (tmp_path / "zoo.toml").write_text(tiny_zoo.source_text)
    with pytest.raises(InputError, match="holds no finished run yet"):
        table(tmp_path)


def test_test_sets_of_several_sizes(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path) -> None:
    zoo = parse(tiny_zoo.source_text.replace("test_size = 50", "").replace("[4, 6]", "[4]\ntest_size = [30, 50]"), "a")
    run(zoo, tmp_path / "zoo", ["drawn"], files=[measure_file], progress=False)
    made = table(tmp_path / "zoo")
    assert made.test_errors is None
    assert sorted(made.runs["test_size"]) == [30, 30, 50, 50]


def test_needs_no_torch(zoo_path: Path) -> None:
    code = (
        "import sys; from gapbench.evaluate.table import table; from gapbench.evaluate.zoo import load_zoo;"
        f"table({str(zoo_path)!r}); load_zoo('quick'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
