"""What every entry declares, and a run of each at tiny settings."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pandas
import pytest
import torch

from gapbench.completion import phenomenon_names
from gapbench.evaluate.phenomena import PHENOMENA
from gapbench.evaluate.phenomena.bench import MEASURE, Bench
from gapbench.evaluate.phenomena.experiment import experiment
from gapbench.evaluate.phenomena.randomisation import CNN, MLP1
from gapbench.measures import MEASURES

TINY = {
    "expressivity": {"sizes": (5, 20), "dimensions": (1, 3), "seeds": 1},
    "double_descent": {
        "grid": (20, 38, 43, 80),
        "replicates": 2,
        "train_size": 60,
        "widths": (2, 4, 8),
        "epochs": 2,
        "seeds": 2,
        "time_width": 4,
        "time_epochs": 4,
    },
    "benign_overfitting": {"n": 20, "seeds": 2},
    "implicit_bias": {"steps": 1000, "side": 6, "matrix_steps": 50, "seeds": 2},
    "sample_complexity": {"sizes": (16, 128), "seeds": 2},
    "minimum_norm_kernel": {"data": "digits", "sizes": (60, 120), "seeds": 2, "test_size": 100},
    "uniform_convergence_fails": {
        "data": "digits",
        "sizes": (32, 64),
        "width": 16,
        "depth": 1,
        "epochs": 3,
        "seeds": 2,
        "linear_sizes": (8, 16),
        "test_size": 100,
    },
    "grokking": {"modulus": 5, "width": 8, "epochs": 6, "marks": 4, "seeds": 2},
    "randomisation": None,
    "regularisers": {"train_size": 60, "test_size": 100, "width": 8, "depth": 1, "epochs": 2, "seeds": 2},
    "memorisation_order": {"train_size": 60, "width": 8, "epochs": 3, "initialisations": 2, "seeds": 2},
    "lottery_ticket": {"train_size": 60, "width": 8, "depth": 1, "epochs": 1, "rounds": 12, "seeds": 2},
    "robustness_law": {"n": 10, "d": 4, "widths": (32, 64), "steps": 400, "seeds": 2},
    "bias_variance": {"widths": (4, 8), "epochs": 2, "samples": 2, "starts": 2, "blocks": 2},
    "information_plane": {"width": 3, "depth": 2, "epochs": 2, "seeds": 2},
    "vc_second_descent": {"train_size": 30, "features": (10, 25, 35, 40, 60, 80), "seeds": 2},
    "weights_predict_accuracy": {"train_size": 60, "test_size": 100, "networks": 8, "a_cell": 8},
}
"""Changes to the quick settings that make each a matter of a second; None needs files."""


def test_there_are_seventeen_and_each_is_the_file_of_its_name() -> None:
    assert len(PHENOMENA) == 17
    for name, entry in PHENOMENA.items():
        module = importlib.import_module(f"gapbench.evaluate.phenomena.{name}")
        assert module.__doc__ is not None
        assert entry.documentation == module.__doc__.strip()


def test_completion_reads_the_same_names_off_the_source() -> None:
    assert phenomenon_names() == sorted(PHENOMENA)


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_the_docstring_states_paper_claim_and_rule(name: str) -> None:
    entry = PHENOMENA[name]
    assert entry.title
    for section in ("Paper", "Claim", "Rule"):
        assert len(entry.section(section)) > 40, section
    # Positive control: a section that is not there is empty.
    assert entry.section("Excuse") == ""


@pytest.mark.parametrize("name", list(PHENOMENA))
def test_cells_have_different_names_and_full_is_more_work(name: str) -> None:
    entry = PHENOMENA[name]
    for settings in (entry.quick, entry.full):
        keys = [cell.key for cell in entry.cells(settings)]
        assert len(set(keys)) == len(keys)
    assert entry.work(entry.full) >= 2 * entry.work(entry.quick)


def test_measures_that_are_read_exist() -> None:
    for name in PHENOMENA:
        module = importlib.import_module(f"gapbench.evaluate.phenomena.{name}")
        assert set(getattr(module, "READ", ())) <= set(MEASURES), name


@pytest.mark.parametrize("name", [name for name, changes in TINY.items() if changes is not None])
def test_it_runs_at_tiny_settings_and_leaves_the_global_generator_alone(name: str, tmp_path: Path) -> None:
    entry = PHENOMENA[name]
    tiny = dataclasses.replace(entry, quick=dataclasses.replace(entry.quick, **TINY[name]))
    before = torch.get_rng_state()
    result = experiment(tiny, "quick", tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    check(result.table, name)
    if name in ("double_descent", "grokking", "lottery_ticket"):
        again = experiment(tiny, "quick", tmp_path / "again", progress=False)
        pandas.testing.assert_frame_equal(again.table, result.table)


def test_randomisation_runs_on_images(tmp_path: Path, data_dir: Path) -> None:
    entry = PHENOMENA["randomisation"]
    small = (dataclasses.replace(MLP1, width=4), dataclasses.replace(CNN, width=2, depth=1))
    settings = dataclasses.replace(
        entry.quick, architectures=small, train_size=20, test_size=20, max_epochs=2, levels=(0.25,), seeds=2
    )
    tiny = dataclasses.replace(entry, quick=settings)
    check(experiment(tiny, "quick", tmp_path, data_dir=data_dir, progress=False).table, "randomisation")


def check(table: pandas.DataFrame, name: str) -> None:
    """All that is drawn and followed is a column of the table, with a value somewhere."""
    entry = PHENOMENA[name]
    for panel in entry.panels:
        wanted = {panel.x, panel.y, panel.hue, panel.reference, *panel.where} - {None}
        assert wanted <= set(table.columns), panel.title
    for follow in entry.follows:
        assert {follow.curve, *follow.unit, *follow.where} <= set(table.columns)
        assert any(str(column).startswith(MEASURE) for column in table.columns)


def test_a_failed_reading_is_an_error_not_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    from gapbench.datasets.spec import DataSpec
    from gapbench.models.spec import RunSpec

    bench = Bench("tests")
    spec = RunSpec(DataSpec("digits", 20), "mlp", 4, 1, 0.1, 10, max_epochs=1)
    trained, _ = bench.train(spec)
    assert set(bench.read(trained, ["num_params"])) == {f"{MEASURE}num_params"}
    # An unconverged network's margin is undefined: left out, not an error.
    assert bench.read(trained, ["inverse_margin"]) == {}
    broken = dataclasses.replace(MEASURES["num_params"], function=lambda network: 1 / 0)
    registry = dataclasses.replace(
        importlib.import_module("gapbench.measures").BUILT_IN, measures={**MEASURES, "num_params": broken}
    )
    monkeypatch.setattr("gapbench.evaluate.phenomena.bench.BUILT_IN", registry)
    with pytest.raises(RuntimeError, match="num_params failed on a network of tests"):
        bench.read(trained, ["num_params"])
