"""A truncated, a bit-flipped and a swapped file of every kind: found, named, repaired by redoing only that run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.execute import run
from gapbench.evaluate.store import Store
from gapbench.evaluate.verify import set_aside, verify
from gapbench.evaluate.zoo import Zoo

KEYS = ["weight_sum", "drawn", "distance_moved"]
RUN_FILES = (
    "spec.json", "weights.safetensors", "history.parquet", "test.safetensors", "trajectory.safetensors", "outcome.json",
    "readings.jsonl", "memory.jsonl", "trainings.log",
)  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one trained zoo that every test copies."""
    return tmp_path_factory.mktemp("pristine")


@pytest.fixture
def out(tmp_path: Path, pristine: Path, tiny_zoo: Zoo, measure_file: Path) -> Path:
    if not (pristine / "zoo").exists():
        run(tiny_zoo, pristine / "zoo", KEYS, files=[measure_file], progress=False)
    shutil.copytree(pristine / "zoo", tmp_path / "zoo")
    return tmp_path / "zoo"


def damage(kind: str, file: Path, other: Path) -> None:
    content = file.read_bytes()
    if kind == "swapped":
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        # In the middle of the values: a digit of a JSON number, a byte of a tensor.
        text = file.suffix not in (".safetensors", ".log")
        # A leading digit: another seventeenth one may be of the same number.
        leading = (at for at in range(1, len(content)) if content[at : at + 1].isdigit() and content[at - 1] in b" -:[")
        places = list(leading) if text else []
        at = places[len(places) // 2] if places else len(content) - 5
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_an_intact_zoo_has_no_fault(out: Path) -> None:
    assert list(verify(Store(out))) == []


@pytest.mark.parametrize("kind", ["truncated", "flipped", "swapped"])
@pytest.mark.parametrize("name", RUN_FILES)
def test_every_damage_is_found_and_repaired(
    out: Path, pristine: Path, tiny_zoo: Zoo, measure_file: Path, result: Callable[[Path], dict[str, Any]],
    name: str, kind: str,
) -> None:  # fmt: skip
    if (name, kind) == ("trainings.log", "swapped"):
        pytest.skip("the two logs are equal, and swapped they are the same files")
    store = Store(out)
    first, second = store.runs()[:2]
    damage(kind, store.folder(first) / name, store.folder(second) / name)
    faults = list(verify(store))
    hit = {first, second} if kind == "swapped" else {first}
    assert {fault.run for fault in faults} == hit
    assert all(name in fault.what for fault in faults)
    for damaged in hit:
        set_aside(store, damaged)
    assert list(verify(store)) == []
    again = run(tiny_zoo, out, KEYS, files=[measure_file], progress=False)
    assert again.trained == len(hit)
    assert result(out) == result(pristine / "zoo")
    assert len(list((out / "damaged").iterdir()) if hit else []) == len(hit)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "swapped"])
@pytest.mark.parametrize("name", ["measures.json", "provenance.json", "zoo.toml"])
def test_damaged_files_of_the_zoo_are_named_and_made_anew(
    out: Path, pristine: Path, tiny_zoo: Zoo, measure_file: Path, result: Callable[[Path], dict[str, Any]],
    name: str, kind: str,
) -> None:  # fmt: skip
    other = out / ("provenance.json" if name == "measures.json" else "measures.json")
    damage(kind, out / name, other)
    hit = {name, other.name} if kind == "swapped" else {name}
    faults = list(verify(Store(out)))
    assert {fault.run for fault in faults} == {None}
    assert len(faults) == len(hit)
    assert all(any(one in fault.what for fault in faults) for one in hit)
    for damaged in hit - {"zoo.toml"}:
        (out / damaged).unlink()
    assert run(tiny_zoo, out, KEYS, files=[measure_file], progress=False).trained == 0
    assert list(verify(Store(out))) == []
    assert result(out) == result(pristine / "zoo")


def test_a_damaged_record_of_a_failure_is_named(out: Path) -> None:
    store = Store(out)
    first, second = store.runs()[:2]
    store.write_error(first, "it is too large")
    store.write_error(second, "it is too small")
    assert list(verify(store)) == []
    damage("swapped", *(store.folder(name) / "error.json" for name in (first, second)))
    assert {fault.run for fault in verify(store)} == {first, second}
    path = store.folder(first) / "error.json"
    path.write_bytes(path.read_bytes().replace(b"too", b"top"))
    assert first in {fault.run for fault in verify(store)}


def test_readings_lost_at_the_end_of_a_line_are_found_and_read_again(
    out: Path, pristine: Path, tiny_zoo: Zoo, measure_file: Path, result: Callable[[Path], dict[str, Any]]
) -> None:
    store = Store(out)
    first = store.runs()[0]
    path = store.folder(first) / "readings.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (fault,) = verify(store)
    assert fault.run == first
    assert "lacks 1 readings" in fault.what
    again = run(tiny_zoo, out, KEYS, files=[measure_file], progress=False)
    assert (again.trained, again.read) == (0, 1)
    assert list(verify(store)) == []
    assert result(out) == result(pristine / "zoo")


def test_damaged_parquet_files_cost_time_only(
    out: Path, pristine: Path, tiny_zoo: Zoo, measure_file: Path, result: Callable[[Path], dict[str, Any]]
) -> None:
    for name, other in (("outcomes.parquet", "readings.parquet"), ("readings.parquet", "outcomes.parquet")):
        for kind in ("truncated", "flipped", "swapped"):
            damage(kind, out / name, out / other)
            assert run(tiny_zoo, out, KEYS, files=[measure_file], progress=False).trained == 0
            assert result(out) == result(pristine / "zoo")


def test_a_run_at_work_is_left_alone(out: Path) -> None:
    store = Store(out)
    busy = store.runs()[0]
    with claimed(store.folder(busy), out), pytest.raises(InputError, match="is being worked on"):
        set_aside(store, busy)
