"""Run ids: pinned, blind to defaults and to the type of a number, and different for every field."""

from __future__ import annotations

import dataclasses

import pytest

from gapbench.datasets.spec import DataSpec
from gapbench.models.spec import RunSpec, as_dict, from_dict, run_id, twin

SPEC = RunSpec(DataSpec("digits", 128), "mlp", width=32, depth=2, learning_rate=0.01, batch_size=16)


def test_golden_ids() -> None:
    assert run_id(SPEC) == "858eb3f2fa7e3718c664"
    assert run_id(twin(dataclasses.replace(SPEC, optimiser="adam", seed=3))) == "b45eb596c100f6a43ede"


def test_defaults_and_number_types_do_not_count() -> None:
    assert run_id(dataclasses.replace(SPEC, momentum=0.9, weight_decay=0)) == run_id(SPEC)
    whole = dataclasses.replace(SPEC, learning_rate=1)
    assert run_id(whole) == run_id(dataclasses.replace(SPEC, learning_rate=1.0))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 33},
        {"seed": 1},
        {"root_seed": 1},
        {"dropout": 0.1},
        {"norm": "batch"},
        {"data": DataSpec("digits", 129)},
    ],
)
def test_every_field_counts(change: dict[str, object]) -> None:
    assert run_id(dataclasses.replace(SPEC, **change)) != run_id(SPEC)


def test_round_trip() -> None:
    spec = twin(dataclasses.replace(SPEC, weight_decay=1e-4, seed=2))
    assert from_dict(as_dict(spec)) == spec


def test_a_twin_differs_in_its_labels_only() -> None:
    other = twin(SPEC)
    assert other.data.label_noise == 1.0
    assert dataclasses.replace(other, data=SPEC.data) == SPEC
