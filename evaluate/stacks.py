"""On a GPU, runs of one shape are trained in stacks before anything is read; on a CPU, one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gapbench.datasets.errors import InputError
from gapbench.evaluate import files, tensors
from gapbench.evaluate.claim import claimed
from gapbench.evaluate.progress import Report
from gapbench.evaluate.store import HISTORY, TEST, TRAJECTORY, WEIGHTS, Store
from gapbench.evaluate.work import Instructions, Worked
from gapbench.models.spec import RunSpec, run_id

if TYPE_CHECKING:
    from gapbench.models.stacked import Result

LARGEST_STACK = 256
"""Of 1,000 small networks on a GPU, four stacks; a larger one gains little and loses more when it is killed."""
SMALLEST_STACK = 4


def device() -> str | None:
    """The GPU that stacks are trained on, `None` where there is none."""
    import torch

    return "cuda" if torch.cuda.is_available() else None


def way(specs: Sequence[RunSpec], instructions: Instructions) -> str:
    """How these runs are trained on this machine, in words."""
    if device() is None:
        return "one run at a time in each worker of one thread (no GPU here)"
    stacked = sum(len(stack) for stack in stacks(specs, instructions))
    rest = len(specs) - stacked
    return f"{stacked} runs in stacks of at most {LARGEST_STACK} on the GPU, {rest} one at a time in workers"


def stacks(specs: Sequence[RunSpec], instructions: Instructions) -> list[list[RunSpec]]:
    """The runs that are trained in stacks, a list a stack; those with checkpoints along the path never are."""
    from gapbench.models.stacked import stack_key, stackable

    if instructions.trajectory_checkpoints:
        return []
    alike: dict[object, list[RunSpec]] = {}
    for spec in specs:
        if stackable(spec):
            alike.setdefault(stack_key(spec), []).append(spec)
    cut = (
        runs[start : start + LARGEST_STACK] for runs in alike.values() for start in range(0, len(runs), LARGEST_STACK)
    )
    return [stack for stack in cut if len(stack) >= SMALLEST_STACK]


def trained_in_stacks(
    store: Store, specs: Sequence[RunSpec], instructions: Instructions, on: str, report: Report
) -> Iterator[Worked]:
    """Train what can be stacked of these runs, which are not trained yet, on the device ``on``; store each run.

    Runs that another process holds, and those that are no part of a stack, are left to be done one at a time.
    """
    for stack in stacks(specs, instructions):
        with contextlib.ExitStack() as held:
            mine = [spec for spec in stack if _claim(held, store, spec)]
            for worked in _trained(store, mine, instructions, on) if mine else ():
                report(worked)
                yield worked


def _claim(held: contextlib.ExitStack, store: Store, spec: RunSpec) -> bool:
    folder = store.folder(run_id(spec))
    files.make_folder(folder)
    claim = held.enter_context(claimed(folder, store.path))
    if claim is None or store.is_finished(run_id(spec)):
        return False
    files.remove_temporaries(folder)
    store.write_spec(spec)
    return True


def _trained(store: Store, specs: Sequence[RunSpec], instructions: Instructions, on: str) -> Iterator[Worked]:
    from gapbench.datasets.load import load
    from gapbench.models.stacked import train_stack

    for spec in specs:
        store.log_training(run_id(spec), "start")
    data = [load(spec.data, instructions.data_dir) for spec in specs]
    try:
        results = train_stack(specs, data, trajectory_epochs=instructions.trajectory_epochs, device=on)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  each run of the stack is then tried by itself
        why = f"training in a stack failed ({type(error).__name__}: {error}); it is tried by itself"
        yield from (Worked(run_id(spec), problem=why) for spec in specs)
        return
    for spec, result in zip(specs, results, strict=True):
        store.commit(spec, result[1], _contents(result, instructions))
        store.log_training(run_id(spec), "end")
        yield Worked(run_id(spec), trained=True)


def _contents(result: Result, instructions: Instructions) -> dict[str, bytes]:
    trained, _, results = result
    assert trained.history is not None
    contents = {
        WEIGHTS: tensors.weights_content(trained.initial, trained.network.state_dict()),
        HISTORY: tensors.history_content(trained.history),
        TEST: tensors.results_content(results),
    }
    # Training again one at a time would end in other bits, so the path of a stack is always kept.
    if trained.trajectory is not None and instructions.trajectory_epochs:
        contents[TRAJECTORY] = tensors.trajectory_content(trained.trajectory)
    return contents
