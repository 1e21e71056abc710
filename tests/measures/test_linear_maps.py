"""Spectra of convolutions against the matrix of the circular convolution, built column by column."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from gapbench.measures import linear_maps
from gapbench.measures.linear_maps import operator_frobenius_norm, operator_singular_values, operator_spectral_norm


def dense(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    inputs, (h, w) = kernel.shape[1], size
    kh, kw = kernel.shape[2:]
    units = torch.eye(inputs * h * w, dtype=torch.float64).reshape(-1, inputs, h, w)
    wrapped = pad(units, (0, kw - 1, 0, kh - 1), mode="circular")
    return conv2d(wrapped, kernel, stride=stride).flatten(1).T


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2), (3, 2), (4, 4)])
@pytest.mark.parametrize(("out", "inputs"), [(2, 3), (3, 2), (1, 1)])
def test_against_the_dense_matrix(stride: tuple[int, int], out: int, inputs: int) -> None:
    kernel = torch.randn(out, inputs, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(out))
    matrix = dense(kernel, (6, 4), stride)
    expected = torch.linalg.svdvals(matrix)
    found = operator_singular_values(kernel, (6, 4), stride)
    rank = min(len(expected), len(found))
    assert torch.allclose(found[:rank], expected[:rank], atol=1e-9)
    assert torch.all(found[rank:] < 1e-9)
    assert torch.all(expected[rank:] < 1e-9)
    assert float(operator_spectral_norm(kernel, (6, 4), stride)) == pytest.approx(float(expected[0]), rel=1e-9)
    assert float(operator_frobenius_norm(kernel, (6, 4), stride)) == pytest.approx(float(matrix.norm()), rel=1e-9)


def test_ones_kernel_by_hand() -> None:
    kernel = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert float(torch.linalg.matrix_norm(kernel.flatten(1), 2) ** 2) == pytest.approx(4)
    assert float(operator_spectral_norm(kernel, (4, 4)) ** 2) == pytest.approx(16, rel=1e-9)
    assert float(kernel.norm() ** 2) == pytest.approx(4)
    assert float(operator_frobenius_norm(kernel, (4, 4)) ** 2) == pytest.approx(64, rel=1e-9)


def test_size_matters() -> None:
    """Positive control: the operator norm depends on the size of the input, the reshaped one cannot."""
    kernel = torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64)
    assert float(operator_spectral_norm(kernel, (1, 2))) == pytest.approx(2)
    assert float(operator_spectral_norm(kernel, (1, 3))) == pytest.approx(3**0.5)


def draws(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def low_rank() -> Tensor:
    return (draws(32, 2) @ draws(2, 28 * 9)).view(32, 28, 3, 3) + 0.01 * draws(32, 28, 3, 3)


def one_tap() -> Tensor:
    """All frequencies have the same singular values."""
    kernel = torch.zeros(26, 26, 3, 3, dtype=torch.float64)
    kernel[:, :, 1, 1] = draws(26, 26)
    return kernel


KERNELS = [
    (draws(30, 26, 3, 3), (8, 8), (1, 1)),
    (draws(26, 30, 3, 2), (7, 6), (1, 1)),
    (draws(25, 40, 5, 5), (4, 3), (1, 1)),
    (draws(48, 25, 3, 3), (8, 8), (2, 2)),
    (draws(27, 25, 4, 3), (8, 6), (2, 1)),
    (draws(24, 24, 3, 3), (9, 6), (3, 2)),
    (low_rank(), (10, 10), (1, 1)),
    (one_tap(), (6, 6), (1, 1)),
    (torch.zeros(24, 24, 3, 3, dtype=torch.float64), (6, 6), (1, 1)),
    (1e-12 * draws(24, 24, 3, 3), (6, 6), (1, 1)),
    (draws(24, 30, 1, 1), (6, 6), (2, 2)),
    (draws(24, 3, 1, 1), (7, 7), (2, 2)),
]


@pytest.mark.parametrize(("kernel", "size", "stride"), KERNELS)
def test_the_largest_is_that_of_all(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> None:
    expected = float(operator_singular_values(kernel, size, stride)[0])
    assert float(operator_spectral_norm(kernel, size, stride)) == pytest.approx(expected, rel=1e-13)


def test_few_blocks_are_decomposed_and_the_rejection_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, size, decomposed, svdvals = draws(40, 40, 3, 3), (12, 12), [], torch.linalg.svdvals

    def counted(blocks: Tensor) -> Tensor:
        decomposed.append(len(blocks))
        return svdvals(blocks)

    expected = float(operator_singular_values(kernel, size)[0])
    monkeypatch.setattr(torch.linalg, "svdvals", counted)
    assert float(operator_spectral_norm(kernel, size)) == pytest.approx(expected, rel=1e-13)
    assert sum(decomposed) < 12 * 7 / 4
    monkeypatch.setattr(linear_maps, "_power_quotients", lambda grams: -torch.arange(len(grams)).double())
    assert float(operator_spectral_norm(kernel, size)) == pytest.approx(expected, rel=1e-13)
    monkeypatch.setattr(linear_maps, "_may_exceed", lambda norm, grams: torch.zeros(len(grams), dtype=torch.bool))
    assert float(operator_spectral_norm(kernel, size)) < 0.999 * expected


def test_frequencies_stand_for_all() -> None:
    for size, stride in [((6, 4), (1, 1)), ((5, 7), (1, 1)), ((9, 8), (3, 2)), ((1, 1), (1, 1))]:
        _, times = linear_maps._half_of_the_frequencies(size, stride)
        assert int(times.sum()) == size[0] // stride[0] * (size[1] // stride[1])


def dense_of(convolution: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """The matrix of a convolution with circular padding, column by column."""
    units = torch.eye(convolution.in_channels * size[0] * size[1], dtype=torch.float64)
    with torch.no_grad():
        return convolution(units.reshape(-1, convolution.in_channels, *size)).flatten(1).T


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (4, 1)])
def test_groups_and_dilation_against_the_dense_matrix(
    groups: int, dilation: tuple[int, int], stride: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    padding, size = dilation, (6, 8)  # of a 3x3 kernel: as many outputs as inputs; a dilation of 3 wraps around
    convolution = nn.Conv2d(4, 8, 3, stride, padding, dilation, groups, bias=False, padding_mode="circular").double()
    matrix = dense_of(convolution, size)
    expected = torch.linalg.svdvals(matrix)
    found = operator_singular_values(convolution.weight.detach(), size, stride, dilation, groups)
    rank = min(len(expected), len(found))
    assert torch.allclose(found[:rank], expected[:rank], atol=1e-9)
    assert bool((found[rank:] < 1e-9).all())
    assert bool((expected[rank:] < 1e-9).all())
    norm = operator_frobenius_norm(convolution.weight.detach(), size, stride, dilation)
    assert float(norm) == pytest.approx(float(matrix.norm()), rel=1e-9)
    if dilation != (1, 1):  # positive control: the taps must be where they are
        close = operator_singular_values(convolution.weight.detach(), size, stride, (1, 1), groups)
        assert not torch.allclose(close[:rank], expected[:rank], atol=1e-3)
