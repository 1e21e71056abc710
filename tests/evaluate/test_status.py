"""The state of a zoo, from its folder: counts by state, rate, failures, workers alive and dead; and how it is shown."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from gapbench.datasets.errors import InputError
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.execute import run
from gapbench.evaluate.status import Status, status
from gapbench.evaluate.store import Store, begin
from gapbench.evaluate.zoo import Zoo
from gapbench.models.spec import run_id
from gapbench.reports.status import rendered


def shown(state: Status) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(rendered(state))
    return capture.get()


def test_from_nothing_to_done(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path) -> None:
    out, keys = tmp_path / "zoo", ["drawn", "weight_sum"]
    with pytest.raises(InputError, match="does not exist"):
        status(out)
    store = begin(out, tiny_zoo.source_text, [])
    assert status(out).states == {"waiting": 4}
    run(tiny_zoo, out, ["drawn"], files=[measure_file], progress=False, part="1/2")
    half = status(out)
    assert half.states == {"done": 2, "waiting": 2}
    assert half.readings == {"ok": 2, "missing": 2}
    assert half.per_hour is not None
    assert half.seconds_left == pytest.approx(3600 * 2 / half.per_hour)
    run(tiny_zoo, out, keys, files=[measure_file], progress=False, part="2/2")
    later = status(out)
    assert later.states == {"done": 2, "trained": 2}
    assert later.readings == {"ok": 6, "missing": 2}
    first, second = sorted(half_done for half_done in store.runs())[:2]
    waiting = [run_id(spec) for spec in tiny_zoo.specs if len(store.readings(run_id(spec))) == 1]
    with claimed(store.folder(waiting[0]), out):
        busy = status(out)
        assert busy.states == {"done": 2, "reading": 1, "trained": 1}
        (worker,) = busy.workers
        assert worker.alive
        assert (worker.run, worker.owner.split()[:2]) == (waiting[0], ["process", str(os.getpid())])
        text = shown(busy)
        for words in ("4 runs", "done 2", "reading 1", "6 ok, 2 missing", "workers: 1 alive", waiting[0]):
            assert words in text, text
    assert first != second
    idle = status(out, now=time.time() + 4000)
    assert idle.per_hour is None
    assert "rate: unknown" in shown(idle)


def test_failures_are_counted_by_reason_and_a_dead_worker_is_dead(
    tmp_path: Path, tiny_zoo: Zoo, measure_file: Path
) -> None:
    out = tmp_path / "zoo"
    run(tiny_zoo, out, ["broken"], files=[measure_file], progress=False, part="1/2")
    store = Store(out)
    missing = [run_id(spec) for spec in tiny_zoo.specs if not store.is_finished(run_id(spec))]
    for failed in missing:
        store.folder(failed).mkdir(parents=True)
    store.write_error(missing[0], "training failed: it [always] does")
    folder = store.folder(missing[1])
    with claimed(folder, out):
        record = json.loads((folder / "claim").read_text())
        (folder / "claim").write_text(json.dumps({**record, "pid": 2**22 - 1, "started": "1"}))
        state = status(out)
    assert state.states == {"done": 2, "failed": 1, "waiting": 1}
    assert state.failures["training: training failed: it [always] does"] == 1
    assert sum(state.failures.values()) == 3
    assert [worker.alive for worker in state.workers] == [False]
    text = shown(state)
    assert "training failed: it [always] does" in text
    assert "dead" in text
