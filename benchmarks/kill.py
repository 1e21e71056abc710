"""Kill a run of a bundled zoo twenty times, at random moments, and compare with an undisturbed one.

    python benchmarks/kill.py [--zoo quick] [--kills 20] [--jobs 2] [--seed 0]

Each attempt is a process group of its own (the command and its workers), ended with SIGKILL. Printed: how many kills
fell into work, how many trainings were started and finished, whether any finished training was started again, and
whether every weight, outcome and reading has the same bits as without a kill.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gapbench.evaluate.store import Store

RUN = """
import sys
from pathlib import Path
from gapbench.evaluate.execute import run
from gapbench.evaluate.zoo import load_zoo
if __name__ == "__main__":
    print(run(load_zoo(sys.argv[1]), Path(sys.argv[2]), jobs=int(sys.argv[3]), progress=False))
"""


def start(zoo: str, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    """One run of the zoo, in a process group of its own."""
    script = out.parent / "attempt.py"
    script.write_text(RUN)
    return subprocess.Popen([sys.executable, str(script), zoo, str(out), str(jobs)], start_new_session=True)


def size(out: Path) -> int:
    """Bytes in the logs, which grow when a training begins and when readings are stored."""
    logs = [path for name in ("trainings.log", "readings.jsonl") for path in out.glob(f"runs/*/*/{name}")]
    return sum(path.stat().st_size for path in logs)


def contents(out: Path) -> dict[str, Any]:
    """Everything stored but times."""
    store, found = Store(out), {}
    for run in store.runs():
        stored = store.stored(run)
        assert stored is not None
        outcome = {name: value for name, value in vars(stored.outcome).items() if name != "seconds"}
        rows = {key: {n: v for n, v in row.items() if n != "seconds"} for key, row in store.readings(run).items()}
        found[run] = (dict(stored.digests), outcome, rows)
    return found


def main() -> int:
    """Run the comparison; the exit status is 0 where nothing was redone and the bits are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default="quick")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = Path(folder, "undisturbed"), Path(folder, "killed")
        began = time.monotonic()
        start(options.zoo, undisturbed, options.jobs).wait()
        whole = time.monotonic() - began
        began = time.monotonic()
        start(options.zoo, undisturbed, options.jobs).wait()
        idle = time.monotonic() - began
        expected = contents(undisturbed)
        print(f"undisturbed: {len(expected)} runs in {whole:.0f} s")
        kills = redone = 0
        while kills < options.kills:
            finished = {run: Store(killed).trainings(run) for run in Store(killed).runs()}
            process = start(options.zoo, killed, options.jobs)
            # Importing takes longer than a run: only a kill in the middle of work tests anything.
            before = size(killed)
            while process.poll() is None and size(killed) == before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 1.5) * max(whole - idle, 0.0) / options.kills)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            redone += sum(Store(killed).trainings(run) != events for run, events in finished.items())
            print(f"kill {kills}: {len(Store(killed).runs())} runs finished", flush=True)
        start(options.zoo, killed, options.jobs).wait()
        found = contents(killed)
        events = [event for run in found for event in Store(killed).trainings(run)]
        readings = sum(len(rows) for _, _, rows in found.values())
        print(f"kills: {kills}; runs: {len(found)}; readings: {readings}")
        print(f"trainings started: {events.count('start')}, finished: {events.count('end')}, redone: {redone}")
        differing = [run for run in expected if found.get(run) != expected[run]]
        print(f"runs that differ from the undisturbed ones: {len(differing)} {differing[:5]}")
    return int(bool(redone or differing or len(found) != len(expected)))


if __name__ == "__main__":
    sys.exit(main())
