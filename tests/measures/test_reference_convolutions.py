"""Measures of a convolutional network with batch norm, pooling and a stride, against dense matrices and autograd."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, cross_entropy, linear, max_pool2d

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.models.trained import Trained

EXAMPLES = 15


def random_network(generator):
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 3),
    )
    network = network.double().eval()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
    network[1].running_mean.copy_(torch.randn(4, generator=generator) / 5)
    network[1].running_var.copy_(torch.rand(4, generator=generator) + 0.5)
    return network


@pytest.fixture(scope="module")
def trained():
    generator = torch.Generator().manual_seed(1)
    network, initial = random_network(generator), random_network(generator)
    inputs = torch.randn(EXAMPLES, 2, 8, 8, generator=generator)
    return Trained(network, initial.state_dict(), Split(inputs, network(inputs.double()).detach().argmax(1), 3))


def folded(state):
    """(weight, bias) of the three layers, without batch norm."""
    scale = state["1.weight"] / (state["1.running_var"] + 1e-5).sqrt()
    first = state["0.weight"] * scale[:, None, None, None], state["1.bias"] - scale * state["1.running_mean"]
    return [first, (state["4.weight"], state["4.bias"]), (state["7.weight"], state["7.bias"])]


def after(layers, values, first=0):
    """The outputs, from what enters layer ``first``."""
    (w1, b1), (w2, b2), (w3, b3) = layers
    if first < 1:
        values = max_pool2d(conv2d(values, w1, b1, padding=1).relu(), 2)
    if first < 2:
        values = conv2d(values, w2, b2, padding=1, stride=2).relu().flatten(1)
    return linear(values, w3, b3)


def flat(layers):
    return torch.cat([part.flatten() for layer in layers for part in layer])


def unflatten(vector, layers):
    parts = [part for layer in layers for part in layer]
    pieces = vector.split([part.numel() for part in parts])
    shaped = [piece.reshape(part.shape) for piece, part in zip(pieces, parts)]
    return list(zip(shaped[::2], shaped[1::2]))


def check(expected, trained, rel=1e-9):
    found = read([BUILT_IN.measures[key] for key in expected], BUILT_IN, trained)
    assert {r.measure: r.value for r in found} == pytest.approx(expected, rel=rel)


def circular(weight, side, stride):
    """The dense matrix of the circular convolution, entry by entry."""
    out, channels, size, _ = weight.shape
    steps = side // stride
    matrix = np.zeros((out, steps, steps, channels, side, side))
    for o, i, j, c, a, b in itertools.product(*map(range, (out, steps, steps, channels, size, size))):
        row, column = (stride * i + a - 1) % side, (stride * j + b - 1) % side
        matrix[o, i, j, c, row, column] += weight[o, c, a, b]
    return matrix.reshape(out * steps**2, channels * side**2)


def stable_ranks(matrices):
    return sum((m**2).sum() / np.linalg.svd(m)[1][0] ** 2 for m in matrices)


def log_product(matrices):
    return sum(2 * math.log(np.linalg.svd(m)[1][0]) for m in matrices)


def test_spectral_norms(trained):
    (w1, _), (w2, _), (w3, _) = folded(trained.network.state_dict())
    reshaped = [w.flatten(1).numpy() for w in (w1, w2, w3)]
    operators = [circular(w1.numpy(), 8, 1), circular(w2.numpy(), 4, 2), w3.numpy()]
    expected = {
        "log_prod_spectral": log_product(reshaped),
        "log_prod_spectral_operator": log_product(operators),
        "log_sum_spectral_operator": math.log(3) + log_product(operators) / 3,
        "frobenius_over_spectral": stable_ranks(reshaped),
        "frobenius_over_spectral_operator": stable_ranks(operators),
    }
    check(expected, trained)
    assert abs(expected["log_prod_spectral"] - expected["log_prod_spectral_operator"]) > 0.5


def test_parameters_and_distances(trained):
    layers, starts = folded(trained.network.state_dict()), folded(trained.initial)
    difference = [w - v for (w, _), (v, _) in zip(layers, starts)]
    expected = {
        "num_params": 72 + 8 + 185 + 63,
        "l2": float(flat(layers).norm()),
        "l2_distance": float((flat(layers) - flat(starts)).norm()),
        "param_norm": float(sum((w**2).sum() for w, _ in layers)),
        "frobenius_distance": float(sum((w**2).sum() for w in difference)),
    }
    check(expected, trained)


def test_capacity(trained):
    """Batch norm folded leaves a bias in the first layer; units are channels times positions."""
    sizes, units = [72 + 4, 185, 63], [4 * 64, 5 * 4, 3]
    weighted = sum(i * a for i, a in enumerate(units, 1))
    logarithm = math.log2(8 * math.e * weighted * math.log2(4 * math.e * weighted))
    expected = {
        "vc_bartlett2019": 3 + sum((3 - i) * q for i, q in enumerate(sizes)) * logarithm,
        "vc_pgdl": 3 + 6 * math.log(22 * 3 * 32**2) * sum(sizes),
        "vc_jiang": 4000 * math.sqrt(3 * math.log2(6 * 3 * 8) ** 3 * (72 + 180 + 60) / EXAMPLES),
    }
    check(expected, trained)


def test_paths(trained):
    layers = folded(trained.network.state_dict())
    ones = torch.ones(1, 2, 8, 8, dtype=torch.float64)
    (w1, _), (w2, _), (w3, _) = [(w.abs(), b) for w, b in layers]
    basis = torch.eye(128, dtype=torch.float64).reshape(128, 2, 8, 8)
    pooled = 4 * avg_pool2d(conv2d(basis, w1, padding=1), 2)
    absolute = conv2d(pooled, w2, padding=1, stride=2).flatten(1) @ w3.T
    expected = {
        "path_norm": math.sqrt(after([(w**2, b**2) for w, b in layers], ones).sum()),
        "path_norm_l1": float(after([(w.abs(), b.abs()) for w, b in layers], ones).sum()),
    }
    check(expected, trained, rel=1e-7)
    # A bound from above, within its tolerance.
    check({"lipschitz_upper": (1 + 5e-7) * float(torch.linalg.svdvals(absolute)[0])}, trained, rel=5.1e-7)


def test_gradients(trained):
    layers, inputs = folded(trained.network.state_dict()), trained.train.inputs.double()
    labels = trained.train.labels

    def losses(vector):
        return cross_entropy(after(unflatten(vector, layers), inputs), labels, reduction="none")

    gradients = torch.autograd.functional.jacobian(losses, flat(layers))
    hessian = torch.autograd.functional.hessian(lambda vector: losses(vector).mean(), flat(layers))
    jacobian = torch.autograd.functional.jacobian(lambda v: after(unflatten(v, layers), inputs).flatten(), flat(layers))
    spectrum = torch.linalg.eigvalsh(jacobian @ jacobian.T)
    expected = {
        "hessian_trace": float(hessian.trace()),
        "gradient_noise_final": float((gradients**2).sum(1).mean() - (gradients.mean(0) ** 2).sum()),
        "benign_rank_r": float(spectrum.sum() / spectrum[-1]),
        "benign_rank_R": float(spectrum.sum() ** 2 / (spectrum**2).sum()),
        "tangent_effective_dimension": float((spectrum / (spectrum + 0.01 * spectrum[-1])).sum()),
    }
    check(expected, trained)
    check({"hessian_top": float(torch.linalg.eigvalsh(hessian)[-1])}, trained, rel=1e-5)


def test_distances_to_the_boundary(trained):
    layers, inputs = folded(trained.network.state_dict()), trained.train.inputs.double()
    labels, rows = trained.train.labels, torch.arange(EXAMPLES)
    (w1, b1), (w2, b2), _ = layers
    pooled = max_pool2d(conv2d(inputs, w1, b1, padding=1).relu(), 2)
    entering = [inputs, pooled, conv2d(pooled, w2, b2, padding=1, stride=2).relu().flatten(1)]
    logs = []
    for number, values in enumerate(entering):
        start = values.clone().requires_grad_(True)
        outputs = after(layers, start, number)
        others = outputs.detach().clone()
        others[rows, labels] = -math.inf
        margin = outputs[rows, labels] - outputs[rows, others.argmax(1)]
        (gradient,) = torch.autograd.grad(margin.sum(), start)
        distance = (margin.detach() / gradient.flatten(1).norm(dim=1)).median()
        spread = ((values - values.mean(0)) ** 2).flatten(1).sum(1).mean()
        logs.append(math.log(distance / math.sqrt(spread)))
    check({"normalised_layer_margin": np.mean(logs)}, trained)
