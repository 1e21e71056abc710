"""Spectra of convolutions as linear maps; mathematics only, nothing is registered here."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def operator_singular_values(
    kernel: Float[Tensor, "out in_a_group kh kw"],
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Tensor, " rank"]:
    """The singular values of the circular convolution with this kernel on inputs of this size, descending.

    Formula: a circular convolution is block diagonal in the Fourier basis, one out x in block a frequency (Sedghi,
    Gupta & Long 2019); a stride s sums the frequencies that alias, so its blocks are the aliased ones side by side,
    out x in·s_h·s_w, over √(s_h·s_w). A kernel larger than the input wraps around, a dilated one has its taps that far
    apart, and groups are blocks of their own. Where the stride does not divide the size, the subsampled map has no such
    form and its matrix is built.
    Shapes: kernel (out, in/groups, kh, kw), size (h, w). Raises: nothing.
    """
    torus = _on_torus(kernel, size, dilation).reshape(groups, -1, kernel.shape[1], *size)
    (h, w), (s, t) = size, stride
    values: Tensor = torch.linalg.svdvals(_dense(torus, stride) if h % s or w % t else _blocks(torus, stride))
    return values.flatten().sort(descending=True).values


def operator_spectral_norm(
    kernel: Float[Tensor, "out in_a_group kh kw"],
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Tensor, ""]:
    """The largest singular value of the circular convolution; see `operator_singular_values`."""
    return operator_singular_values(kernel, size, stride, dilation, groups)[0]


def operator_frobenius_norm(
    kernel: Float[Tensor, "out in_a_group kh kw"],
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Float[Tensor, ""]:
    """The Frobenius norm of the circular convolution: √(number of output positions) times that of the kernel.

    A kernel larger than the input wraps around and its overlapping taps add up before the norm is taken.
    """
    positions = -(-size[0] // stride[0]) * -(-size[1] // stride[1])
    norm: Tensor = torch.linalg.vector_norm(_on_torus(kernel, size, dilation))
    return norm * math.sqrt(positions)


def _on_torus(kernel: Tensor, size: tuple[int, int], dilation: tuple[int, int]) -> Float[Tensor, "out in h w"]:
    """The kernel on the torus of this size, zero-padded, its overlapping taps added."""
    torus = kernel.new_zeros(*kernel.shape[:2], *size)
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            torus[:, :, row * dilation[0] % size[0], column * dilation[1] % size[1]] += kernel[:, :, row, column]
    return torus


def _blocks(torus: Float[Tensor, "groups out in h w"], stride: tuple[int, int]) -> Tensor:
    """The diagonal blocks of the map, (groups, frequencies, out, in·s_h·s_w), complex."""
    (groups, out, inputs, h, w), (s, t) = torus.shape, stride
    symbol: Tensor = torch.fft.fft2(torus) / math.sqrt(s * t)
    aliased = symbol.reshape(groups, out, inputs, s, h // s, t, w // t)
    return aliased.permute(0, 4, 6, 1, 2, 3, 5).reshape(groups, h // s * (w // t), out, inputs * s * t)


def _dense(torus: Float[Tensor, "groups out in h w"], stride: tuple[int, int]) -> Float[Tensor, "groups rows columns"]:
    """The matrix of the map, group by group, built from the images of the unit inputs."""
    inputs, h, w = torus.shape[2:]
    units = torch.eye(inputs * h * w, dtype=torus.dtype).reshape(-1, 1, inputs, h, w)
    frequencies = torch.fft.fft2(torus).conj().unsqueeze(1)
    images: Tensor = torch.fft.ifft2((frequencies * torch.fft.fft2(units)).sum(dim=3)).real
    return images[..., :: stride[0], :: stride[1]].flatten(2).mT
