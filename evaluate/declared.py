"""What a zoo remembers of the measures it was read with, so that a table needs neither their code nor torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapbench.measures.registry import Measure


@dataclass(frozen=True)
class Declared:
    """The declaration of a measure, with the attributes of `gapbench.measures.registry.Measure` but for its code.

    ``digest`` is the hash of the code that was declared last; ``trajectory`` says that the measure needs one;
    ``second_runs`` are the other runs that it needs, by the names of the roots; ``predictor``: it was fitted to the gap
    (see `gapbench.evaluate.predictors`) and is no measure.
    """

    key: str
    name: str
    family: str
    source: str
    sign: int
    revision: int
    digest: str
    bound: bool = False
    control: bool = False
    feature: bool = False
    uses_unlabelled_test_inputs: bool = False
    predictor: bool = False
    invariances: tuple[str, ...] = ()
    requires: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    documentation: str = ""
    trajectory: bool = False
    second_runs: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return self.documentation.partition("\n")[0]


def kind(entry: Measure | Declared) -> str:
    """What an entry is to a leaderboard; only a "measure" is ranked, and a "feature" is not shown."""
    if entry.control:
        return "control"
    if entry.feature:
        return "feature"
    if isinstance(entry, Declared) and entry.predictor:
        return "predictor"
    return "uses test inputs" if entry.uses_unlabelled_test_inputs else "measure"


def declared(measure: Measure, digest: str, needs: tuple[str, ...]) -> Declared:
    """The declaration of a measure whose code has this digest and which needs these roots and quantities."""
    shared = {f.name: getattr(measure, f.name) for f in dataclasses.fields(Declared) if hasattr(measure, f.name)}
    shared["knobs"] = dict(measure.knobs)
    seconds = tuple(root for root in ("seed_twins", "random_label_twin") if root in needs)
    return Declared(**shared, digest=digest, trajectory="trajectory" in needs, second_runs=seconds)


def to_record(entry: Declared) -> dict[str, Any]:
    """A declaration as a JSON object; a knob that JSON cannot hold is written as text."""
    record = dataclasses.asdict(entry)
    record["knobs"] = {name: _plain(value) for name, value in entry.knobs.items()}
    return record


def from_record(record: Mapping[str, Any]) -> Declared:
    """The inverse of `to_record`; fields of a later version are left out."""
    known = {f.name for f in dataclasses.fields(Declared)}
    fields = {name: value for name, value in record.items() if name in known}
    for name in ("invariances", "second_runs"):
        fields[name] = tuple(fields.get(name, ()))
    return Declared(**fields)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
