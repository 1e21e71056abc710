"""Running a zoo: what is stored, what is not redone, what is retried, and how failures are told."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.evaluate import execute, units
from gapbench.evaluate import work as work_module
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.execute import run
from gapbench.evaluate.store import TRAJECTORY, WEIGHTS, Store
from gapbench.evaluate.zoo import Zoo, parse
from gapbench.models import train as train_module
from gapbench.models.spec import run_id

Result = Callable[[Path], dict[str, Any]]


def _run(zoo: Zoo, out: Path, keys: list[str], file: Path, **options: Any) -> execute.Summary:
    return run(zoo, out, keys, files=[file], progress=False, **options)


def test_a_zoo_is_trained_and_read_once(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    out = tmp_path / "zoo"
    first = _run(tiny_zoo, out, keys, measure_file)
    assert (first.runs, first.trained, first.read) == (4, 4, 20)
    assert (first.readings_ok, first.readings_undefined, first.readings_failed) == (12, 4, 4)
    assert first.exit_status == 1
    again = _run(tiny_zoo, out, keys, measure_file)
    assert (again.trained, again.read) == (0, 0)
    assert (again.readings_ok, again.readings_failed, again.exit_status) == (12, 4, 1)
    store = Store(out)
    assert sorted(store.runs()) == sorted(run_id(spec) for spec in tiny_zoo.specs)
    for name in store.runs():
        assert store.trainings(name) == ["start", "end"]
        assert not (store.folder(name) / "claim").exists()
    assert (out / "zoo.toml").read_text() == tiny_zoo.source_text


def test_workers_do_not_change_the_bits(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, result: Result
) -> None:
    _run(tiny_zoo, tmp_path / "one", keys, measure_file)
    _run(tiny_zoo, tmp_path / "two", keys, measure_file, jobs=2)
    for part in ("2/2", "1/2"):
        _run(tiny_zoo, tmp_path / "shards", keys, measure_file, part=part)
    expected = result(tmp_path / "one")
    assert len(expected) == 4
    assert result(tmp_path / "two") == expected
    assert result(tmp_path / "shards") == expected


def test_measures_added_later_are_read_without_training(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, result: Result
) -> None:
    _run(tiny_zoo, tmp_path / "a", keys[:1], measure_file)
    later = _run(tiny_zoo, tmp_path / "a", keys, measure_file)
    assert (later.trained, later.read) == (0, 16)
    _run(tiny_zoo, tmp_path / "b", keys, measure_file)
    assert result(tmp_path / "a") == result(tmp_path / "b")


def test_twins_share_their_random_numbers(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    _run(tiny_zoo, tmp_path / "zoo", ["drawn"], measure_file)
    store = Store(tmp_path / "zoo")
    drawn: dict[int, set[float]] = {}
    for name in store.runs():
        stored = store.stored(name)
        assert stored is not None
        drawn.setdefault(stored.spec.width, set()).add(store.readings(name)["drawn", 1]["value"])
    assert [len(values) for values in drawn.values()] == [1, 1]
    assert len(set.union(*drawn.values())) == 2


def test_failed_readings_are_retried_only_on_request(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path
) -> None:
    out = tmp_path / "zoo"
    assert _run(tiny_zoo, out, ["broken"], measure_file).readings_failed == 4
    measure_file.write_text(measure_file.read_text().replace('raise RuntimeError("it always raises")', "return 1.0"))
    kept = _run(tiny_zoo, out, ["broken"], measure_file)
    assert (kept.read, kept.readings_failed, len(kept.notes)) == (0, 4, 1)
    retried = _run(tiny_zoo, out, ["broken"], measure_file, retry_failed=True)
    assert (retried.trained, retried.read, retried.readings_ok, retried.readings_failed) == (0, 4, 4, 0)
    assert retried.exit_status == 0


def test_changed_code_is_told_once_and_not_reread(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path
) -> None:
    out = tmp_path / "zoo"
    _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file)
    before = {name: Store(out).readings(name) for name in Store(out).runs()}
    text = measure_file.read_text()
    measure_file.write_text(text.replace("float(p.detach", "2 * float(p.detach"))
    told = _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file)
    assert told.read == 0
    assert len(told.notes) == 1
    assert "measure weight_sum: its code changed but its revision did not" in told.notes[0]
    assert {name: Store(out).readings(name) for name in Store(out).runs()} == before
    reread = _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file, reread=True)
    assert (reread.read, reread.notes) == (4, ())
    for name, rows in before.items():
        new = Store(out).readings(name)
        assert new["weight_sum", 1]["value"] == 2 * rows["weight_sum", 1]["value"]
        assert new["drawn", 1] == rows["drawn", 1]


def test_a_new_revision_is_read_and_the_old_one_kept(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path
) -> None:
    out = tmp_path / "zoo"
    _run(tiny_zoo, out, ["weight_sum"], measure_file)
    measure_file.write_text(measure_file.read_text().replace("sign=1)", "sign=1, revision=2)"))
    assert _run(tiny_zoo, out, ["weight_sum"], measure_file).read == 4
    for name in Store(out).runs():
        assert set(Store(out).readings(name)) == {("weight_sum", 1), ("weight_sum", 2)}


def test_a_trajectory_that_is_not_stored_is_made_again(
    tmp_path: Path, tiny_zoo: Zoo, forgetful_zoo: Zoo, keys: list[str], measure_file: Path, result: Result
) -> None:
    out = tmp_path / "zoo"
    _run(forgetful_zoo, out, ["weight_sum"], measure_file)
    later = _run(forgetful_zoo, out, ["weight_sum", "distance_moved"], measure_file)
    assert (later.trained, later.readings_ok) == (0, 8)
    _run(tiny_zoo, tmp_path / "stored", ["weight_sum", "distance_moved"], measure_file)
    for name, (_, outcome, readings) in result(tmp_path / "stored").items():
        assert result(out)[name][1:] == (outcome, readings)
        assert Store(out).trainings(name) == ["start", "end"] * 2
        assert Store(tmp_path / "stored").trainings(name) == ["start", "end"]
        assert not (Store(out).folder(name) / TRAJECTORY).exists()


def test_checkpoints_that_are_not_stored_are_made_again(tmp_path: Path, forgetful_zoo: Zoo, measure_file: Path) -> None:
    """Read in the unit of work that trains, or after retraining: the same values."""
    text = forgetful_zoo.source_text.replace("epochs = [1]", "epochs = [1]\ncheckpoints = true")
    zoo, measure = parse(text, "a.toml"), "kernel_drift"
    assert zoo.trajectory_checkpoints
    _run(zoo, tmp_path / "at once", [measure], measure_file)
    _run(zoo, tmp_path / "later", ["weight_sum"], measure_file)
    assert _run(zoo, tmp_path / "later", [measure], measure_file).readings_ok == 4
    for name in Store(tmp_path / "later").runs():
        found, expected = (Store(tmp_path / where).readings(name)[measure, 1] for where in ("later", "at once"))
        assert found["value"] == expected["value"] != 0
        assert not (Store(tmp_path / "later").folder(name) / TRAJECTORY).exists()


def test_a_retraining_with_other_weights_fails_the_reading(
    tmp_path: Path, forgetful_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "zoo"
    _run(forgetful_zoo, out, ["weight_sum"], measure_file)
    train = train_module.train

    def other(spec: Any, data: Any, **options: Any) -> Any:
        return train(dataclasses.replace(spec, seed=9), data, **options)

    monkeypatch.setattr(train_module, "train", other)
    later = _run(forgetful_zoo, out, ["weight_sum", "drawn", "distance_moved"], measure_file)
    assert (later.readings_ok, later.readings_failed) == (8, 4)
    for name in Store(out).runs():
        stored = Store(out).stored(name)
        assert stored is not None
        row = Store(out).readings(name)["distance_moved", 1]
        assert row["status"] == "failed"
        assert stored.digests[WEIGHTS] in row["reason"]


def test_a_failed_training_is_recorded_and_stops_nobody(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "zoo"
    train = train_module.train

    def moody(spec: Any, data: Any, **options: Any) -> Any:
        if spec.width == 6:
            raise RuntimeError("no memory left")
        return train(spec, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train", moody)
        first = _run(tiny_zoo, out, ["weight_sum"], measure_file)
    assert (first.trained, len(first.problems), first.exit_status) == (2, 2, 1)
    assert all("training failed: RuntimeError: no memory left" in problem for problem in first.problems)
    kept = _run(tiny_zoo, out, ["weight_sum"], measure_file)
    assert (kept.trained, len(kept.problems), kept.exit_status) == (0, 2, 1)
    retried = _run(tiny_zoo, out, ["weight_sum"], measure_file, retry_failed=True)
    assert (retried.trained, retried.problems, retried.exit_status) == (2, (), 0)
    assert _run(tiny_zoo, out, ["weight_sum"], measure_file).exit_status == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damaged_weights_are_refused_by_name(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, damage: str, result: Result
) -> None:
    out = tmp_path / "zoo"
    _run(tiny_zoo, out, ["weight_sum"], measure_file)
    store = Store(out)
    victim = store.runs()[1]
    path = store.folder(victim) / WEIGHTS
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-7])
    if damage == "delete":
        path.unlink()
    hurt = _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file)
    assert (hurt.read, hurt.exit_status, len(hurt.problems)) == (3, 1, 1)
    assert str(path) in hurt.problems[0]
    stored = store.stored(victim)
    assert stored is not None
    assert damage == "delete" or stored.digests[WEIGHTS] in hurt.problems[0]
    # What the message says to do mends it.
    for entry in path.parent.iterdir():
        entry.unlink()
    path.parent.rmdir()
    assert _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file).exit_status == 0
    _run(tiny_zoo, tmp_path / "undisturbed", ["weight_sum", "drawn"], measure_file)
    assert result(out) == result(tmp_path / "undisturbed")


def test_runs_of_another_process_are_waited_for(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "WAIT_SECONDS", 0.05)
    out = tmp_path / "zoo"
    _run(tiny_zoo, out, ["weight_sum"], measure_file)
    victim = Store(out).folder(Store(out).runs()[0])
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with claimed(victim, out):
            entered.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    threading.Timer(0.5, leave.set).start()
    assert _run(tiny_zoo, out, ["weight_sum", "drawn"], measure_file).readings_ok == 8
    assert leave.is_set()
    holder.join()


def test_an_interrupt_stops_cleanly(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch, result: Result
) -> None:
    out = tmp_path / "zoo"
    train = train_module.train
    calls = []

    def interrupted(spec: Any, data: Any, **options: Any) -> Any:
        calls.append(spec)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return train(spec, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train", interrupted)
        with pytest.raises(KeyboardInterrupt, match="run the same command again to continue"):
            _run(tiny_zoo, out, ["weight_sum"], measure_file)
    assert len(Store(out).runs()) == 2
    assert not list(out.rglob("claim"))
    assert _run(tiny_zoo, out, ["weight_sum"], measure_file).trained == 2
    _run(tiny_zoo, tmp_path / "undisturbed", ["weight_sum"], measure_file)
    assert result(out) == result(tmp_path / "undisturbed")


def test_a_lost_claim_writes_nothing(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "zoo"
    train = train_module.train
    monkeypatch.setattr(units, "WAIT_SECONDS", 0.0)
    stolen: list[Path] = []

    def robbed(spec: Any, data: Any, **options: Any) -> Any:
        if not stolen:
            stolen.append(Store(out).folder(run_id(spec)) / "claim")
            stolen[0].write_text('{"token": "another"}')
            threading.Timer(0.5, stolen[0].unlink).start()
        return train(spec, data, **options)

    monkeypatch.setattr(train_module, "train", robbed)
    done = _run(tiny_zoo, out, ["weight_sum"], measure_file)
    assert (done.trained, done.readings_ok, done.exit_status) == (4, 4, 0)
    assert Store(out).trainings(stolen[0].parent.name) == ["start", "start", "end"]


def test_the_callers_threads_come_back(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _run(tiny_zoo, tmp_path / "zoo", ["weight_sum"], measure_file)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_wrong_input(tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path) -> None:
    out = tmp_path / "zoo"
    with pytest.raises(InputError, match="unknown measure 'weight_sun'; did you mean weight_sum"):
        _run(tiny_zoo, out, ["weight_sun"], measure_file)
    with pytest.raises(InputError, match="no such file of measures"):
        _run(tiny_zoo, out, keys, tmp_path / "missing.py")
    with pytest.raises(InputError, match="jobs is 0"):
        _run(tiny_zoo, out, keys, measure_file, jobs=0)
    for old, new, message in (('"mlp"', '"mpl"', "did you mean mlp"), ('"digits"', '"digit"', "did you mean digits")):
        zoo = parse(tiny_zoo.source_text.replace(old, new), "a.toml")
        with pytest.raises(InputError, match=message):
            _run(zoo, out, keys, measure_file)
    assert not out.exists()


def test_two_grids_do_not_share_a_folder_but_one_may_grow(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path
) -> None:
    out = tmp_path / "zoo"
    _run(tiny_zoo, out, ["drawn"], measure_file)
    text = tiny_zoo.source_text
    with pytest.raises(InputError, match="2 runs that are not in this grid"):
        _run(parse(text.replace("[4, 6]", "[4, 8]"), "a.toml"), out, ["drawn"], measure_file)
    with pytest.raises(InputError, match="4 runs that are not in this grid"):
        _run(parse(text, "a.toml", root_seed=1), out, ["drawn"], measure_file)
    with pytest.raises(InputError, match="begun with trajectory epochs"):
        _run(parse(text.replace("epochs = [1]", "epochs = [2]"), "a.toml"), out, ["drawn"], measure_file)
    with pytest.raises(InputError, match="begun without trajectory checkpoints"):
        _run(parse(text.replace("epochs = [1]", "epochs = [1]\ncheckpoints = true"), "a.toml"), out, [], measure_file)
    grown = _run(parse(text.replace("[4, 6]", "[4, 6, 8]"), "a.toml"), out, ["drawn"], measure_file)
    assert (grown.runs, grown.trained) == (6, 2)
    assert "[4, 6, 8]" in (out / "zoo.toml").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty and is no zoo"):
        _run(tiny_zoo, tmp_path / "other", ["drawn"], measure_file)
    with pytest.raises(InputError, match="is a file"):
        _run(tiny_zoo, tmp_path / "other" / "thesis.tex", ["drawn"], measure_file)


def test_an_unreadable_run_stops_nobody(
    tmp_path: Path, tiny_zoo: Zoo, keys: list[str], measure_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(work_module, "rebuilt", broken)
    done = _run(tiny_zoo, tmp_path / "zoo", ["weight_sum"], measure_file)
    assert (done.trained, done.read, len(done.problems), done.exit_status) == (4, 0, 4, 1)
    assert "reading failed: RuntimeError: size mismatch" in done.problems[0]
