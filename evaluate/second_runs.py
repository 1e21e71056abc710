"""The other runs of a zoo that a reading may be made from: the same recipe with other seeds, or with random labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gapbench.evaluate.declared import Declared
from gapbench.models.spec import RunSpec, run_id, twin


@dataclass(frozen=True)
class SecondRuns:
    """The second runs of one run, as far as they are on the grid of its zoo.

    ``seed_twins``: the runs that differ from it in their seed alone, in the order of their seeds;
    ``random_label_twin``: the one that differs in random labels alone (a run on random labels is its own), or none.
    """

    seed_twins: tuple[RunSpec, ...] = ()
    random_label_twin: tuple[RunSpec, ...] = ()

    def needed(self, entry: Declared) -> tuple[RunSpec, ...]:
        """The runs that a measure needs beside its own."""
        return tuple(spec for root in entry.second_runs for spec in getattr(self, root))

    def key(self, entry: Declared) -> str:
        """What a reading of the measure is made from, beside its own run: the ids of the runs it needs, sorted."""
        return " ".join(sorted({run_id(spec) for spec in self.needed(entry)}))


def second_runs(specs: Iterable[RunSpec]) -> Mapping[str, SecondRuns]:
    """The second runs of each of the runs on a grid, by run id."""
    runs = {run_id(spec): spec for spec in specs}
    recipes: dict[RunSpec, list[RunSpec]] = {}
    for spec in sorted(runs.values(), key=lambda spec: spec.seed):
        recipes.setdefault(_recipe(spec), []).append(spec)
    # What an adopted network's weights are is no part of its recipe.
    named = {dataclasses.replace(spec, adopted=""): spec for spec in runs.values()}
    found = {}
    for run, spec in runs.items():
        seeds = (other for other in recipes[_recipe(spec)] if other != spec)
        other = named.get(dataclasses.replace(twin(spec), adopted=""))
        found[run] = SecondRuns(tuple(seeds), () if other is None else (other,))
    return found


def _recipe(spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, seed=0, adopted="")
