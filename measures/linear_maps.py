"""Spectra of convolutions as linear maps; mathematics only, nothing is registered here."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def operator_singular_values(
    kernel: Float[Tensor, "out in kh kw"], size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> Float[Tensor, " rank"]:
    """The singular values of the circular convolution with this kernel on inputs of this size, descending.

    Formula: a circular convolution is block diagonal in the Fourier basis, one out x in block a frequency (Sedghi,
    Gupta & Long 2019); a stride s sums the frequencies that alias, so its blocks are the aliased ones side by side,
    out x in·s_h·s_w, over √(s_h·s_w). A kernel larger than the input wraps around. Where the stride does not divide
    the size, the subsampled map has no such form and its matrix is built.
    Shapes: kernel (out, in, kh, kw), size (h, w). Raises: nothing.
    """
    height, width = size
    if height % stride[0] or width % stride[1]:
        dense: Tensor = torch.linalg.svdvals(_dense(kernel, size, stride))
        return dense
    values: Tensor = torch.linalg.svdvals(_blocks(kernel, size, stride))
    return values.flatten().sort(descending=True).values


def operator_spectral_norm(
    kernel: Float[Tensor, "out in kh kw"], size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> Float[Tensor, ""]:
    """The largest singular value of the circular convolution; see `operator_singular_values`."""
    return operator_singular_values(kernel, size, stride)[0]


def operator_frobenius_norm(
    kernel: Float[Tensor, "out in kh kw"], size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> Float[Tensor, ""]:
    """The Frobenius norm of the circular convolution: √(number of output positions) times that of the kernel.

    A kernel larger than the input wraps around and its overlapping taps add up before the norm is taken.
    """
    positions = -(-size[0] // stride[0]) * -(-size[1] // stride[1])
    norm: Tensor = torch.linalg.vector_norm(_wrapped(kernel, size))
    return norm * math.sqrt(positions)


def _wrapped(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel on the torus of this size, zero-padded, its overlapping taps added."""
    torus = kernel.new_zeros(*kernel.shape[:2], *size)
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            torus[:, :, row % size[0], column % size[1]] += kernel[:, :, row, column]
    return torus


def _blocks(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The diagonal blocks of the map, (frequencies, out, in·s_h·s_w), complex."""
    (h, w), (s, t) = size, stride
    symbol: Tensor = torch.fft.fft2(_wrapped(kernel, size)) / math.sqrt(s * t)
    out, inputs = kernel.shape[:2]
    aliased = symbol.reshape(out, inputs, s, h // s, t, w // t)
    return aliased.permute(3, 5, 0, 1, 2, 4).reshape(h // s * (w // t), out, inputs * s * t)


def _dense(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The matrix of the map, built from the images of the unit inputs."""
    (h, w), inputs = size, kernel.shape[1]
    torus = torch.fft.fft2(_wrapped(kernel, size)).conj()
    units = torch.eye(inputs * h * w, dtype=kernel.dtype).reshape(-1, 1, inputs, h, w)
    images: Tensor = torch.fft.ifft2((torus * torch.fft.fft2(units)).sum(dim=2)).real
    return images[..., :: stride[0], :: stride[1]].flatten(1).T
