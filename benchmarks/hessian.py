"""Trace, largest eigenvalues and density of the Hessian of the training loss, beside PyHessian and curvlinops.

    python benchmarks/hessian.py [--quick] [--network "tiny MLP"]

The whole sample is one batch. PyHessian (0.1 from PyPI: `pip install --no-deps pyhessian`) keeps the graph of the
gradient, as gapbench does; it is run in float64 and in float32, with 100 probes for the trace. gapbench takes the
trace in float64, and the products of its eigenvalues in float32.
curvlinops is run in float64: its own Hutchinson trace with 100 probes, scipy's `eigsh` on its Hessian operator. Peers
that are not installed are left out by name. The exact trace and the top five are first held against the dense Hessian
of a small network; on the large ones eigenvalues are held against Lanczos to a residual of 1e-8.
"""

from __future__ import annotations

import contextlib
import copy
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from side_by_side import alternate, arguments, begin, show, trained

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.curvature import (
    gauss_newton_trace,
    krylov_basis,
    largest_of,
    mean_loss_terms,
    spectral_density,
    top_eigenvalue,
    top_eigenvalues,
    trace,
)
from gapbench.measures.lanczos import Lanczos

PROBES = 100


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", action="append", choices=("tiny MLP", "MLP", "CNN-M"), help="default: all three")
    options = parser.parse_args()
    begin(options, ("curvlinops-for-pytorch", "pyhessian"))
    sizes = {"tiny MLP": 1796, "MLP": 1000, "CNN-M": 300}
    dense_check(options.seed)
    for name in options.network or (["tiny MLP"] if options.quick else sizes):
        size = 200 if options.quick else sizes[name]
        network, train = trained(name, size, options.seed, options.data_dir)
        compare(f"{name}, {size} examples", network.double(), train, options)


def ours(network: nn.Module, train: Split, seed: int) -> dict[str, Callable[[], Any]]:
    flat = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    single = copy.deepcopy(network).float()
    with torch.no_grad():  # of these networks' trace, which is exact, only the type is asked
        logits = network(train.inputs[:1].double())

    def basis(of: nn.Module = single) -> Lanczos:
        return krylov_basis(of, train, generator(seed, "lanczos"))

    def exact_trace() -> Any:
        gauss_newton = gauss_newton_trace(network, train)
        return trace(network, logits, flat, gauss_newton, train, generator(seed, "trace"))

    def all_three() -> Any:
        shared = basis()
        return top_eigenvalue(shared), top_eigenvalues(shared), spectral_density(shared)

    return {
        "trace": exact_trace,
        "top": lambda: top_eigenvalue(basis()),
        "top five": lambda: top_eigenvalues(basis()),
        "density": lambda: spectral_density(basis()),
        "top, top five and density": all_three,
        "reference": lambda: largest_of(basis(network), 5, tolerance=1e-8),
    }


def pyhessian_ways(network: nn.Module, train: Split, dtype: torch.dtype, seed: int) -> dict[str, Callable[[], Any]]:
    from pyhessian import hessian

    other, inputs = copy.deepcopy(network).to(dtype), train.inputs.to(dtype)

    def computer() -> Any:
        torch.manual_seed(seed)
        other.zero_grad(set_to_none=True)
        return hessian(other, nn.CrossEntropyLoss(), data=(inputs, train.labels), cuda=False)

    return {
        "trace": lambda: sum(values := computer().trace(maxIter=PROBES, tol=0.0)) / len(values),
        "top": lambda: computer().eigenvalues(top_n=1)[0],
        "top five": lambda: computer().eigenvalues(top_n=5)[0],
        "density": lambda: density(computer()),
    }


def density(computer: Any) -> Any:
    """PyHessian's density; version 0.1 calls `torch.eig`, which is no more, so that call is given its old meaning."""

    def eig(matrix: torch.Tensor, eigenvectors: bool) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    with mock.patch.object(torch, "eig", eig):
        return computer.density(iter=100, n_v=1)


def curvlinops_ways(network: nn.Module, train: Split, seed: int) -> dict[str, Callable[[], Any]]:
    import numpy
    from curvlinops import HessianLinearOperator, hutchinson_trace
    from scipy.sparse.linalg import eigsh

    other = copy.deepcopy(network)
    data = [(train.inputs.double(), train.labels)]

    def operator() -> Any:
        parameters = [parameter for parameter in other.parameters() if parameter.requires_grad]
        return HessianLinearOperator(other, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)

    def top() -> Any:
        linear = operator().to_scipy()
        start = numpy.random.default_rng(seed).standard_normal(linear.shape[0])
        return eigsh(linear, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)

    def probes() -> Any:
        torch.manual_seed(seed)
        return float(hutchinson_trace(operator(), num_matvecs=PROBES))

    return {"trace": probes, "top": top}


def compare(title: str, network: nn.Module, train: Split, options: Any) -> None:
    mine = ours(network, train, options.seed)
    reference = [one.value for one in mine.pop("reference")()]
    everything = mine.pop("top, top five and density")
    peers: dict[str, dict[str, Callable[[], Any]]] = {}
    try:
        peers["PyHessian 0.1, float64"] = pyhessian_ways(network, train, torch.float64, options.seed)
        peers["PyHessian 0.1, float32"] = pyhessian_ways(network, train, torch.float32, options.seed)
        peers["curvlinops"] = curvlinops_ways(network, train, options.seed)
    except ImportError as missing:
        print(f"  left out: {missing}")
    for quantity, way in mine.items():
        ways = {"gapbench": way}
        ways.update({peer: theirs[quantity] for peer, theirs in peers.items() if quantity in theirs})
        if quantity == "density":
            ways["gapbench, with top and top five"] = everything
        with contextlib.redirect_stderr(io.StringIO()):
            timings = alternate(ways, 1 if options.quick else options.rounds, slow=5)
        show(f"{title}: {quantity}", timings, "gapbench", notes(quantity, timings.results, reference))


def notes(quantity: str, results: dict[str, Any], reference: list[float]) -> dict[str, str]:
    """How far each result is from gapbench's exact trace, or from the reference eigenvalues, at worst."""
    if quantity == "trace":
        exact = results["gapbench"]
        found = {name: float(getattr(value, "value", value)) for name, value in results.items()}
        return {name: f"{one / exact.value - 1:+.1%} ({exact.value:.6g})" for name, one in found.items()}
    if quantity == "density":
        return {}
    return {name: f"off by at most {worst(value, reference):.1e}" for name, value in results.items()}


def worst(found: Any, reference: list[float]) -> float:
    values = found if isinstance(found, tuple | list) else [found] if hasattr(found, "value") else list(found)
    numbers = sorted((float(getattr(value, "value", value)) for value in values), reverse=True)
    return max(abs(one / true - 1) for one, true in zip(numbers, reference, strict=False))


def dense_check(seed: int) -> None:
    """The exact trace and the top five against the dense Hessian of a small network."""
    draws = generator(seed, "dense")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 5)
        ).double()
    train = Split(torch.randn(50, 1, 8, 8, generator=draws), torch.randint(5, (50,), generator=draws), 5)
    flat = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    (term,) = mean_loss_terms(network, train)
    dense = torch.autograd.functional.hessian(term, flat)
    ways, eigenvalues = ours(network, train, seed), torch.linalg.eigvalsh(dense).flip(0)
    apart = ways["trace"]().value / float(dense.trace()) - 1
    five = worst(ways["top five"](), eigenvalues[:5].tolist())
    print(f"against a dense Hessian of {len(flat)} parameters: trace {apart:+.1e}, top five {five:.1e}\n")


if __name__ == "__main__":
    main()
