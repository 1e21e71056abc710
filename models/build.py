"""From a spec to an initialised network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from gapbench.datasets.errors import unknown
from gapbench.models.cnn import cnn
from gapbench.models.initialise import initialise
from gapbench.models.mlp import mlp
from gapbench.models.spec import RunSpec

Architecture = Callable[[RunSpec, tuple[int, ...], int], nn.Module]

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({"cnn": cnn, "mlp": mlp})
"""Architectures by name: (spec, shape of one input, classes) -> a network, its values yet to be drawn."""


def build(spec: RunSpec, input_shape: tuple[int, ...], classes: int, generator: torch.Generator) -> nn.Module:
    """The network of a spec with its initial values drawn from ``generator``, in training mode.

    Raises: InputError where the architecture, activation or norm is unknown, or does not fit the inputs.
    """
    if spec.architecture not in ARCHITECTURES:
        raise unknown("architecture", spec.architecture, ARCHITECTURES)
    # Modules draw initial values from the global generator; these are thrown away, and that generator put back.
    with torch.random.fork_rng(devices=[]):
        network = ARCHITECTURES[spec.architecture](spec, input_shape, classes)
    return initialise(network, spec.activation, generator)
