"""The largest and all singular values of circular convolutions, beside the published way; run by hand.

    python benchmarks/convolution_spectrum.py [--quick]

The published way (the code of Dziugaite et al. 2020, after Sedghi, Gupta & Long 2019): a Fourier transform of the
padded kernel and a singular value decomposition at every frequency, in numpy. Kernels are Gaussian (a hard case: many
frequencies have nearly the largest value) and of low rank plus noise, as after training. Relative differences are from
the published value.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from side_by_side import alternate, arguments, begin, show

from gapbench.datasets.seeds import generator
from gapbench.measures.linear_maps import operator_singular_values, operator_spectral_norm


def published(kernel: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    transforms = np.fft.fft2(np.einsum("oihw->hwio", kernel.numpy()), size, axes=[0, 1])
    return np.linalg.svd(transforms, compute_uv=False)


def kernel(channels: int, taps: int, kind: str, seed: int) -> torch.Tensor:
    draws = generator(seed, "kernel", kind)
    gaussian = torch.randn(channels, channels, taps, taps, dtype=torch.float64, generator=draws)
    if kind == "gaussian":
        return gaussian
    left, right = (torch.randn(5, n, dtype=torch.float64, generator=draws) for n in (channels, channels * taps**2))
    return 0.3 * gaussian + (left.T @ right).view_as(gaussian)


def main() -> None:
    parser = arguments(__doc__)
    options = parser.parse_args()
    begin(options)
    cases = [(64, 3, "gaussian", 32), (200, 3, "gaussian", 32), (200, 3, "low rank", 32), (200, 1, "gaussian", 32)]
    for channels, taps, kind, side in [(32, 3, "gaussian", 16), (32, 1, "gaussian", 8)] if options.quick else cases:
        one, size = kernel(channels, taps, kind, options.seed), (side, side)
        timings = alternate(
            {
                "gapbench, largest": lambda one=one, size=size: operator_spectral_norm(one, size),
                "gapbench, all": lambda one=one, size=size: operator_singular_values(one, size),
                "published (every frequency)": lambda one=one, size=size: published(one, size),
            },
            1 if options.quick else options.rounds,
            slow=5,
        )
        largest, everything, reference = timings.results.values()
        top = reference.max()
        apart = np.abs(everything.numpy() - np.sort(reference, axis=None)[::-1]).max()
        notes = {
            "gapbench, largest": f"relative difference {abs(float(largest) - top) / top:.1e}",
            "gapbench, all": f"largest difference over the largest value {apart / top:.1e}",
        }
        title = f"{channels} channels, {taps}x{taps}, {kind}, on {side}x{side}"
        show(title, timings, "gapbench, largest", notes)
        ratios = sorted(timings.ratios("published (every frequency)", "gapbench, all"))
        print(f"  all of them: {ratios[len(ratios) // 2]:.2f}x [{ratios[0]:.2f}, {ratios[-1]:.2f}]\n")


if __name__ == "__main__":
    main()
