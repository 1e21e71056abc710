"""What networks on images share: the check of their inputs, and a convolution with its norm and activation."""

from __future__ import annotations

from torch import nn

from gapbench.datasets.errors import InputError
from gapbench.models.initialise import activation
from gapbench.models.norms import channel_norm
from gapbench.models.spec import RunSpec


def image_shape(spec: RunSpec, input_shape: tuple[int, ...], *, deepest: int | None = None) -> tuple[int, int]:
    """Channels and the shorter side of the images, once the spec is found to fit them.

    Raises: InputError where the inputs are no images, or width or depth is below 1, or depth above ``deepest``.
    """
    name = spec.architecture
    if len(input_shape) != 3:
        raise InputError(f"{name} needs images of shape (channels, height, width), not inputs of shape {input_shape}")
    if spec.depth < 1 or spec.width < 1:
        raise InputError(f"{name} needs depth and width of at least 1, not {spec.depth} and {spec.width}")
    if deepest is not None and spec.depth > deepest:
        raise InputError(f"{name} has a depth of at most {deepest}, not {spec.depth}")
    return input_shape[0], min(input_shape[1:])


def convolution(
    spec: RunSpec,
    into: int,
    out: int,
    size: int,
    *,
    stride: int = 1,
    pool: nn.Module | None = None,
    activated: bool = True,
) -> list[nn.Module]:
    """A convolution padded by half its size, its norm, a pooling, and the activation, as far as each is wanted.

    The activation stands after the pooling: for a monotone activation and max-pooling this is the same function,
    computed on fewer positions.
    """
    layer = nn.Conv2d(into, out, size, stride, padding=size // 2)
    parts: list[nn.Module] = [layer, *channel_norm(spec, out)]
    if pool is not None:
        parts.append(pool)
    if activated:
        parts.append(activation(spec.activation))
    else:
        vars(layer)["initial_gain"] = 1.0  # nothing halves its variance
    return parts


def classifier(channels: int, classes: int) -> list[nn.Module]:
    """Global average pooling and a linear output layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def dropped(spec: RunSpec) -> list[nn.Module]:
    """Dropout where the spec has any."""
    return [nn.Dropout(spec.dropout)] if spec.dropout > 0 else []
