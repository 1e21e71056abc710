"""Kill drivers and workers at random moments, a hundred times over the engines, and compare with undisturbed zoos.

    python benchmarks/kill.py [--local 80] [--processes 6] [--dask 5] [--ray 4] [--slurm 5] [--epochs 60] [--seed 0]

A tiny zoo of four runs is made again and again: by a process of its own (``--local``: it trains and reads itself), by
two worker processes (``--processes``), on Dask, on Ray, and in submitit's local jobs (``--slurm``). At a random moment
of an attempt its driver, or the worker that holds a claim, is ended with SIGKILL, so many times for each engine; the
next attempt continues the same folder, beside what orphans of the last one may still do, and once a folder is finished
the next is begun. Printed: the kills by what the victim was doing; how many attempts ended well although a worker was
killed; how many trainings were begun again (those that were killed) and how many although they were finished (none may
be); what `gapbench verify` finds; and in how many folders a weight, an outcome or a reading differs by a bit from those
of an undisturbed zoo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import gapbench.measures.read
import gapbench.models.train  # noqa: F401
from gapbench.datasets.load import load
from gapbench.evaluate import execute
from gapbench.evaluate.claim import holders
from gapbench.evaluate.engines import Engine
from gapbench.evaluate.plan import plan
from gapbench.evaluate.store import Store
from gapbench.evaluate.verify import verify
from gapbench.evaluate.zoo import Zoo, parse

GRID = """
name = "tiny"
seeds = [0]
[data]
name = "digits"
train_size = 32
test_size = 50
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
dropout = 0.2
stop_loss_nats = 1e-9
max_epochs = EPOCHS
[axes]
width = [4, 6]
[trajectory]
epochs = [1]
"""
KEYS = ["l2", "margin_mean", "coin", "loss_dissipated"]
ENGINES = {
    "local": Engine(),
    "processes": Engine(jobs=2),
    "dask": Engine("dask", jobs=2),
    "ray": Engine("ray", jobs=2),
    "slurm": Engine("slurm", jobs=2, settings={"cluster": "local"}),
}
ATTEMPT_SECONDS = 300.0
"""An attempt that lasts longer hangs."""


def run(zoo: Zoo, out: Path, engine: str) -> int:
    """One attempt; its exit status."""
    return execute.run(zoo, out, KEYS, engine=ENGINES[engine], progress=False).exit_status


class Attempt:
    """A process, in a group of its own, that runs the zoo: forked from this one, or, with workers, a new one."""

    def __init__(self, zoo: Zoo, out: Path, engine: str) -> None:
        self.status: int | None = None
        if engine == "local":
            self.pid = os.fork()
            if self.pid == 0:
                os.setsid()
                os._exit(_silently(zoo, out, engine))
        else:
            command = [sys.executable, __file__, "--attempt", engine, str(out), zoo.source_text]
            with (out.parent / "attempts.log").open("a") as log:
                self.pid = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).pid

    def is_over(self) -> bool:
        """Whether it has ended; ``status`` is then its exit status, below 0 where a signal ended it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self) -> None:
        """Wait until it has ended."""
        end = time.monotonic() + ATTEMPT_SECONDS
        while not self.is_over():
            if time.monotonic() > end:
                raise RuntimeError(f"an attempt hangs: process {self.pid}")
            time.sleep(0.01)


def _silently(zoo: Zoo, out: Path, engine: str) -> int:
    try:
        return run(zoo, out, engine)
    except BaseException as error:  # noqa: BLE001  a forked process must not go on with its parent's work
        print(repr(error), file=sys.stderr)
        return 3


def at_work(out: Path) -> list[tuple[int, Path]]:
    """The living processes that hold claims, and the folders of their runs."""
    found = []
    for held in holders(Store(out)):
        folder = Store(out).folder(held.run)
        if held.alive:
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append((int(json.loads((folder / "claim").read_text())["pid"]), folder))
    return found


def doing(out: Path, folder: Path | None) -> str:
    """What the holder of the claim on a folder was doing when it died."""
    if folder is None:
        return "between runs" if (out / "runs").is_dir() and Store(out).runs() else "starting"
    if not (folder / "outcome.json").exists():
        return "storing" if list(folder.glob("*.safetensors")) else "training"
    rows = Store(out).readings(folder.name)
    return "releasing" if len(rows) == len(KEYS) else "reading"


def contents(out: Path) -> dict[str, Any]:
    """Everything stored but times."""
    store, found = Store(out), {}
    for name in store.runs():
        stored = store.stored(name)
        assert stored is not None
        outcome = {field: value for field, value in vars(stored.outcome).items() if field != "seconds"}
        rows = {key: {n: v for n, v in row.items() if n != "seconds"} for key, row in store.readings(name).items()}
        found[name] = (dict(stored.digests), outcome, rows)
    return found


def killed(
    zoo: Zoo, folder: Path, engine: str, kills: int, draw: random.Random, expected: dict[str, Any], whole: float
) -> Counter[str]:
    """Do the zoo in folder after folder until so many attempts, of ``whole`` seconds each, were killed; the counts."""
    counts: Counter[str] = Counter()
    number, out = 0, folder / "0"
    while counts["kills"] < kills or out.exists():
        events = {name: Store(out).trainings(name) for name in Store(out).runs()}
        attempt = Attempt(zoo, out, engine)
        # With workers, most of an attempt is imports, and a kill then tests nothing.
        while engine != "local" and not attempt.is_over() and not at_work(out):
            time.sleep(0.01)
        if counts["kills"] < kills:
            time.sleep(draw.uniform(0.0, 1.1) * whole)
            holders = at_work(out)
            victim, place = draw.choice(holders) if holders and draw.random() < 0.5 else (attempt.pid, None)
            if place is None and engine == "local":
                place = holders[0][1] if holders else None
            if not attempt.is_over():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    counts["kills"] += 1
                    of = "driver" if victim == attempt.pid else "worker"
                    counts[f"killed: {of if engine != 'local' else 'both in one'}, {doing(out, place)}"] += 1
                    attempt.wait()
                    counts["ended well although a worker was killed"] += of == "worker" and attempt.status == 0
        attempt.wait()
        counts["attempts"] += 1
        counts["finished, trained again"] += sum(Store(out).trainings(name) != log for name, log in events.items())
        if attempt.status == 0:
            logs = [Store(out).trainings(name) for name in Store(out).runs()]
            counts["folders"] += 1
            counts["runs"] += len(logs)
            counts["killed in training, trained again"] += sum(log.count("start") - 1 for log in logs)
            counts["folders that differ"] += contents(out) != expected
            counts["faults found by verify"] += len(list(verify(Store(out))))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(attempt.pid, signal.SIGKILL)
            number += 1
            out = folder / str(number)
    return counts


def main() -> int:
    """Do the kills; the exit status is 0 where nothing finished was done again and no bit differs."""
    if sys.argv[1:2] == ["--attempt"]:
        engine, out, text = sys.argv[2:]
        return run(parse(text, "tiny.toml"), Path(out), engine)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kills in (("local", 80), ("processes", 6), ("dask", 5), ("ray", 4), ("slurm", 5)):
        parser.add_argument(f"--{name}", type=int, default=kills)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    zoo = parse(GRID.replace("EPOCHS", str(options.epochs)), "tiny.toml")
    # What is imported and loaded here need not be in every forked process.
    load(zoo.specs[0].data)
    plan(zoo, Path("no such folder"), KEYS)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        undisturbed, began = Attempt(zoo, Path(place, "undisturbed"), "local"), time.monotonic()
        undisturbed.wait()
        whole = time.monotonic() - began
        expected = contents(Path(place, "undisturbed"))
        assert len(expected) == len(zoo.specs), undisturbed.status
        for name in ENGINES:
            kills = getattr(options, name)
            if not kills:
                continue
            folder = Path(place, name)
            folder.mkdir()
            counts = killed(zoo, folder, name, kills, random.Random(f"{options.seed} {name}"), expected, whole)
            print(json.dumps({"engine": name, **dict(sorted(counts.items()))}), flush=True)
            total += counts
    print(json.dumps({"engine": "all", **dict(sorted(total.items()))}))
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{sum(one.ru_utime + one.ru_stime for one in spent):.0f} processor seconds")
    wrong = ("finished, trained again", "folders that differ", "faults found by verify")
    return int(any(total[name] for name in wrong))


if __name__ == "__main__":
    sys.exit(main())
