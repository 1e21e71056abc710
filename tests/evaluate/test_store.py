"""The zoo's folder: what is written where, how it comes back, and what is refused."""

from __future__ import annotations

import dataclasses
import getpass
import json
import math
import socket
from pathlib import Path

import pytest

from gapbench.evaluate.files import Damaged, make_folder
from gapbench.evaluate.provenance import environment
from gapbench.evaluate.store import Store, begin
from gapbench.evaluate.zoo import Zoo
from gapbench.measures.read import Reading
from gapbench.models.spec import run_id
from gapbench.models.trained import Outcome

OUTCOME = Outcome(0.0, 0.5, 0.1, 0.4, 0.1, 1e-3, math.inf, math.nan, 50, 3, 6, True, 0.1 + 0.2)


def _reading(measure: str, value: float | None = 0.1, status: str = "ok", revision: int = 1) -> Reading:
    return Reading(measure, revision, "abc", value, 0.0, status, "", 0.5)


@pytest.fixture
def store(tmp_path: Path, tiny_zoo: Zoo) -> Store:
    """A zoo with one committed run, its first."""
    store = begin(tmp_path / "zoo", tiny_zoo.source_text, [run_id(spec) for spec in tiny_zoo.specs])
    spec = tiny_zoo.specs[0]
    make_folder(store.folder(run_id(spec)))
    store.write_spec(spec)
    store.commit(spec, OUTCOME, {"a.bin": b"a", "b.bin": b"b"})
    return store


def test_a_run_comes_back(store: Store, tiny_zoo: Zoo) -> None:
    [run] = store.runs()
    stored = store.stored(run)
    assert stored is not None
    assert stored.spec == tiny_zoo.specs[0]
    assert stored.outcome.test_loss_nats == math.inf
    assert math.isnan(stored.outcome.test_loss_standard_error)
    assert dataclasses.replace(stored.outcome, test_loss_standard_error=0.0) == dataclasses.replace(
        OUTCOME, test_loss_standard_error=0.0
    )
    assert store.content(stored, "a.bin") == b"a"
    text = (store.folder(run) / "outcome.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_run_without_its_mark_is_not_there(store: Store) -> None:
    [run] = store.runs()
    (store.folder(run) / "outcome.json").unlink()
    assert store.runs() == []
    assert store.stored(run) is None


def test_a_spec_in_the_wrong_folder_is_refused(store: Store, tiny_zoo: Zoo) -> None:
    [run] = store.runs()
    path = store.folder(run) / "spec.json"
    for text in (path.read_text().replace('"width": 4', '"width": 5'), "{}", '{"data": {}, "oops": 1}'):
        path.write_text(text)
        with pytest.raises(Damaged, match="does not belong to its folder"):
            store.stored(run)
    store.write_spec(tiny_zoo.specs[0])
    assert store.stored(run) is not None


def test_the_latest_reading_counts(store: Store) -> None:
    [run] = store.runs()
    store.append_readings(run, [_reading("a", 0.1), _reading("b", None, "failed")])
    store.append_readings(run, [_reading("b", 0.2), _reading("a", 0.3, revision=2)])
    values = {key: row["value"] for key, row in store.readings(run).items()}
    assert values == {("a", 1): 0.1, ("b", 1): 0.2, ("a", 2): 0.3}


def test_a_reading_that_is_not_finite_is_never_stored(store: Store) -> None:
    [run] = store.runs()
    with pytest.raises(ValueError, match="JSON"):
        store.append_readings(run, [_reading("a"), _reading("b", math.nan)])
    assert store.readings(run) == {}


def test_errors_are_forgotten_when_training_succeeds(store: Store, tiny_zoo: Zoo) -> None:
    [run] = store.runs()
    assert store.error(run) is None
    store.write_error(run, "no memory")
    assert store.error(run) == "no memory"
    store.commit(tiny_zoo.specs[0], OUTCOME, {})
    assert store.error(run) is None


def test_provenance(store: Store) -> None:
    here = environment()
    assert store.record_provenance(here) == []
    assert store.record_provenance(here) == []
    assert store.record_provenance({**here, "torch": "9.9"}) == ["torch"]
    text = (store.path / "provenance.json").read_text()
    assert len(json.loads(text)["environments"]) == 2
    for secret in (socket.gethostname(), getpass.getuser(), str(Path.home())):
        assert secret not in [str(value) for value in here.values()]


def test_begin_may_be_repeated(store: Store, tiny_zoo: Zoo) -> None:
    again = begin(store.path, tiny_zoo.source_text, [run_id(spec) for spec in tiny_zoo.specs])
    assert again.runs() == store.runs()
