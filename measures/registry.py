"""The registry: what a complexity measure and a quantity are, and how plain functions become them.

A measure is a function. Its positional parameters name the quantities it needs, its keyword-only parameters are its
knobs, and it returns a float, or an `Estimate` when it is sampled. A quantity is the same kind of function and may
return anything. The roots of the graph are the fields of `Trained` and a generator (`ROOTS`).
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar, overload

from gapbench.datasets.errors import InputError, unknown
from gapbench.measures.digests import digest

Function = TypeVar("Function", bound=Callable[..., Any])

ROOTS = ("network", "initial", "train", "history", "trajectory", "rng")
"""What a measure may see of a trained network: the fields of `Trained`, and `rng`, a generator of its own."""

INVARIANCES = ("rescaling", "unit_permutation", "example_permutation")
"""Transformations that a measure can declare to leave its value unchanged; the contract tests each one."""


class Undefined(Exception):
    """The measure has no value on this network, for a reason that is not a fault (say, a negative margin)."""


@dataclass(frozen=True)
class Estimate:
    """A sampled value with its standard error; ``converged`` is False where the estimator hit its cap."""

    value: float
    standard_error: float
    converged: bool = True


@dataclass(frozen=True)
class Quantity:
    """A shared computation; ``large`` marks results that `read` keeps alive one at a time."""

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    large: bool = False


@dataclass(frozen=True)
class Measure:
    """A complexity measure as registered; ``sign`` +1 says that a larger value predicts a larger gap."""

    name: str
    family: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    source: str
    sign: int
    bound: bool = False
    control: bool = False
    invariances: tuple[str, ...] = ()
    requires: str | None = None
    revision: int = 1
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its column: ``name``, or ``name[knob=value,…]`` for a variant."""
        return variant_key(self.name, self.knobs)

    @property
    def documentation(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.documentation.partition("\n")[0]


def variant_key(name: str, knobs: Mapping[str, Any]) -> str:
    """``name`` followed by its knobs, sorted, in square brackets."""
    if not knobs:
        return name
    return f"{name}[{','.join(f'{knob}={value}' for knob, value in sorted(knobs.items()))}]"


@dataclass
class _Declaration:
    kind: str
    options: dict[str, Any]
    variants: list[dict[str, Any]] = field(default_factory=list)


def measure(
    *,
    source: str,
    sign: int,
    bound: bool = False,
    control: bool = False,
    invariances: Iterable[str] = (),
    requires: str | None = None,
    revision: int = 1,
) -> Callable[[Function], Function]:
    """Declare a function a complexity measure.

    ``source``: a key of references.bib and where in it ("jiang2020, eq. 33"), an "arXiv:…" or "doi:…", or
    "unpublished". ``sign``: +1 where a larger value predicts a larger gap, -1 where a smaller one does; declared
    before any result is seen. ``bound``: the value bounds the error gap. ``control``: it sets the scale and is not
    ranked. ``revision``: raise it whenever the function's values change.

    Raises: ValueError where sign is not +1 or -1, or an invariance is not one of `INVARIANCES`.
    """
    if sign not in (1, -1):
        raise ValueError(f"sign must be +1 or -1, not {sign!r}")
    strange = [name for name in invariances if name not in INVARIANCES]
    if strange:
        raise ValueError(f"unknown invariance {strange[0]!r}; known: {', '.join(INVARIANCES)}")
    options = {
        "source": source,
        "sign": sign,
        "bound": bound,
        "control": control,
        "invariances": tuple(invariances),
        "requires": requires,
        "revision": revision,
    }

    def declare(function: Function) -> Function:
        _attach(function, _Declaration("measure", options))
        return function

    return declare


@overload
def quantity(function: Function, *, large: bool = False) -> Function: ...
@overload
def quantity(function: None = None, *, large: bool = False) -> Callable[[Function], Function]: ...
def quantity(function: Function | None = None, *, large: bool = False) -> Any:
    """Declare a function a shared quantity; with ``large=True``, `read` keeps as few such results alive as it can."""

    def declare(declared: Function) -> Function:
        _attach(declared, _Declaration("quantity", {"large": large}))
        return declared

    return declare if function is None else declare(function)


def variants(function: Callable[..., Any], **knobs: Sequence[Any]) -> None:
    """Register further rows of a measure, one for each combination of the given values of its knobs.

    Raises: ValueError where the function is not a declared measure or has no such knob.
    """
    declaration = _declaration(function)
    if declaration is None or declaration.kind != "measure":
        raise ValueError(f"variants: {function.__name__} is not declared with @measure")
    strange = set(knobs) - set(_knobs(function))
    if strange:
        raise ValueError(f"variants: {function.__name__} has no knob {sorted(strange)[0]!r}")
    rows = itertools.product(*knobs.values())
    declaration.variants.extend(dict(zip(knobs, values, strict=True)) for values in rows)


def _attach(function: Callable[..., Any], declaration: _Declaration) -> None:
    function.__dict__["__gapbench__"] = declaration


def _declaration(function: Any) -> _Declaration | None:
    found = getattr(function, "__dict__", {}).get("__gapbench__")
    return found if isinstance(found, _Declaration) else None


def _needs(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def _knobs(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY)


def entries(function: Callable[..., Any], family: str) -> list[Measure | Quantity]:
    """What a declared function registers: a quantity, or a measure and its variants; nothing if it declares nothing."""
    declaration = _declaration(function)
    if declaration is None:
        return []
    needs = _needs(function)
    if declaration.kind == "quantity":
        return [Quantity(function.__name__, function, needs, **declaration.options)]
    shared: dict[str, Any] = {"family": family, "function": function, "needs": needs, **declaration.options}
    return [Measure(function.__name__, knobs=MappingProxyType(row), **shared) for row in ({}, *declaration.variants)]


@dataclass(frozen=True)
class Registry:
    """Measures by key and quantities by name, read-only; every need resolves."""

    measures: Mapping[str, Measure]
    quantities: Mapping[str, Quantity]

    def __add__(self, other: Registry) -> Registry:
        return build(
            [*self.measures.values(), *self.quantities.values(), *other.measures.values(), *other.quantities.values()]
        )

    def closure(self, measure: Measure) -> tuple[str, ...]:
        """The quantities and roots that a measure needs, directly or through others, sorted."""
        return _closure(measure.needs, self.quantities)

    def digest(self, measure: Measure) -> str:
        """A hash of the code behind a measure and the quantities it needs."""
        quantities = (self.quantities[name].function for name in self.closure(measure) if name in self.quantities)
        return digest([measure.function, *quantities])


def _closure(needs: Iterable[str], quantities: Mapping[str, Quantity]) -> tuple[str, ...]:
    seen: set[str] = set()
    pending = list(needs)
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(quantities[name].needs if name in quantities else ())
    return tuple(sorted(seen))


def collect(module: ModuleType, family: str | None = None) -> list[Measure | Quantity]:
    """Every measure and quantity that a module itself defines; the family is the module's own name unless given."""
    family = family or module.__name__.rpartition(".")[2]
    found: list[Measure | Quantity] = []
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            found.extend(entries(value, family))
    return found


def build(items: Iterable[Measure | Quantity]) -> Registry:
    """A registry of these entries.

    Raises: InputError where two entries share a name, or a need is no quantity and no root.
    """
    measures: dict[str, Measure] = {}
    quantities: dict[str, Quantity] = {}
    for item in items:
        name = item.key if isinstance(item, Measure) else item.name
        taken = measures.get(name) or quantities.get(name)
        if taken is not None or name in ROOTS:
            first = inspect.getsourcefile(inspect.unwrap(taken.function)) if taken else "the roots of the graph"
            second = inspect.getsourcefile(inspect.unwrap(item.function))
            raise InputError(f"two entries are named {name!r}: {first} and {second}; rename one")
        if isinstance(item, Measure):
            measures[name] = item
        else:
            quantities[name] = item
    everything: list[Measure | Quantity] = [*measures.values(), *quantities.values()]
    for entry in everything:
        for need in entry.needs:
            if need not in quantities and need not in ROOTS:
                raise InputError(f"{entry.name}, parameter {need}: {unknown('quantity', need, (*quantities, *ROOTS))}")
    _refuse_cycles(quantities)
    return Registry(MappingProxyType(measures), MappingProxyType(quantities))


def _refuse_cycles(quantities: Mapping[str, Quantity]) -> None:
    for name, entry in quantities.items():
        if name in _closure(entry.needs, quantities):
            raise InputError(f"quantity {name!r} needs itself, directly or through {', '.join(entry.needs)}")
