"""A finished run, and its second runs, as measures see them: from the files of the store, whose digests are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from gapbench.evaluate import files, tensors
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import HISTORY, WEIGHTS, Store, Stored
from gapbench.models.spec import RunSpec, run_id

if TYPE_CHECKING:
    from gapbench.datasets.spec import Split
    from gapbench.models.trained import Trained


def rebuilt(store: Store, stored: Stored, sample: Split, trajectory: bytes | None = None) -> Trained:
    """The trained network of a finished run, on its training sample and with this trajectory.

    Raises: Damaged where a file is damaged.
    """
    from gapbench.datasets.seeds import generator
    from gapbench.models.build import build
    from gapbench.models.early_stopping import fitted_part
    from gapbench.models.trained import Trained

    sample = fitted_part(stored.spec, sample)
    # The generator is of no consequence: every value is replaced.
    network = build(stored.spec, tuple(sample.inputs.shape[1:]), sample.classes, generator(0))
    names = list(network.state_dict())
    initial, final = tensors.weights(store.content(stored, WEIGHTS), names)
    network.load_state_dict(final)
    network.eval()
    history = tensors.history(store.content(stored, HISTORY))
    path = None if trajectory is None else tensors.trajectory(trajectory, names)
    return Trained(network, initial, sample, history, path)


def rebuilt_second_runs(
    store: Store, second: SecondRuns, roots: Collection[str], sample: Split, load: Callable[[RunSpec], Split]
) -> dict[str, Any]:
    """The second runs that are on the grid and among these roots, by root; all of them must be finished.

    ``sample``: the training sample of the run itself, which its seed twins share; ``load``: that of another.
    Raises: Damaged where a file is damaged.
    """
    found: dict[str, Any] = {}
    if "seed_twins" in roots and second.seed_twins:
        found["seed_twins"] = tuple(rebuilt(store, _stored(store, spec), sample) for spec in second.seed_twins)
    if "random_label_twin" in roots and second.random_label_twin:
        spec = second.random_label_twin[0]
        other = load(spec)
        if other.inputs.equal(sample.inputs):  # one tensor for both, in memory and under the guard of `read`
            other = dataclasses.replace(other, inputs=sample.inputs)
        found["random_label_twin"] = rebuilt(store, _stored(store, spec), other)
    return found


def _stored(store: Store, spec: RunSpec) -> Stored:
    stored = store.stored(run_id(spec))
    if stored is None:
        raise files.Damaged(f"{store.folder(run_id(spec))} was deleted while it was read; run the same command again")
    return stored
