"""Every measure on a tiny instance of bundled architectures: a value, or the true reason why there is none."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.measures import BUILT_IN, ascent, curvature, perturbation, sharpness
from gapbench.measures.read import Reading, read
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

SPEC = RunSpec(
    DataSpec("digits", train_size=16, test_size=60), "mlp", width=4, depth=1, learning_rate=0.01, batch_size=8,
    optimiser="adam", max_epochs=40,
)  # fmt: skip
TINY: dict[str, dict[str, object]] = {
    "inception_small": {"norm": "batch"},
    "mixer": {"width": 8, "norm": "layer"},
    "nin": {"depth": 2, "norm": "batch", "dropout": 0.1},
    "resnet": {"width": 2, "norm": "batch"},
    "vit": {"width": 8, "activation": "gelu"},
}
"""Those with parts of their own; the others are made of what `test_any_network` reads."""

NEEDS_FOLDING = ("frobenius_distance", "log_prod_spectral", "param_norm")
"""Of the size of weights: defined where every batch norm folds."""


def readings(name: str) -> list[Reading]:
    spec = dataclasses.replace(SPEC, architecture=name, **TINY[name])  # type: ignore[arg-type]
    sample, test = load(spec.data)
    trained = train(spec, (sample, test), trajectory_epochs=(1,), checkpoints=True)[0]
    return read(list(BUILT_IN.measures.values()), BUILT_IN, trained, seed=0)


@pytest.mark.parametrize("name", list(TINY))
def test_every_measure_has_a_value_or_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = functools.partial(perturbation.search_sigma, evaluations_at_least=48)
    monkeypatch.setattr(perturbation, "search_sigma", few)
    monkeypatch.setattr(perturbation, "MOST_EVALUATIONS", 8)
    monkeypatch.setattr(ascent, "MOST_ASCENT_STEPS", 3)
    monkeypatch.setattr(sharpness, "NOISY_EVALUATIONS", 48)
    monkeypatch.setattr(curvature, "MOST_EXACT_PARAMETERS", 0)
    monkeypatch.setattr(curvature, "MOST_PROBES", 20)
    found = {reading.measure: reading for reading in readings(name)}
    assert not {key: reading.reason for key, reading in found.items() if reading.status == "failed"}
    assert all(reading.reason for reading in found.values() if reading.status == "undefined")
    assert all(found[key].status == "ok" for key in NEEDS_FOLDING)
    assert sum(reading.status == "ok" for reading in found.values()) > 120
