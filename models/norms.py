"""The norm that a spec asks for, on units, channels or tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from gapbench.datasets.errors import unknown
from gapbench.models.spec import RunSpec

_Norm = Callable[[int], nn.Module]

_UNITS: Mapping[str, _Norm | None] = MappingProxyType({"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm})
_CHANNELS: Mapping[str, _Norm | None] = MappingProxyType(
    # The mean and variance of layer norm are those of all channels and positions of an image.
    {"none": None, "batch": nn.BatchNorm2d, "layer": lambda channels: nn.GroupNorm(1, channels)}
)
_TOKENS: Mapping[str, _Norm | None] = MappingProxyType({"none": None, "layer": nn.LayerNorm})


def unit_norm(spec: RunSpec, units: int) -> list[nn.Module]:
    """The norm of vectors (n, units): none, batch or layer."""
    return _layers(spec, _UNITS, units)


def channel_norm(spec: RunSpec, channels: int) -> list[nn.Module]:
    """The norm of images (n, channels, height, width): none, batch, or layer (over an image's channels and positions,
    with a scale and shift a channel)."""
    return _layers(spec, _CHANNELS, channels)


def token_norm(spec: RunSpec, width: int) -> list[nn.Module]:
    """The norm of tokens (n, tokens, width): none or layer."""
    return _layers(spec, _TOKENS, width)


def _layers(spec: RunSpec, known: Mapping[str, _Norm | None], size: int) -> list[nn.Module]:
    """Raises: InputError where the norm is unknown for this architecture."""
    if spec.norm not in known:
        raise unknown(f"norm for {spec.architecture}", spec.norm, known)
    norm = known[spec.norm]
    return [] if norm is None else [norm(size)]
