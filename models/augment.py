"""Random changes of training images that leave their labels as they are, drawn anew for every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from gapbench.datasets.errors import InputError, unknown

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def crop(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Each image padded by zeros, the mean of standardised pixels, by an eighth of its shorter side and cropped back
    at a random place (4 pixels on CIFAR-10, as He et al. 2016)."""
    count, _, height, width = images.shape
    margin = max(1, min(height, width) // 8)
    padded = pad(images, (margin,) * 4)
    down, right = torch.randint(2 * margin + 1, (2, count), generator=generator)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    # Indexed dimensions come first: the result is laid out channels last, as convolutions want it.
    chosen = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return chosen.permute(0, 3, 1, 2)


def flip(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def crop_and_flip(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """`crop`, then `flip`."""
    return flip(crop(images, generator), generator)


AUGMENTATIONS: Mapping[str, Augmentation | None] = MappingProxyType(
    {"none": None, "crop": crop, "flip": flip, "crop_flip": crop_and_flip}
)
"""What `RunSpec.augmentation` may be."""


def augmentation(name: str, input_shape: tuple[int, ...]) -> Augmentation | None:
    """The augmentation of a name; `None` for none.

    Raises: InputError where it is unknown, or the inputs are no images.
    """
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    chosen = AUGMENTATIONS[name]
    if chosen is not None and len(input_shape) != 3:
        raise InputError(f"augmentation {name!r} is for images, not for inputs of shape {input_shape}: leave it out")
    return chosen
