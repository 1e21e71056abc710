"""`RunSpec`: everything that decides a training run, and the identity made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from gapbench.datasets.spec import DataSpec


@dataclass(frozen=True)
class RunSpec:
    """One training run. Device, number of workers and folders are not part of it.

    ``width`` is units a hidden layer (channels for a CNN), ``depth`` the number of hidden layers (of convolutions for
    a CNN). Training stops when the mean loss of the whole training set, in evaluation mode, is at most
    ``stop_loss_nats`` after an epoch (0: never), or after ``max_epochs``; ``loss`` is "cross_entropy", in nats, or
    "squared", ‖u − y‖²/(2n) against one-hot labels, which has no unit. ``gate``, ``gate_noise`` and ``gate_ridge``
    are those of the optimiser "gated_adamw" (see `models.optimisers`). ``seed`` tells replicates of a configuration
    apart under the zoo's ``root_seed``. ``initial_scale`` multiplies every initial weight, ``output_scale`` those of
    the output layer once more. ``augmentation`` is one of `models.augment.AUGMENTATIONS`, applied to every batch;
    ``patience`` above 0 holds a tenth of the sample out and stops early (see `models.early_stopping`); ``sam_radius``
    is that of the optimiser "sam". ``precision`` "bfloat16" computes the products of the forward and backward passes of
    a step in bfloat16; weights, steps and every evaluation are float32. ``stop_margin`` above 0 also stops the
    training after an epoch at which 99 % of the training set have so large a margin (see `models.margins`).
    ``adopted``: of a network that was trained elsewhere, the SHA-256 of its weights.
    """

    data: DataSpec
    architecture: str
    width: int
    depth: int
    learning_rate: float
    batch_size: int
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    activation: str = "relu"
    norm: str = "none"
    dropout: float = 0.0
    stop_loss_nats: float = 0.01
    max_epochs: int = 1000
    loss: str = "cross_entropy"
    gate: str = "soft"
    gate_noise: str = "finite"
    gate_ridge: float = 1.0
    seed: int = 0
    root_seed: int = 0
    initial_scale: float = 1.0
    output_scale: float = 1.0
    augmentation: str = "none"
    patience: int = 0
    sam_radius: float = 0.05
    adopted: str = ""
    precision: str = "float32"
    stop_margin: float = 0.0


def as_dict(spec: Any) -> dict[str, Any]:
    """The fields of a spec that differ from their defaults, nested, in canonical types (JSON-ready).

    Fields at their default are left out, so adding a field with a default renames no stored run.
    """
    record: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            record[field.name] = as_dict(value)
        elif field.default is dataclasses.MISSING or value != field.default:
            record[field.name] = float(value) if field.type == "float" else value
    return record


def from_dict(record: dict[str, Any]) -> RunSpec:
    """The inverse of `as_dict`.

    Raises: TypeError where a field is unknown or a required one is missing.
    """
    fields = dict(record)
    return RunSpec(data=DataSpec(**fields.pop("data")), **fields)


def run_id(spec: RunSpec) -> str:
    """The first 20 hexadecimal digits of SHA-256 of the spec's canonical JSON, defaults left out."""
    text = json.dumps(as_dict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def twin(spec: RunSpec, label_noise: float = 1.0) -> RunSpec:
    """The same run but for its labels: by default its random-label twin."""
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, label_noise=label_noise))
