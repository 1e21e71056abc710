"""Spectra of convolutions as linear maps; mathematics only, nothing is registered here."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

NUMBERS_AT_ONCE = 2**22
"""Blocks of a map are made this many complex numbers at a time, …"""

CACHED_NUMBERS = 2**17
"""… and tested without being decomposed this many at a time: a megabyte, which stays in the cache."""

SMALLEST_REJECTION = 24
"""Blocks with fewer rows or columns than this are all decomposed, which costs less than telling which need not be."""


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
    out x in·s_h·s_w, over √(s_h·s_w). The block of a frequency and that of its negative are conjugate, so one of them
    is decomposed. A kernel larger than the input wraps around. Where the stride does not divide the size, the
    subsampled map has no such form and its matrix is built. A 1x1 kernel is one matrix at every output position. A
    dilated kernel has its taps that far apart, and groups are maps of their own.
    Shapes: kernel (out, in/groups, kh, kw), size (h, w). Raises: nothing.
    """
    if groups > 1:
        own = [operator_singular_values(part, size, stride, dilation) for part in kernel.chunk(groups)]
        together: Tensor = torch.cat(own).sort(descending=True).values
        return together
    kernel = _dilated(kernel, dilation)
    if kernel.shape[2:] == (1, 1):
        positions = -(-size[0] // stride[0]) * -(-size[1] // stride[1])
        repeated: Tensor = torch.linalg.svdvals(kernel.flatten(1)).repeat_interleave(positions)
        return repeated
    if size[0] % stride[0] or size[1] % stride[1]:
        dense: Tensor = torch.linalg.svdvals(_dense(kernel, size, stride))
        return dense
    frequencies, times = _half_of_the_frequencies(size, stride)
    numbers = kernel.shape[0] * kernel.shape[1] * stride[0] * stride[1]
    parts = torch.split(frequencies, max(1, NUMBERS_AT_ONCE // numbers))
    values = torch.cat([torch.linalg.svdvals(_blocks(kernel, size, stride, some)) for some in parts])
    in_order: Tensor = values.repeat_interleave(times, dim=0).flatten().sort(descending=True).values
    return in_order


def operator_spectral_norm(
    kernel: Float[Tensor, "out in_a_group kh kw"],
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Tensor, ""]:
    """The largest singular value of the circular convolution, exactly as `operator_singular_values` has it.

    Few blocks A are decomposed: where σ₁(A)² < λ, λI − AAᴴ has a Cholesky factor, and a block that has one for the
    largest λ found so far is passed over. AAᴴ needs no products: it is the Fourier transform of the kernel's
    correlation with itself, at lags that are multiples of the stride.
    """
    if groups > 1:
        return torch.stack(
            [operator_spectral_norm(part, size, stride, dilation) for part in kernel.chunk(groups)]
        ).max()
    kernel = _dilated(kernel, dilation)
    small = min(kernel.shape[0], kernel.shape[1] * stride[0] * stride[1]) < SMALLEST_REJECTION
    if small or kernel.shape[2:] == (1, 1) or size[0] % stride[0] or size[1] % stride[1]:
        return operator_singular_values(kernel, size, stride)[0]
    if stride == (1, 1) and kernel.shape[1] < kernel.shape[0]:
        kernel = kernel.transpose(0, 1)  # its blocks are those of the kernel, transposed
    gram = _gram(kernel.double(), size, stride)
    frequencies, _ = _half_of_the_frequencies(size, stride)
    coarse = frequencies[:: max(1, len(frequencies) // 64)]
    first = coarse[_power_quotients(gram(coarse, torch.float32)).argmax()]
    largest: Tensor = torch.linalg.svdvals(_blocks(kernel, size, stride, first[None])).max()
    parts = torch.split(frequencies, max(1, CACHED_NUMBERS // len(kernel) ** 2))
    left = torch.cat([part[_may_exceed(largest, gram(part, torch.float32))] for part in parts])
    for part in torch.split(left, max(1, NUMBERS_AT_ONCE // len(kernel) ** 2)):
        grams, order, at_once = gram(part, torch.float64), torch.arange(len(part)), 1
        while True:
            order = order[_may_exceed(largest, grams[order])]
            if len(order) == 0:
                break
            order = order[_power_quotients(grams[order]).argsort(descending=True)]
            tried, order = part[order[:at_once]], order[at_once:]
            largest = torch.maximum(largest, torch.linalg.svdvals(_blocks(kernel, size, stride, tried)).max())
            at_once *= 2
    return largest


def _may_exceed(norm: Tensor, grams: Complex[Tensor, "blocks n n"]) -> Bool[Tensor, " blocks"]:
    """Which of the AAᴴ, which are overwritten, may have an eigenvalue above the squared norm.

    The level is lowered by the worst that rounding can do to a Cholesky factor (Higham 2002, theorem 10.3): γ_n tr A.
    """
    size = grams.shape[1]
    level = float(norm) ** 2 * (1 - 4 * size * (size + 1) * torch.finfo(grams.dtype).eps)
    shifted = grams.neg_()
    shifted.diagonal(dim1=1, dim2=2).add_(level)
    exceeds: Tensor = torch.linalg.cholesky_ex(shifted).info != 0
    return exceeds


def _power_quotients(grams: Complex[Tensor, "blocks n n"], steps: int = 6) -> Float[Tensor, " blocks"]:
    """A lower estimate of each largest eigenvalue; it only decides which blocks are decomposed first."""
    vectors = grams.sum(dim=2, keepdim=True)
    for _ in range(steps):
        vectors = grams @ (vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(1e-30))
    quotients: Tensor = torch.linalg.vector_norm(vectors, dim=(1, 2))
    return quotients


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
    norm: Tensor = torch.linalg.vector_norm(_wrapped(_dilated(kernel, dilation), size))
    return norm * math.sqrt(positions)


def _dilated(kernel: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The kernel with zeros between its taps."""
    if dilation == (1, 1):
        return kernel
    height, width = ((side - 1) * step + 1 for side, step in zip(kernel.shape[2:], dilation, strict=True))
    spread = kernel.new_zeros(*kernel.shape[:2], height, width)
    spread[:, :, :: dilation[0], :: dilation[1]] = kernel
    return spread


def _wrapped(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel on the torus of this size, zero-padded, its overlapping taps added."""
    torus = kernel.new_zeros(*kernel.shape[:2], *size)
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            torus[:, :, row % size[0], column % size[1]] += kernel[:, :, row, column]
    return torus


def _half_of_the_frequencies(
    size: tuple[int, int], stride: tuple[int, int]
) -> tuple[Int[Tensor, "frequencies 2"], Int[Tensor, " frequencies"]]:
    """Output frequencies, one of each pair f and −f (some have both), and how many frequencies each stands for."""
    height, width = size[0] // stride[0], size[1] // stride[1]
    rows, columns = torch.arange(height), torch.arange(width // 2 + 1)
    alone = (columns == 0) | (2 * columns == width)
    return torch.cartesian_prod(rows, columns), torch.where(alone, 1, 2).repeat(height)


def _blocks(
    kernel: Tensor, size: tuple[int, int], stride: tuple[int, int], frequencies: Int[Tensor, "frequencies 2"]
) -> Tensor:
    """The diagonal blocks of the map at these output frequencies, (frequencies, out, in·s_h·s_w), complex."""
    (h, w), (s, t) = size, stride
    aliases = torch.cartesian_prod(torch.arange(s) * (h // s), torch.arange(t) * (w // t))
    places = (frequencies[:, None] + aliases).flatten(0, 1).double() / torch.tensor([h, w])
    taps = torch.cartesian_prod(torch.arange(kernel.shape[2]), torch.arange(kernel.shape[3]))
    symbol = _transform(kernel.flatten(2), taps, places).view(len(frequencies), s * t, *kernel.shape[:2])
    aliased: Tensor = symbol.permute(0, 2, 3, 1).flatten(2) / math.sqrt(s * t)
    return aliased


def _transform(
    taps: Float[Tensor, "out in taps"], places: Int[Tensor, "taps 2"], frequencies: Float[Tensor, "frequencies 2"]
) -> Tensor:
    """Σ_taps K[tap] exp(−2πi ⟨frequency, place of the tap⟩), (frequencies, out, in), complex."""
    angles = (-2 * math.pi * (frequencies @ places.T.double())).to(taps.dtype)
    matrices = taps.permute(2, 0, 1).flatten(1)
    transformed = torch.complex(angles.cos() @ matrices, angles.sin() @ matrices)
    return transformed.view(len(frequencies), *taps.shape[:2])


def _gram(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Callable[[Tensor, torch.dtype], Tensor]:
    """AAᴴ of the blocks A as a function of frequencies and precision, (frequencies, out, out), complex.

    Formula: the transform of Σ_k K[k + lag] K[k]ᵀ over the lags that are multiples of the stride.
    """
    out, _, height, width = kernel.shape
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    taps = kernel.permute(2, 3, 0, 1).flatten(0, 1)
    sums: dict[tuple[int, int], Tensor] = {}
    for place, tap in zip(places, taps, strict=True):
        products = (tap @ taps.flatten(0, 1).T).view(out, len(taps), out)
        for index, other in enumerate(places):
            row, column = (place - other).tolist()
            if row % stride[0] == 0 and column % stride[1] == 0:
                sums[row, column] = sums.get((row, column), 0) + products[:, index]
    correlation, lags = torch.stack(list(sums.values()), dim=2), torch.tensor(list(sums))
    by_precision = {dtype: correlation.to(dtype) for dtype in (torch.float32, torch.float64)}

    def gram(frequencies: Tensor, dtype: torch.dtype) -> Tensor:
        return _transform(by_precision[dtype], lags, frequencies.double() / torch.tensor(size))

    return gram


def _dense(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The matrix of the map, built from the images of the unit inputs."""
    (h, w), inputs = size, kernel.shape[1]
    torus = torch.fft.fft2(_wrapped(kernel, size)).conj()
    units = torch.eye(inputs * h * w, dtype=kernel.dtype).reshape(-1, 1, inputs, h, w)
    images: Tensor = torch.fft.ifft2((torus * torch.fft.fft2(units)).sum(dim=2)).real
    return images[..., :: stride[0], :: stride[1]].flatten(1).T
