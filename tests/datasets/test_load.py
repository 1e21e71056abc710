from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import gapbench.datasets
from gapbench.datasets.corrupt import PIXELS
from gapbench.datasets.errors import InputError
from gapbench.datasets.load import DATASETS, check, load
from gapbench.datasets.spec import DataSpec, Split

OFFLINE = ["digits", "gaussian_mixture", "teacher", "parity"]


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)


def equal(first: Split, second: Split) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)


def test_the_mapping_is_read_only_and_every_loader_says_what_it_is() -> None:
    bundled = {"digits", "gaussian_mixture", "teacher", "parity", "mnist", "fashion_mnist", "cifar10", "svhn"}
    assert set(DATASETS) >= {*bundled, "folder", "npz", "table"}
    assert {"modular_addition", "modular_division"} <= set(DATASETS)
    assert gapbench.datasets.DATASETS is DATASETS
    with pytest.raises(TypeError):
        DATASETS["mine"] = DATASETS["digits"]  # type: ignore[index]
    assert all(entry.summary for entry in DATASETS.values())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gapbench.datasets.nothing  # noqa: B018


def test_a_spec_needs_no_torch() -> None:
    code = "import sys, gapbench.datasets.spec, gapbench.datasets.errors; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("name", OFFLINE)
def test_loading_is_repeatable_and_the_seed_decides(name: str) -> None:
    spec = DataSpec(name, 200, label_noise=0.3, pixels="random_pixels", test_size=100)
    first, second = load(spec), load(spec)
    assert equal(first[0], second[0])
    assert equal(first[1], second[1])
    assert first[0].inputs.dtype == torch.float32
    assert first[0].labels.dtype == torch.int64
    assert not equal(first[0], load(replace(spec, seed=1))[0])


@pytest.mark.parametrize("name", OFFLINE)
def test_label_noise_changes_training_labels_and_nothing_else(name: str) -> None:
    clean_train, clean_test = load(DataSpec(name, 300, test_size=100))
    for p in (0.5, 1.0):
        train, test = load(DataSpec(name, 300, label_noise=p, test_size=100))
        assert torch.equal(train.inputs, clean_train.inputs)
        assert equal(test, clean_test)
        changed = (train.labels != clean_train.labels).double().mean().item()
        law = p * (1 - 1 / train.classes)
        assert abs(changed - law) < 4 * (law * (1 - law) / 300) ** 0.5


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("pixels", sorted(set(PIXELS) - {"natural"}))
def test_pixels_change_inputs_and_nothing_else(name: str, pixels: str) -> None:
    spec = DataSpec(name, 300, label_noise=0.4, test_size=100)
    natural, randomised = load(spec), load(replace(spec, pixels=pixels))
    for before, after in zip(natural, randomised):
        assert torch.equal(before.labels, after.labels)
        assert before.inputs.shape == after.inputs.shape
        assert not torch.equal(before.inputs, after.inputs)
        if pixels != "gaussian_pixels":
            kept = [split.inputs.flatten(1).sort(dim=1).values for split in (before, after)]
            assert torch.equal(*kept)


def test_noise_is_nested_across_noise_levels_and_sample_sizes() -> None:
    clean, less, more = (load(DataSpec("digits", 1000, label_noise=p))[0].labels for p in (0.0, 0.3, 0.6))
    changed = less != clean
    assert changed.any()
    assert torch.equal(more[changed], less[changed])
    assert torch.equal(load(DataSpec("digits", 400, label_noise=0.3))[0].labels, less[:400])


def test_label_noise_is_independent_of_the_choice_of_examples() -> None:
    """With one stream for both, the redrawn label of an example would follow from its place in the pool."""
    clean, noisy = (
        torch.cat([load(DataSpec("digits", 1000, p, seed=s))[0].labels for s in range(20)]) for p in (0.0, 1.0)
    )
    agreement = (clean == noisy).double().mean().item()
    assert abs(agreement - 0.1) < 4 * (0.09 / len(clean)) ** 0.5


def test_what_is_loaded_can_be_changed_without_changing_a_later_load() -> None:
    for name in OFFLINE:
        spec = DataSpec(name, 50, test_size=20)
        first = load(spec)
        kept = [(split.inputs.clone(), split.labels.clone()) for split in first]
        for split in first:
            split.inputs.zero_()
            split.labels.zero_()
        for (inputs, labels), split in zip(kept, load(spec)):
            assert torch.equal(split.inputs, inputs)
            assert torch.equal(split.labels, labels)


def test_the_global_generators_are_untouched() -> None:
    state = torch.get_rng_state(), numpy.random.get_state(), random.getstate()  # noqa: NPY002
    for name in OFFLINE:
        for pixels in PIXELS:
            load(DataSpec(name, 100, label_noise=0.5, pixels=pixels, test_size=50))
    assert torch.equal(torch.get_rng_state(), state[0])
    now = numpy.random.get_state()  # noqa: NPY002
    assert (now[1] == state[1][1]).all()  # type: ignore[index]
    assert now[2:] == state[1][2:]
    assert random.getstate() == state[2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "digit"}, "unknown data set 'digit'; did you mean digits"),
        ({"pixels": "shuffled"}, "unknown pixel randomisation 'shuffled'; did you mean shuffled_pixels"),
        ({"label_noise": 1.1}, "label_noise is 1.1, not a probability"),
        ({"label_noise": float("nan")}, "label_noise is nan"),
        ({"train_size": 0}, "digits: train_size is 0; give a whole number of at least 1"),
        ({"train_size": 1797}, "train_size 1,797 and at least one test example do not fit into the 1,797"),
        ({"test_size": 0}, "test_size is 0"),
        ({"name": "teacher", "classes": 1}, "teacher: classes is 1; give a whole number of at least 2"),
        ({"name": "teacher", "dimension": 0}, "dimension is 0"),
        ({"dimension": 64}, "digits has no option dimension"),
        ({"classes": 10}, "digits has no option classes"),
        ({"path": "x.npz"}, "digits has no option path"),
        ({"name": "npz"}, "npz needs the path of a file"),
        ({"name": "mnist"}, "set GAPBENCH_DATA or --data-dir"),
        ({"name": "cifar10"}, "set GAPBENCH_DATA or --data-dir"),
    ],
)
def test_a_wrong_spec_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(DataSpec(**{"name": "digits", "train_size": 100} | fields))


@pytest.mark.parametrize(("field", "value"), [("train_size", 100.0), ("label_noise", "0.3")])
def test_values_of_another_type_are_refused(field: str, value: Any) -> None:
    spec = DataSpec("digits", 100)
    object.__setattr__(spec, field, value)  # past the shape checks of the tests, as a zoo file would give it
    with pytest.raises(InputError, match=field):
        check(spec)


def test_the_data_folder_is_the_argument_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, label in (("argument", 0), ("environment", 1)):
        (tmp_path / folder).mkdir()
        arrays = {"x_train": numpy.ones((4, 2)), "y_train": numpy.array([label] * 3 + [2])}
        numpy.savez(tmp_path / folder / "mine.npz", **arrays)
    monkeypatch.setenv("GAPBENCH_DATA", str(tmp_path / "environment"))
    spec = DataSpec("npz", 3, path="mine.npz")
    assert 1 in load(spec)[0].labels
    assert 0 in load(spec, tmp_path / "argument")[0].labels
    monkeypatch.setenv("GAPBENCH_DATA", "")
    with pytest.raises(InputError, match="set GAPBENCH_DATA"):
        load(DataSpec("mnist", 3))
