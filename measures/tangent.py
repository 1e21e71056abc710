"""The empirical neural tangent kernel on a fixed subsample, exact, layer by layer, without the Jacobian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from gapbench.measures.per_example import (
    JACOBIAN_ENTRIES,
    Sweep,
    by_group,
    layer_sweeps,
    other_jacobians,
    single_use_layers,
)
from gapbench.measures.registry import Undefined, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jaxtyping import Float
    from torch import Tensor

    from gapbench.datasets.spec import Split

TANGENT_EXAMPLES = 64
"""The kernel is taken on this many training examples, the first ones: the order of a sample is a random permutation."""

BLOCK, BLOCKS = 125, 8
"""Examples in a row block at most, and blocks at least: only those on and below the diagonal are computed."""


@quantity(large=True, cost="gradient")
def tangent_gram(evaluated: nn.Module, train: Split) -> Float[Tensor, "N N"]:
    """The empirical tangent kernel K = J Jᵀ of the network on the first 64 training examples, float64.

    N = examples · classes; row i · classes + c belongs to logit c of example i. J has one column a parameter, biases
    included. Source: Jacot, Gabriel & Hongler 2018.
    """
    return tangent_kernel(evaluated, train.inputs[:TANGENT_EXAMPLES].double())


@quantity
def tangent_eigensystem(tangent_gram: Tensor) -> tuple[Float[Tensor, " N"], Float[Tensor, "N N"]]:
    """The eigenvalues of the tangent kernel, descending and not below 0, and its eigenvectors as columns."""
    eigenvalues, vectors = torch.linalg.eigh(tangent_gram)
    return eigenvalues.flip(0).clamp_min(0.0), vectors.flip(1)


@quantity
def tangent_eigenvalues(tangent_eigensystem: tuple[Tensor, Tensor]) -> Float[Tensor, " N"]:
    """The eigenvalues of the tangent kernel, descending and not below 0."""
    return tangent_eigensystem[0]


@quantity
def tangent_labels(train: Split) -> Float[Tensor, " N"]:
    """The labels of the kernel's examples as indicators 1[y_i = c], centred over the examples for each class, float64.

    Ordered as the kernel, example by example. Raises: Undefined where all these examples have one label.
    """
    labels = train.labels[:TANGENT_EXAMPLES]
    indicators = nn.functional.one_hot(labels, train.classes).double()
    centred = (indicators - indicators.mean(dim=0)).flatten()
    if not bool(centred.any()):
        raise Undefined(f"the first {len(labels)} training examples all have the label {int(labels[0])}")
    return centred


def tangent_kernel(
    network: nn.Module, inputs: Float[Tensor, " n *shape"], scales: Mapping[str, Tensor] | None = None
) -> Float[Tensor, "N N"]:
    """K = J Jᵀ for the logits of these inputs, N = n · classes, example by example; J M Jᵀ with ``scales``.

    ``scales``: the diagonal of M ≥ 0, a tensor for each parameter by its name.

    Formula: K = Σ_layers ⟨∂f_ic/∂W, ∂f_jd/∂W⟩. A linear layer adds (a_i·a_j + 1)(δ_ic·δ_jd) with its inputs a and the
    output gradients δ of one backward sweep a class (the 1 only where there is a bias); a layer with several
    positions (a convolution, or linear on tokens) adds the products of its per-example weight gradients, or contracts
    over positions, whichever costs less; any other parameter its own Jacobian. No two layers' gradients are in memory
    at once. With M, a linear layer adds Σ_o δ_ic,o δ_jd,o (Σ_k M_ok a_ik a_jk + M_o), one example a time; all else adds
    the products of its gradients times √M.
    """
    layers = single_use_layers(network, inputs[:1])
    sweeps = layer_sweeps(network, layers, inputs, _unit_columns)
    examples, classes = len(inputs), _classes(network, inputs)
    kernel = torch.zeros(examples, classes, examples, classes, dtype=inputs.dtype)
    roots = {id(p): scales[name].sqrt() for name, p in network.named_parameters()} if scales is not None else {}
    for sweep in sweeps:
        if scales is not None:
            _add_scaled(kernel, sweep, roots)
        elif isinstance(sweep.layer, nn.Linear) and sweep.inputs.ndim == 2:
            _add_linear(kernel, sweep)
        else:
            _add_by_position(kernel, sweep)
    features: dict[str, list[Tensor]] = {}
    for _, found in other_jacobians(network, layers, inputs):
        for name, columns in found.items():
            root = roots.get(id(network.get_parameter(name)))
            features.setdefault(name, []).append(columns if root is None else columns * root.flatten())
    for name in list(features):
        _add_features(kernel, torch.cat(features.pop(name)))
    return _mirrored(kernel.view(examples * classes, examples * classes))


def _mirrored(kernel: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle, made in place, block by block."""
    for start in range(0, len(kernel), 1000):
        stop = start + 1000
        kernel[:start, start:stop] = kernel[start:stop, :start].T
        lower = kernel[start:stop, start:stop].tril()
        kernel[start:stop, start:stop] = lower + lower.tril(-1).T
    return kernel


def _row_blocks(examples: int) -> Iterator[slice]:
    size = min(BLOCK, math.ceil(examples / BLOCKS))
    return (slice(start, min(start + size, examples)) for start in range(0, examples, size))


def _classes(network: nn.Module, inputs: Tensor) -> int:
    with torch.no_grad():
        return int(network(inputs[:1]).shape[1])


def _unit_columns(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "classes n classes"]:
    examples, classes = logits.shape
    return torch.eye(classes, dtype=logits.dtype)[:, None, :].expand(classes, examples, classes)


def _add_features(kernel: Tensor, features: Float[Tensor, "n classes parameters"]) -> None:
    """Add the products of features, on and below the diagonal blocks."""
    examples, classes, _ = features.shape
    for rows in _row_blocks(examples):
        products = features[rows].flatten(0, 1) @ features[: rows.stop].flatten(0, 1).T
        kernel[rows, :, : rows.stop] += products.view(-1, classes, rows.stop, classes)


def _add_linear(kernel: Tensor, sweep: Sweep) -> None:
    inputs, deltas = sweep.inputs, sweep.deltas.transpose(0, 1)
    examples, classes, _ = deltas.shape
    for rows in _row_blocks(examples):
        products = deltas[rows].flatten(0, 1) @ deltas[: rows.stop].flatten(0, 1).T
        gram = inputs[rows] @ inputs[: rows.stop].T + float(sweep.layer.bias is not None)
        block = products.view(-1, classes, rows.stop, classes)
        kernel[rows, :, : rows.stop].addcmul_(block, gram[:, None, :, None])


def _add_scaled(kernel: Tensor, sweep: Sweep, roots: Mapping[int, Tensor]) -> None:
    layer = sweep.layer
    root = roots[id(layer.weight)]
    bias = None if layer.bias is None else roots[id(layer.bias)]
    if isinstance(layer, nn.Linear) and sweep.inputs.ndim == 2:
        inputs, deltas, scale = sweep.inputs, sweep.deltas.transpose(0, 1), root.square().T
        for i in range(len(inputs)):
            gram = (inputs[: i + 1] * inputs[i]) @ scale
            if bias is not None:
                gram += bias.square()
            images = deltas[i] * gram.unsqueeze(1)
            kernel[i, :, : i + 1] += (images @ deltas[: i + 1].mT).transpose(0, 1)
        return
    columns, deltas = by_group(sweep)
    deltas = deltas.permute(1, 2, 0, 3, 4).contiguous()
    examples, groups, classes, channels, _ = deltas.shape
    root = root.reshape(groups, channels, -1)
    size = max(1, JACOBIAN_ENTRIES // (examples * groups * classes * root.shape[2]))
    for start in range(0, channels, size):
        part = slice(start, start + size)
        gradients = deltas[:, :, :, part].flatten(2, 3) @ columns.mT
        scaled = gradients.view(examples, groups, classes, -1) * root[:, part].flatten(1).unsqueeze(1)
        _add_features(kernel, scaled.transpose(1, 2).flatten(2))
    if bias is not None:
        _add_features(kernel, deltas.sum(dim=4).transpose(1, 2).flatten(2) * bias)


def _add_by_position(kernel: Tensor, sweep: Sweep) -> None:
    columns, deltas = by_group(sweep)
    deltas = deltas.permute(1, 2, 0, 3, 4).contiguous()
    examples, groups, classes, channels, positions = deltas.shape
    weights = columns.shape[2]
    by_gradients = classes**2 * channels * weights
    by_positions = positions**2 * (weights + classes * channels) + classes**2 * channels * positions
    if by_gradients <= by_positions:
        gradients = (deltas.flatten(2, 3) @ columns.mT).view(examples, groups, classes, channels * weights)
        _add_features(kernel, gradients.transpose(1, 2).flatten(2))
    else:
        for group in range(groups):
            _contract_positions(kernel, columns[:, group], deltas[:, group])
    if sweep.layer.bias is not None:
        _add_features(kernel, deltas.sum(dim=4).transpose(1, 2).flatten(2))


def _contract_positions(kernel: Tensor, columns: Tensor, deltas: Float[Tensor, "n classes out positions"]) -> None:
    """Add ⟨δ_ic U_iᵀ, δ_jd U_jᵀ⟩ = ⟨δ_ic (U_iᵀ U_j), δ_jd⟩ for j ≤ i, never forming a weight gradient."""
    classes, channels, positions = deltas.shape[1:]
    for i in range(len(columns)):
        meeting = columns[i].T @ columns[: i + 1]
        images = (deltas[i].reshape(classes * channels, positions) @ meeting).view(i + 1, classes, channels * positions)
        kernel[i, :, : i + 1] += (images @ deltas[: i + 1].flatten(2).mT).transpose(0, 1)
