"""The registry: the signature is the declaration, names are unique, needs resolve, plug-ins join."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

from gapbench.datasets.errors import InputError
from gapbench.measures import _PARTS, BUILT_IN, MEASURES, QUANTITIES
from gapbench.measures.plugins import load_registry, own_keys
from gapbench.measures.registry import (
    COSTS,
    ROOTS,
    Estimate,
    LayerSum,
    Measure,
    Quantity,
    Undefined,
    build,
    entries,
    measure,
    per_sample,
    quantity,
    variant_key,
    variants,
)

OWN = '''
from gapbench.measures import measure, variants

@measure(source="unpublished", sign=+1)
def my_norm(parameters, *, power=2.0):
    """A norm of my own."""
    return float(parameters.abs().pow(power).sum())

variants(my_norm, power=(1.0, 3.0))
'''


@measure(source="unpublished", sign=-1, invariances=["unit_permutation"])
def mean_loss(losses: float, rng: object, *, scale: float = 1.0) -> float:
    """The mean loss."""
    return losses * scale


@quantity(large=True)
def doubled(losses: float) -> float:
    """Twice the losses."""
    return 2 * losses


def test_the_signature_is_the_declaration() -> None:
    (entry,) = entries(mean_loss, "losses")
    assert isinstance(entry, Measure)
    assert entry.needs == ("losses", "rng")
    assert (entry.name, entry.family, entry.sign, entry.invariances) == (
        "mean_loss",
        "losses",
        -1,
        ("unit_permutation",),
    )
    assert entry.summary == "The mean loss."
    (shared,) = entries(doubled, "losses")
    assert isinstance(shared, Quantity)
    assert shared.large
    assert mean_loss(3.0, None, scale=2.0) == 6.0, "a declared measure stays a plain function"


def test_what_is_not_declared_registers_nothing() -> None:
    assert entries(len, "x") == []


def test_variants_are_rows_with_their_knobs_in_the_key() -> None:
    @measure(source="unpublished", sign=1)
    def ball(losses: float, *, radius: float = 1.0, power: int = 2) -> float:
        return radius

    variants(ball, radius=(0.05, 0.1), power=(2,))
    found = [entry for entry in entries(ball, "x") if isinstance(entry, Measure)]
    assert [entry.key for entry in found] == ["ball", "ball[power=2,radius=0.05]", "ball[power=2,radius=0.1]"]
    assert variant_key("ball", {}) == "ball"


def test_variants_refuse_what_is_no_knob() -> None:
    with pytest.raises(ValueError, match="no knob 'size'"):
        variants(mean_loss, size=(1,))
    with pytest.raises(ValueError, match="not declared"):
        variants(len, size=(1,))


def test_declarations_are_checked() -> None:
    with pytest.raises(ValueError, match="sign must be"):
        measure(source="x", sign=0)
    with pytest.raises(ValueError, match="unknown invariance 'rotation'"):
        measure(source="x", sign=1, invariances=["rotation"])


def test_a_name_taken_twice_is_refused_with_both_files() -> None:
    with pytest.raises(InputError, match=r"two entries are named 'mean_loss'.*test_registry.py.*test_registry.py"):
        build([*entries(mean_loss, "a"), *entries(mean_loss, "b"), Quantity("losses", len, ())])


def test_an_unknown_need_is_refused_with_the_closest() -> None:
    with pytest.raises(InputError, match=r"mean_loss, parameter losses: unknown quantity 'losses'; did you mean loses"):
        build([*entries(mean_loss, "a"), Quantity("loses", len, ())])


def test_a_circle_of_quantities_is_refused() -> None:
    with pytest.raises(InputError, match="needs itself"):
        build([Quantity("a", len, ("b",)), Quantity("b", len, ("a",))])


def test_the_built_in_mappings_are_read_only() -> None:
    with pytest.raises(TypeError):
        MEASURES["x"] = 1
    with pytest.raises(TypeError):
        QUANTITIES["x"] = 1


def test_every_built_in_measure_says_what_it_is() -> None:
    homes = {module.__name__: family for module, family in _PARTS}
    for entry in MEASURES.values():
        assert entry.summary, entry.key
        assert entry.source, entry.key
        module = entry.function.__module__
        assert entry.family == homes.get(module, module.rpartition(".")[2])
        assert set(BUILT_IN.closure(entry)) <= {*QUANTITIES, *ROOTS}


def test_there_are_35_measures_in_8_families() -> None:
    ranked = [entry for entry in MEASURES.values() if not (entry.control or entry.feature or entry.knobs)]
    assert len(ranked) >= 35
    assert len({entry.family for entry in ranked}) >= 8


def test_digest_follows_the_code_and_not_its_layout(tmp_path: Path) -> None:
    def digest(name: str, text: str) -> str:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        registry = load_registry([file])
        return registry.digest(registry.measures["my_norm"])

    plain = digest("plain", OWN)
    assert digest("comment", OWN.replace("    return", "    # why\n    return")) == plain
    assert digest("docstring", OWN.replace("A norm of my own.", "Another text.")) == plain
    assert digest("code", OWN.replace(".sum()", ".mean()")) != plain


def _one() -> float:
    return 1.0


def _two() -> float:
    return 2.0


def test_digest_follows_the_quantities() -> None:
    first, second = (build([*entries(mean_loss, "a"), Quantity("losses", code, ())]) for code in (_one, _two))
    assert first.digest(first.measures["mean_loss"]) != second.digest(second.measures["mean_loss"])


def test_a_file_of_the_users_own_joins(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    registry = load_registry([file])
    assert own_keys(file) == ["my_norm", "my_norm[power=1.0]", "my_norm[power=3.0]"]
    assert registry.measures["my_norm"].family == "mine"
    assert set(MEASURES) < set(registry.measures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "declares no measure"),
        ("def f(:\n    pass", r"mine.py, line 1"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        (OWN.replace("my_norm", "path_norm"), "two entries are named 'path_norm'"),
        (OWN.replace("parameters", "paramters"), r"unknown quantity 'paramters'; did you mean .*parameters"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_registry([file])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of measures"):
        load_registry([tmp_path / "none.py"])


def test_an_installed_package_joins_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_measures.py").write_text(OWN)
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gapbench.measures]\ntheirs = their_measures\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    registry = load_registry()
    assert registry.measures["my_norm"].family == "theirs"


def test_per_sample_is_the_root_of_the_complexity_over_the_sample_size() -> None:
    @measure(source="unpublished", sign=1, invariances=("example_duplication", "unit_permutation"))
    def complexity(losses: float, *, scale: float = 1.0) -> Estimate:
        return Estimate(losses * scale, 0.3)

    per_sample(complexity)
    plain, scaled = (entry for entry in entries(complexity, "x") if isinstance(entry, Measure))
    assert (plain.name, scaled.name) == ("complexity", "complexity_per_sample")
    assert scaled.needs == ("losses", "train")
    assert scaled.invariances == ("unit_permutation",), "twice the sample halves C/m"
    found = scaled.function(18.0, [0] * 2)
    assert (found.value, found.standard_error) == (3.0, 0.3 / (2 * 2 * 3.0))
    with pytest.raises(Undefined, match="negative complexity"):
        scaled.function(-1.0, [0])


def test_per_sample_of_what_is_no_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="not declared with @measure"):
        per_sample(len)


def test_a_layer_sum_is_a_number_with_its_terms() -> None:
    total = LayerSum(3.0, [1, 2])
    assert (total, total.terms, total.layers) == (3.0, (1.0, 2.0), (0, 1))
    assert LayerSum(2.0, [2], layers=[4]).layers == (4,)


def test_the_cost_of_a_measure_is_that_of_its_dearest_need() -> None:
    assert BUILT_IN.cost(MEASURES["param_norm"]) == "weights"
    assert BUILT_IN.cost(MEASURES["inverse_margin"]) == "forward"
    assert BUILT_IN.cost(MEASURES["pacbayes_init"]) == "iterative"
    assert {BUILT_IN.cost(entry) for entry in MEASURES.values()} <= set(COSTS)
    with pytest.raises(ValueError, match="unknown cost 'free'"):
        measure(source="unpublished", sign=1, cost="free")


def test_a_measure_that_sees_test_inputs_must_declare_it() -> None:
    inputs = Quantity("seen", lambda inputs: inputs, ("unlabelled_test_inputs",))
    for need in ("unlabelled_test_inputs", "seen"):
        plain = Measure("sly", "test", lambda value: 1.0, (need,), "unpublished", 1)
        with pytest.raises(InputError, match="sly sees test inputs: declare it"):
            build([inputs, plain])
        build([inputs, dataclasses.replace(plain, uses_unlabelled_test_inputs=True)])
    build([inputs, Measure("blind", "test", lambda network: 1.0, ("network",), "unpublished", 1)])
