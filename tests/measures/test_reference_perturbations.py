"""Sampled and sought measures against brute force, on one random perceptron: noise, and ascent from many starts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.models.trained import Trained

EXAMPLES = 43
DRAWS = 4_000


@pytest.fixture(scope="module")
def perceptron():
    generator = torch.Generator().manual_seed(15)

    def network():
        modules = []
        for fan_in, fan_out in itertools.pairwise((5, 7, 6, 3)):
            linear = nn.Linear(fan_in, fan_out)
            linear.weight.data = torch.randn(fan_out, fan_in, generator=generator) * 1.5 / fan_in**0.5
            linear.bias.data = torch.randn(fan_out, generator=generator) * 0.3
            modules += [linear, nn.ReLU()]
        return nn.Sequential(*modules[:-1]).eval()

    trained, initial = network(), network()
    inputs = torch.randn(EXAMPLES, 5, generator=generator)
    labels = trained(inputs).detach().argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return Trained(trained, initial.state_dict(), Split(inputs, labels, 3))


def readings(keys, trained):
    found = read([BUILT_IN.measures[key] for key in keys], BUILT_IN, trained)
    assert [(r.measure, r.status, r.reason) for r in found] == [(key, "ok", "") for key in keys]
    return {r.measure: r for r in found}


def vector_of(state):
    return torch.cat([tensor.double().ravel() for tensor in state.values()])


def outputs_at(vectors, trained):
    """The outputs (draws, examples, classes) with parameters (draws, parameters)."""
    values, at = trained.train.inputs.double(), 0
    tensors = list(trained.network.state_dict().values())
    for number, (weight, bias) in enumerate(zip(tensors[::2], tensors[1::2])):
        size = weight.numel()
        matrix = vectors[:, at : at + size].reshape(-1, *weight.shape)
        at += size + len(bias)
        values = values @ matrix.mT + vectors[:, None, at - len(bias) : at]
        values = values.clamp(min=0) if number < 2 else values
    return values


def losses(outputs, labels):
    return -outputs.log_softmax(-1)[:, torch.arange(EXAMPLES), labels]


def right(outputs, labels):
    return (outputs.argmax(-1) == labels).double()


def plain(outputs):
    return outputs


def unit(outputs):
    centred = outputs - outputs.mean(-1, keepdim=True)
    return centred / centred.norm(dim=-1, keepdim=True)


def under_noise(trained, scale, score):
    """The mean score over examples and over Gaussian noise on all parameters, and its standard error."""
    vector = vector_of(trained.network.state_dict())
    noise = torch.randn(DRAWS, len(vector), generator=torch.Generator().manual_seed(3), dtype=torch.float64) * scale
    means = torch.cat([score(outputs_at(vector + part, trained)).mean(1) for part in noise.split(1000)])
    return float(means.mean()), float(means.std() / DRAWS**0.5)


@pytest.mark.parametrize(
    ("key", "absolute", "relative", "form"),
    [
        ("average_sharpness_l2", 0.05, 0.0, plain),
        ("average_adaptive_sharpness_l2", 0.0, 0.2, plain),
        ("average_adaptive_sharpness_l2[normalise_logits=True]", 0.0, 0.2, unit),
    ],
)
def test_average_sharpness(perceptron, key, absolute, relative, form):
    labels, vector = perceptron.train.labels, vector_of(perceptron.network.state_dict())
    found = readings([key], perceptron)[key]

    def rise(scale):
        start = losses(form(outputs_at(vector[None], perceptron)), labels).mean()
        mean, error = under_noise(perceptron, scale, lambda outputs: losses(form(outputs), labels))
        return mean - float(start), 3 * math.hypot(error, found.standard_error)

    expected, tolerance = rise(absolute + relative * vector.abs())
    assert abs(found.value - expected) < tolerance
    # Noise of the squared size, as from a variance in place of a standard deviation, is far off.
    expected, tolerance = rise(absolute**2 + relative**2 * vector.abs())
    assert abs(found.value - expected) > tolerance


FAMILIES = {
    "pacbayes": lambda size, w: torch.full_like(w, size),
    "pacbayes_mag": lambda size, w: (size**2 * w**2 + 1e-6).sqrt(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_pac_bayes(perceptron, family):
    """Noise of the σ that the search reports costs 0.1 of accuracy, and the bounds follow from that σ."""
    labels = perceptron.train.labels
    w, w0 = vector_of(perceptron.network.state_dict()), vector_of(perceptron.initial)
    found = readings([f"{family}_{part}" for part in ("init", "orig", "flatness")], perceptron)
    flatness = found[f"{family}_flatness"]
    sigma = flatness.value**-0.5

    def drop(size):
        mean, error = under_noise(perceptron, FAMILIES[family](size, w), lambda outputs: right(outputs, labels))
        return 1 - 2 / EXAMPLES - mean, error

    slope = (drop(sigma * 1.1)[0] - drop(sigma / 1.1)[0]) / (2 * math.log(1.1))
    at, error = drop(sigma)
    tolerance = 3 * math.hypot(error, slope * flatness.standard_error / (2 * flatness.value))
    assert abs(at - 0.1) < tolerance < 0.05
    assert abs(drop(2 * sigma)[0] - 0.1) > tolerance
    for origin, distance in (("init", w - w0), ("orig", w)):
        squared = float((distance**2).sum())
        if family == "pacbayes":
            divergence = squared / (4 * sigma**2)
        else:
            top = 1e-6 + (sigma**2 + 1) * squared / len(w)
            divergence = sum(math.log(top / (1e-6 + sigma**2 * move**2)) for move in (w - w0).tolist()) / 4
        expected = divergence + math.log(EXAMPLES / sigma) + 10
        assert found[f"{family}_{origin}"].value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("key", "absolute", "relative", "form"),
    [
        ("worst_sharpness_linf", 0.002, 0.0, plain),
        ("worst_adaptive_sharpness_linf", 0.0, 0.01, plain),
        ("worst_adaptive_sharpness_linf[normalise_logits=True]", 0.0, 0.01, unit),
    ],
)
def test_worst_sharpness_in_a_box(perceptron, key, absolute, relative, form):
    """Within 1 % of the highest corner met by sign steps from 32 random corners; random corners are far below."""
    labels, vector = perceptron.train.labels, vector_of(perceptron.network.state_dict())
    radius = absolute + relative * vector.abs()

    def rise(corners):
        return losses(form(outputs_at(corners, perceptron)), labels).mean(1) - start

    start = losses(form(outputs_at(vector[None], perceptron)), labels).mean()
    signs = torch.randn(32, len(vector), generator=torch.Generator().manual_seed(4), dtype=torch.float64).sign()
    at = vector + radius * signs
    best, random_best = rise(at).max(), float(rise(at).max())
    for _ in range(20):
        at.requires_grad_(True)
        (gradient,) = torch.autograd.grad(rise(at).sum(), at)
        at = (vector + radius * gradient.sign()).detach()
        best = torch.maximum(best, rise(at).max())
    found = readings([key], perceptron)[key].value
    assert found == pytest.approx(float(best), rel=0.01)
    assert found > 1.5 * random_best
