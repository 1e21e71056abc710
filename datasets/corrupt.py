"""Label noise and the pixel randomisations of Zhang et al. 2017 (arXiv:1611.03530, section 2.1).

Each is a transformation that leaves everything else as it was: which examples are chosen, the labels under a pixel
randomisation, the pixels under label noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gapbench.datasets.law import check_label_noise
from gapbench.datasets.seeds import derive_seed, generator

_IMAGES_A_BATCH = 1024


def noisy_labels(labels: Int[Tensor, " n"], p: float, classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A copy of the labels, each redrawn with probability p uniformly over all classes, the true one included.

    Formula: label i becomes floor(C v_i) where u_i < p, with u and v uniform on [0, 1). The draws do not depend on p
    or n: for generators in the same state, the labels redrawn at p = .3 are among those redrawn at p = .6, with the
    same new values, and a longer sample begins as a shorter one does.

    Raises: InputError where p is not in [0, 1].
    """
    check_label_noise(p)
    # One pair an example, in order, in double precision: floor(C v) < C needs more bits than float32 has.
    draws = torch.rand(len(labels), 2, generator=generator, dtype=torch.float64)
    return torch.where(draws[:, 0] < p, (classes * draws[:, 1]).long(), labels)


def shuffled_pixels(inputs: Float[Tensor, "n *shape"], generator: torch.Generator) -> Float[Tensor, "n *shape"]:
    """One random permutation of the pixels, the same for every example.

    A pixel is a position of a (c, h, w) image, its channels moving together, and otherwise a coordinate.
    """
    pixels = _pixels(inputs)
    return pixels[:, :, torch.randperm(pixels.shape[2], generator=generator)].view_as(inputs)


def random_pixels(inputs: Float[Tensor, "n *shape"], generator: torch.Generator) -> Float[Tensor, "n *shape"]:
    """A random permutation of the pixels of each example, independent of the others'; pixels as `shuffled_pixels`."""
    pixels = _pixels(inputs)
    moved = torch.empty_like(pixels)
    for start in range(0, len(pixels), _IMAGES_A_BATCH):
        batch = pixels[start : start + _IMAGES_A_BATCH]
        # Doubles: among float32 uniforms a thousand pixels would often tie, and a tie favours the old order.
        keys = torch.rand(len(batch), batch.shape[2], generator=generator, dtype=torch.float64)
        moved[start : start + len(batch)] = batch.gather(2, keys.argsort(dim=1)[:, None].expand_as(batch))
    return moved.view_as(inputs)


def gaussian_pixels(
    inputs: Float[Tensor, "n *shape"], like: Float[Tensor, "m *shape"], generator: numpy.random.Generator
) -> Float[Tensor, "n *shape"]:
    """Independent Gaussian pixels in place of the inputs, of the mean and variance of the sample ``like``.

    Mean and variance are taken over examples and pixels: one each a channel for (c, h, w) images, one in all otherwise.
    """
    # A channel at a time: in double precision all of CIFAR-10 at once would take more than a gigabyte.
    moments = [torch.var_mean(channel.double(), correction=0) for channel in _pixels(like).unbind(dim=1)]
    std = torch.stack([variance for variance, _ in moments]).sqrt().float()[:, None]
    mean = torch.stack([mean for _, mean in moments]).float()[:, None]
    # numpy's normals come one after another; torch's come in blocks, and their last ones depend on how many are asked.
    noise = torch.from_numpy(generator.standard_normal(tuple(inputs.shape), dtype=numpy.float32))
    return _pixels(noise).mul_(std).add_(mean).view_as(inputs)


def _pixels(inputs: Tensor) -> Tensor:
    channels = inputs.shape[1] if inputs.ndim == 4 else 1
    return inputs.reshape(len(inputs), channels, -1)


Pair = tuple[Tensor, Tensor]


def _natural(train: Tensor, test: Tensor, seed: int) -> Pair:
    return train, test


def _shuffled(train: Tensor, test: Tensor, seed: int) -> Pair:
    return (
        shuffled_pixels(train, generator(seed, "shuffled_pixels")),
        shuffled_pixels(test, generator(seed, "shuffled_pixels")),
    )


def _random(train: Tensor, test: Tensor, seed: int) -> Pair:
    return (
        random_pixels(train, generator(seed, "random_pixels", "train")),
        random_pixels(test, generator(seed, "random_pixels", "test")),
    )


def _gaussian(train: Tensor, test: Tensor, seed: int) -> Pair:
    def normals(part: str) -> numpy.random.Generator:
        return numpy.random.default_rng(derive_seed(seed, "gaussian_pixels", part))

    return gaussian_pixels(train, train, normals("train")), gaussian_pixels(test, train, normals("test"))


PIXELS: Mapping[str, Callable[[Tensor, Tensor, int], Pair]] = MappingProxyType(
    {"natural": _natural, "shuffled_pixels": _shuffled, "random_pixels": _random, "gaussian_pixels": _gaussian}
)
"""What `DataSpec.pixels` may be, and how each maps training inputs, test inputs and a seed to new inputs."""
