"""How long trainings and readings of these runs will take, from those that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapbench.evaluate.compaction import Frames, specs
from gapbench.models.spec import RunSpec

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Kind:
    """Runs that cost about the same: one architecture of one width and depth, on one data set of one size."""

    architecture: str
    width: int
    depth: int
    dataset: str
    train_size: int

    @classmethod
    def of(cls, spec: RunSpec) -> Kind:
        """The kind of a run."""
        return cls(spec.architecture, spec.width, spec.depth, spec.data.name, spec.data.train_size)

    def __str__(self) -> str:
        return f"{self.architecture} {self.width}x{self.depth} on {self.train_size:,} of {self.dataset}"


class Timings:
    """Mean seconds of stored trainings and readings, of runs like the one asked for, else of ever less similar ones."""

    def __init__(self, made: Frames) -> None:
        found = specs(made)
        noise_seconds = made.outcomes[["run", "seconds"]].itertuples(index=False)
        trainings = [(found[run], float(seconds)) for run, seconds in noise_seconds]
        # Noisy labels take several times longer to fit than true ones, so they are averaged apart.
        self._training = _means(
            (key, seconds)
            for spec, seconds in trainings
            for key in ((Kind.of(spec), spec.data.label_noise), (spec.architecture, spec.data.label_noise), ())
        )
        kinds = {run: Kind.of(spec) for run, spec in found.items()}
        rows = made.readings[["run", "measure", "seconds"]].itertuples(index=False)
        self._reading = _means(
            (key, float(seconds))
            for run, measure, seconds in rows
            if run in kinds
            for key in ((measure, kinds[run]), (measure, kinds[run].architecture), (measure,))
        )

    @property
    def known(self) -> bool:
        """Whether any training is stored."""
        return () in self._training

    def training(self, spec: RunSpec) -> tuple[float, bool]:
        """Seconds to train a run, and whether runs of its kind and label noise were timed."""
        exact: Key = (Kind.of(spec), spec.data.label_noise)
        for key in (exact, (spec.architecture, spec.data.label_noise), ()):
            if key in self._training:
                return self._training[key], key == exact
        return 0.0, False

    def reading(self, measure: str, spec: RunSpec) -> float | None:
        """Seconds to read a measure on a run, `None` where it was never timed."""
        kind = Kind.of(spec)
        for key in ((measure, kind), (measure, kind.architecture), (measure,)):
            if key in self._reading:
                return self._reading[key]
        return None


def _means(samples: Iterable[tuple[Key, float]]) -> Mapping[Key, float]:
    sums: dict[Key, list[float]] = {}
    for key, value in samples:
        total = sums.setdefault(key, [0.0, 0.0])
        total[0] += value
        total[1] += 1
    return {key: total / count for key, (total, count) in sums.items()}


def axis_counts(runs: Sequence[RunSpec]) -> Mapping[str, Mapping[Any, int]]:
    """How many runs have each value, of every field that varies over them, the data's fields among them."""
    from gapbench.evaluate.fields import data_fields, run_fields

    counts: dict[str, dict[Any, int]] = {}
    for name in (*run_fields(), *data_fields(), "seed"):
        for spec in runs:
            owner = spec if hasattr(spec, name) else spec.data
            value = getattr(owner, "name" if name == "dataset" else name)
            counts.setdefault(name, {})[value] = counts.setdefault(name, {}).get(value, 0) + 1
    return {name: values for name, values in counts.items() if len(values) > 1}
