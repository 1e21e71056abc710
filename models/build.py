"""From a spec to an initialised network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from gapbench.datasets.errors import unknown
from gapbench.models.alexnet_small import alexnet_small
from gapbench.models.cnn import cnn
from gapbench.models.inception_small import inception_small
from gapbench.models.initialise import initialise
from gapbench.models.linear import linear
from gapbench.models.mixer import mixer
from gapbench.models.mlp import mlp
from gapbench.models.nin import nin
from gapbench.models.resnet import resnet
from gapbench.models.spec import RunSpec
from gapbench.models.transformer import transformer
from gapbench.models.vgg import vgg
from gapbench.models.vit import vit

Architecture = Callable[[RunSpec, tuple[int, ...], int], nn.Module]

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "alexnet_small": alexnet_small,
        "cnn": cnn,
        "inception_small": inception_small,
        "linear": linear,
        "mixer": mixer,
        "mlp": mlp,
        "nin": nin,
        "resnet": resnet,
        "transformer": transformer,
        "vgg": vgg,
        "vit": vit,
    }
)
"""Architectures by name: (spec, shape of one input, classes) -> a network, its values yet to be drawn."""


def build(
    spec: RunSpec,
    input_shape: tuple[int, ...],
    classes: int,
    generator: torch.Generator,
    architectures: Mapping[str, Architecture] = ARCHITECTURES,
) -> nn.Module:
    """The network of a spec with its initial values drawn from ``generator``, in training mode.

    A network of the user's (`models.plugins`) starts from what its constructor draws from the global generator, which
    is seeded for it and put back.

    Raises: InputError where the architecture, activation or norm is unknown, or does not fit the inputs.
    """
    if spec.architecture not in architectures:
        raise unknown("architecture", spec.architecture, architectures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        network = architectures[spec.architecture](spec, input_shape, classes)
    if spec.architecture not in ARCHITECTURES:
        return network.train()
    return initialise(network, spec.activation, generator, spec.initial_scale, spec.output_scale)
