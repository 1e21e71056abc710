"""The registry: what a complexity measure and a quantity are, and how plain functions become them.

A measure is a function. Its positional parameters name the quantities it needs, its keyword-only parameters are its
knobs, and it returns a float, or an `Estimate` when it is sampled. A quantity is the same kind of function and may
return anything. The roots of the graph are the fields of `Trained` and a generator (`ROOTS`).
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar, overload

from gapbench.datasets.errors import InputError, unknown
from gapbench.measures.digests import digest

Function = TypeVar("Function", bound=Callable[..., Any])

SECOND_RUNS = ("seed_twins", "random_label_twin")
"""The roots that are other runs; a measure that needs one is read when those are trained."""

TEST_INPUTS = "unlabelled_test_inputs"
"""The root that only measures declared with ``uses_unlabelled_test_inputs`` may need."""

ROOTS = ("network", "initial", "train", "history", "trajectory", *SECOND_RUNS, TEST_INPUTS, "rng")
"""What a measure may see of a trained network: the fields of `Trained`, and `rng`, a generator of its own."""

INVARIANCES = ("rescaling", "unit_permutation", "example_permutation", "example_duplication", "input_rotation")
"""Transformations that a measure can declare to leave its value unchanged; the contract tests each one."""

COSTS = ("weights", "forward", "gradient", "iterative", "second run")
"""What a reading costs, cheapest first: products of weights; passes over the training sample; derivatives or kernels;
a search, an optimisation or a sampler; another training run."""


class Undefined(Exception):
    """The measure has no value on this network, for a reason that is not a fault (say, a negative margin)."""


@dataclass(frozen=True)
class Estimate:
    """A sampled value with its standard error; ``converged`` is False where the estimator hit its cap."""

    value: float
    standard_error: float
    converged: bool = True


class LayerSum(float):
    """A value made of one term a weight layer, by a sum or a mean; ``terms`` are its parts, by layer.

    ``layers``: the positions of the layers among those of the network, where some are left out.
    """

    terms: tuple[float, ...]
    layers: tuple[int, ...]

    def __new__(cls, value: float, terms: Iterable[float], layers: Iterable[int] | None = None) -> LayerSum:
        made = super().__new__(cls, value)
        made.terms = tuple(float(term) for term in terms)
        made.layers = tuple(range(len(made.terms))) if layers is None else tuple(layers)
        return made


@dataclass(frozen=True)
class Quantity:
    """A shared computation; ``large`` marks results that `read` keeps alive one at a time."""

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    large: bool = False
    cost: str = COSTS[0]


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
    feature: bool = False
    uses_unlabelled_test_inputs: bool = False
    cost: str = COSTS[0]
    invariances: tuple[str, ...] = ()
    requires: str | None = None
    revision: int = 1
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its column: ``name``, or ``name[knob=value,…]`` for a variant."""
        return variant_key(self.name, self.knobs)

    @property
    def has_terms(self) -> bool:
        """Whether it is declared to return a `LayerSum`."""
        return self.function.__annotations__.get("return") in (LayerSum, LayerSum.__name__)

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
    per_sample: bool = False


def measure(
    *,
    source: str,
    sign: int,
    bound: bool = False,
    control: bool = False,
    feature: bool = False,
    uses_unlabelled_test_inputs: bool = False,
    cost: str = COSTS[0],
    invariances: Iterable[str] = (),
    requires: str | None = None,
    revision: int = 1,
) -> Callable[[Function], Function]:
    """Declare a function a complexity measure.

    ``source``: a key of references.bib and where in it ("jiang2020, eq. 33"), an "arXiv:…" or "doi:…", or
    "unpublished". ``sign``: +1 where a larger value predicts a larger gap, -1 where a smaller one does; declared
    before any result is seen. ``bound``: the value bounds the error gap. ``control``: it sets the scale and is not
    ranked. ``feature``: it is an input of a fitted predictor and is not ranked. ``uses_unlabelled_test_inputs``: it
    sees test inputs without their labels, and is listed apart. ``cost``: one of `COSTS`, of the function itself; what
    the quantities it needs cost is added by `Registry.cost`. ``revision``: raise it whenever the function's values
    change.

    Raises: ValueError where sign is not +1 or -1, an invariance is not one of `INVARIANCES` or a cost of `COSTS`.
    """
    if sign not in (1, -1):
        raise ValueError(f"sign must be +1 or -1, not {sign!r}")
    _check_cost(cost)
    strange = [name for name in invariances if name not in INVARIANCES]
    if strange:
        raise ValueError(f"unknown invariance {strange[0]!r}; known: {', '.join(INVARIANCES)}")
    options = {
        "source": source,
        "sign": sign,
        "bound": bound,
        "control": control,
        "feature": feature,
        "uses_unlabelled_test_inputs": uses_unlabelled_test_inputs,
        "cost": cost,
        "invariances": tuple(invariances),
        "requires": requires,
        "revision": revision,
    }

    def declare(function: Function) -> Function:
        _attach(function, _Declaration("measure", options))
        return function

    return declare


def _check_cost(cost: str) -> None:
    if cost not in COSTS:
        raise ValueError(f"unknown cost {cost!r}; known: {', '.join(COSTS)}")


@overload
def quantity(function: Function, *, large: bool = False, cost: str = COSTS[0]) -> Function: ...
@overload
def quantity(function: None = None, *, large: bool = False, cost: str = COSTS[0]) -> Callable[[Function], Function]: ...
def quantity(function: Function | None = None, *, large: bool = False, cost: str = COSTS[0]) -> Any:
    """Declare a function a shared quantity; with ``large=True``, `read` keeps as few such results alive as it can.

    ``cost``: one of `COSTS`. Raises: ValueError where it is not.
    """
    _check_cost(cost)

    def declare(declared: Function) -> Function:
        _attach(declared, _Declaration("quantity", {"large": large, "cost": cost}))
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


def per_sample(function: Callable[..., Any]) -> None:
    """Register a further row ``NAME_per_sample``: √(C/m) of a complexity C on m training examples.

    Across training-set sizes only this form can be compared. Raises: ValueError where the function is no measure.
    """
    declaration = _declaration(function)
    if declaration is None or declaration.kind != "measure":
        raise ValueError(f"per_sample: {function.__name__} is not declared with @measure")
    declaration.per_sample = True


def _scaled_by_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """√(C/m) as a function of the needs of C and, last, the training sample."""

    @functools.wraps(function)
    def scaled(*arguments: Any, **knobs: Any) -> Any:
        *own, train = arguments
        result = function(*own, **knobs)
        value = float(result.value if isinstance(result, Estimate) else result)
        if value < 0:
            raise Undefined(f"{function.__name__} is {value:.4g}: a negative complexity has no root")
        root = math.sqrt(value / len(train))
        if not isinstance(result, Estimate):
            return root
        # The delta method: d√(C/m) = dC / (2m√(C/m)); at C = 0 the root itself is of the order of the error's root.
        error = result.standard_error
        error = error / (2 * len(train) * root) if root else math.sqrt(error / len(train))
        return Estimate(root, error, result.converged)

    scaled.__annotations__ = {"return": float}  # a root of a sum is no sum, whatever C is
    scaled.__doc__ = (
        f"The root of `{function.__name__}` over the number of training examples.\n\n"
        f"Formula: √(C/m), C = `{function.__name__}`, m training examples. Raises: Undefined where C is, or C < 0.\n"
        f"Sign: that of `{function.__name__}`, whose uniform bound on the gap has this form."
    )
    return scaled


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
    rows: list[Measure | Quantity] = [
        Measure(function.__name__, knobs=MappingProxyType(row), **shared) for row in ({}, *declaration.variants)
    ]
    if declaration.per_sample:
        kept = tuple(name for name in declaration.options["invariances"] if name != "example_duplication")
        own = {"function": _scaled_by_sample(function), "needs": (*needs, "train"), "bound": False}
        rows.append(Measure(f"{function.__name__}_per_sample", **{**shared, **own, "invariances": kept}))
    return rows


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

    def cost(self, measure: Measure) -> str:
        """The dearest of `COSTS` among a measure and the quantities it needs."""
        quantities = (self.quantities[name].cost for name in self.closure(measure) if name in self.quantities)
        return max((measure.cost, *quantities), key=COSTS.index)

    def digest(self, measure: Measure) -> str:
        """A hash of the code behind a measure and the quantities it needs."""
        if self.measures.get(measure.key) is not measure:
            return self._digest(measure)
        if measure.key not in self._digests:
            self._digests[measure.key] = self._digest(measure)
        return self._digests[measure.key]

    def _digest(self, measure: Measure) -> str:
        quantities = (self.quantities[name].function for name in self.closure(measure) if name in self.quantities)
        return digest([measure.function, *quantities])

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        """The digests known so far: code does not change while it runs, and each reading asks for them all."""
        return {}


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

    Raises: InputError where two entries share a name, a need is no quantity and no root, a quantity needs itself, or a
    measure sees test inputs, directly or through quantities, and does not declare it.
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
    for entry in measures.values():
        if TEST_INPUTS in _closure(entry.needs, quantities) and not entry.uses_unlabelled_test_inputs:
            raise InputError(
                f"{entry.name} sees test inputs: declare it with @measure(..., uses_unlabelled_test_inputs=True)"
            )
    return Registry(MappingProxyType(measures), MappingProxyType(quantities))


def _refuse_cycles(quantities: Mapping[str, Quantity]) -> None:
    for name, entry in quantities.items():
        if name in _closure(entry.needs, quantities):
            raise InputError(f"quantity {name!r} needs itself, directly or through {', '.join(entry.needs)}")
