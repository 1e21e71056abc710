"""The tangent kernel's Gram matrix beside `torch.func`'s two ways; run by hand.

    python benchmarks/tangent_gram.py [--quick] [--network CNN-M]

Peers: the Jacobian of all parameters by `jacrev` under `vmap`, then J Jᵀ (torch.func's tutorial on the empirical NTK,
its first way), and NTK-vector products (its second way). Both are float64, as gapbench is, and exact; the largest
difference is relative to the largest entry. neural-tangents is left out, and a line says why. Peak memory is that of
gapbench alone, in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

sys.path.insert(0, str(Path(__file__).resolve().parent))  # ./run sets PYTHONSAFEPATH
from side_by_side import NETWORKS, alternate, arguments, begin, show, trained

from gapbench.measures.tangent import tangent_kernel

Examples = dict[str, list[tuple[int, bool, bool]]]

FULL: Examples = {
    "tiny MLP": [(250, True, True), (1000, False, False)],
    "MLP": [(60, True, True), (1000, False, False)],
    "CNN-M": [(100, True, True), (200, True, False)],
    "CNN-C": [(100, True, False)],
}
"""Numbers of examples, and whether the Jacobian and the NTK-vector products are run too: the MLP's Jacobian at 1000
examples has 27 GB, the products on CNN-C take a minute and a half."""

SMALL: Examples = {"tiny MLP": [(30, True, True)], "CNN-M": [(6, True, True)]}


def by_jacobian(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    state = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def logits(parameters: dict[str, torch.Tensor], example: torch.Tensor) -> torch.Tensor:
        return functional_call(network, parameters, example[None])[0]

    blocks = vmap(jacrev(logits), (None, 0))(state, inputs)
    rows = torch.cat([block.flatten(2) for block in blocks.values()], dim=2).flatten(0, 1)
    return rows @ rows.T


def by_products(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    state = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def pair(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        def at_x(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional_call(network, parameters, x[None])[0]

        def at_y(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional_call(network, parameters, y[None])[0]

        output, back = vjp(at_x, state)
        units = torch.eye(len(output), dtype=output.dtype)
        return vmap(lambda unit: jvp(at_y, (state,), back(unit))[1])(units)

    rows = [vmap(pair, (None, 0))(x, inputs) for x in inputs]  # a row of blocks at a time: less memory, same speed
    kernel = torch.stack(rows)
    n, classes = kernel.shape[0], kernel.shape[2]
    return kernel.permute(0, 2, 1, 3).reshape(n * classes, n * classes)


def peak(name: str, examples: int) -> str:
    """The memory that the Gram matrix adds, at its peak, in a process of its own."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import torch
from side_by_side import NETWORKS
from gapbench.measures.tangent import tangent_kernel
torch.set_num_threads(1)
make, data = NETWORKS[{name!r}]
shape = {{"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}}[data]
network = make().double().eval()
tangent_kernel(network, torch.randn(2, *shape).double())
inputs = torch.randn({examples}, *shape).double()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kernel = tangent_kernel(network, inputs)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"memory {{(after - before) / 2**20:.2f}} GiB, of which K {{kernel.numel() * 8 / 2**30:.2f}}")
"""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", action="append", choices=tuple(NETWORKS), help="default: all four")
    options = parser.parse_args()
    begin(options)
    print("neural-tangents left out: 0.6.5, the last, brings TensorFlow and numpy, scipy and JAX of its own choice\n")
    sizes = SMALL if options.quick else FULL
    for name in options.network or sizes:
        for examples, jacobian, products in sizes[name]:
            network, train = trained(name, 1000, options.seed, options.data_dir, epochs=2)
            network, inputs = network.double(), train.inputs[:examples].double()
            ways: dict[str, Any] = {"gapbench": lambda: tangent_kernel(network, inputs)}  # noqa: B023
            if jacobian:
                ways["Jacobian, then J J^T"] = lambda: by_jacobian(network, inputs)  # noqa: B023
            if products:
                ways["NTK-vector products"] = lambda: by_products(network, inputs)  # noqa: B023
            timings = alternate(ways, 1 if options.quick else options.rounds)
            ours = timings.results["gapbench"]
            largest = float(ours.abs().max())
            notes = {
                peer: f"differs by {float((kernel - ours).abs().max()) / largest:.1e}"
                for peer, kernel in timings.results.items()
                if peer != "gapbench"
            }
            notes["gapbench"] = peak(name, examples)
            show(f"{name}, {examples} examples, 10 outputs", timings, "gapbench", notes)


if __name__ == "__main__":
    main()
