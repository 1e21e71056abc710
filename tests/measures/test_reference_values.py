"""Measures against formulas written out naively, on small random networks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.measures.registry import Measure
from gapbench.models.trained import History, Trained, Trajectory

WIDTHS = (5, 7, 6, 3)
EXAMPLES = 43


def readings(keys, trained):
    found = read([BUILT_IN.measures[key] for key in keys], BUILT_IN, trained)
    assert [(r.measure, r.status, r.reason) for r in found] == [(key, "ok", "") for key in keys]
    return {r.measure: r for r in found}


def check(expected, trained, rel=1e-9):
    found = {key: reading.value for key, reading in readings(expected, trained).items()}
    assert found == pytest.approx(expected, rel=rel)


def quantity(name, trained):
    """A shared quantity, as `read` makes it."""
    caught = []

    def probe(value):
        caught.append(value)
        return 0.0

    entry = Measure("probe", "test", probe, (name,), "unpublished", 1)
    (reading,) = read([entry], BUILT_IN, trained)
    assert reading.status == "ok", reading.reason
    return caught[0]


def random_network(generator, *widths):
    modules = []
    for fan_in, fan_out in itertools.pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        linear.weight.data = torch.randn(fan_out, fan_in, generator=generator) * 1.5 / fan_in**0.5
        linear.bias.data = torch.randn(fan_out, generator=generator) * 0.3
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def fitted(network, initial, inputs, wrong=2, **more):
    """A network with its own classes as labels, but for a few examples."""
    outputs = network(inputs).detach()
    labels = outputs.argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % outputs.shape[1]
    return Trained(network, initial.state_dict(), Split(inputs, labels, outputs.shape[1]), **more)


@pytest.fixture(scope="module")
def perceptron():
    generator = torch.Generator().manual_seed(15)
    network, initial, early = (random_network(generator, *WIDTHS) for _ in range(3))
    losses = torch.tensor([1.3, 0.7, 0.09, 0.15, 0.06, 0.004], dtype=torch.float64)
    history = History(7 * torch.arange(6), losses, torch.zeros(6))
    inputs = torch.randn(EXAMPLES, WIDTHS[0], generator=generator)
    states = {0: initial.state_dict(), 1: early.state_dict(), 5: network.state_dict()}
    return fitted(network, initial, inputs, history=history, trajectory=Trajectory(states))


def matrices(trained, state=None):
    """[(W, b), ...] as float64 arrays."""
    state = trained.network.state_dict() if state is None else state
    return [(state[f"{i}.weight"].double().numpy(), state[f"{i}.bias"].double().numpy()) for i in (0, 2, 4)]


def flat(layers):
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def forward(layers, inputs):
    """What enters each layer, and the outputs."""
    entering = [inputs]
    for number, (weight, bias) in enumerate(layers):
        after = entering[-1] @ weight.T + bias
        entering.append(after if number == len(layers) - 1 else np.maximum(after, 0))
    return entering


def sample(trained):
    return trained.train.inputs.double().numpy(), trained.train.labels.numpy()


def margins(outputs, labels):
    """f_y - max_{j != y} f_j, and the runner-up j."""
    others = outputs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return outputs[np.arange(len(labels)), labels] - others.max(1), others.argmax(1)


def losses(outputs, labels):
    shifted = outputs - outputs.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]


def percentile(values, share):
    values = np.sort(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def gamma_of(trained):
    inputs, labels = sample(trained)
    return percentile(margins(forward(matrices(trained), inputs)[-1], labels)[0], 0.1)


def test_margin_is_positive(perceptron):
    assert gamma_of(perceptron) > 0.05


def norm_values(weights, starts, vector, start_vector, gamma):
    """The measures of norms alone, of matrices, their initialisations, all parameters and the margin."""
    d = len(weights)
    fro = [(w**2).sum() for w in weights]
    moved = [((w - v) ** 2).sum() for w, v in zip(weights, starts)]
    top = [np.linalg.svd(w)[1][0] ** 2 for w in weights]
    row_sums = [np.sqrt(((w - v) ** 2).sum(1)).sum() for w, v in zip(weights, starts)]
    row_sums_zero = [np.sqrt((w**2).sum(1)).sum() for w in weights]

    def spectral_complexity(sums):
        terms = sum((s / math.sqrt(t)) ** (2 / 3) for s, t in zip(sums, top)) ** 1.5
        return math.sqrt(math.prod(top)) * terms / gamma

    return {
        "l2": math.sqrt((vector**2).sum()),
        "l2_distance": math.sqrt(((vector - start_vector) ** 2).sum()),
        "param_norm": sum(fro),
        "frobenius_distance": sum(moved),
        "spectral_distance": sum(np.linalg.svd(w - v)[1][0] ** 2 for w, v in zip(weights, starts)),
        "log_prod_frobenius": math.log(math.prod(fro)),
        "log_prod_frobenius_over_margin": math.log(math.prod(fro) / gamma**2),
        "log_sum_frobenius": math.log(d * math.prod(fro) ** (1 / d)),
        "log_sum_frobenius_over_margin": math.log(d * (math.prod(fro) / gamma**2) ** (1 / d)),
        "log_prod_spectral": math.log(math.prod(top)),
        "log_prod_spectral_over_margin": math.log(math.prod(top) / gamma**2),
        "log_sum_spectral": math.log(d * math.prod(top) ** (1 / d)),
        "log_sum_spectral_over_margin": math.log(d * (math.prod(top) / gamma**2) ** (1 / d)),
        "frobenius_over_spectral": sum(f / t for f, t in zip(fro, top)),
        "spectral_init_main": math.prod(top) / gamma**2 * sum(m / t for m, t in zip(moved, top)),
        "spectral_orig_main": math.prod(top) / gamma**2 * sum(f / t for f, t in zip(fro, top)),
        "bartlett_foster_telgarsky": spectral_complexity(row_sums),
        "bartlett_foster_telgarsky[reference=zero]": spectral_complexity(row_sums_zero),
        "inverse_margin": 1 / gamma**2,
    }


def test_norms(perceptron):
    layers, starts = matrices(perceptron), matrices(perceptron, perceptron.initial)
    weights, gamma = [w for w, _ in layers], gamma_of(perceptron)
    expected = norm_values(weights, [w for w, _ in starts], flat(layers), flat(starts), gamma)
    operator = {key + "_operator": expected[key] for key in expected if key + "_operator" in BUILT_IN.measures}
    assert len(operator) == 5
    stable = expected["spectral_orig_main"]
    radius = np.sqrt((sample(perceptron)[0] ** 2).sum(1)).max()
    capacity = radius**2 * 9 * 7 * math.log(3 * 7) * stable
    check({**expected, **operator, "neyshabur_pac_spectral": capacity}, perceptron)


def test_capacity(perceptron):
    inputs, labels = sample(perceptron)
    layers = matrices(perceptron)
    sizes, units, d = [42, 48, 21], [7, 6, 3], 3
    weighted = sum(i * a for i, a in enumerate(units, 1))
    logarithm = math.log2(8 * math.e * weighted * math.log2(4 * math.e * weighted))
    output_vc = min((layers[-1][0] ** 2).sum(), 6) + 1
    risk = np.mean(forward(layers, inputs)[-1].argmax(1) != labels)
    assert risk == 2 / EXAMPLES
    epsilon = (output_vc * (math.log(EXAMPLES / output_vc) + 1) - math.log(0.05 / 4)) / EXAMPLES
    expected = {
        "num_params": 111,
        "parameters_per_sample": 111 / EXAMPLES,
        "vc_bartlett2019": d + sum((d - i) * q for i, q in enumerate(sizes)) * logarithm,
        "vc_jiang": 4000 * math.sqrt(d * math.log2(6 * d) ** 3 * (35 + 42 + 18) / EXAMPLES),
        "vc_pgdl": d + 2 * d * math.log(22 * d * 32**2) * 111,
        "output_weight_vc": output_vc,
        "vc_gap_bound": epsilon / 2 * (1 + math.sqrt(1 + 4 * risk / epsilon)),
        "train_error": risk,
    }
    check(expected, perceptron)


def test_linear_regions(perceptron):
    inputs, _ = sample(perceptron)
    layers = matrices(perceptron)
    counts = []
    for start, end in itertools.pairwise(inputs[:9]):
        points = [start + (end - start) * t / 127 for t in range(128)]
        patterns = [[tuple(hidden > 0) for hidden in forward(layers, point)[1:-1]] for point in points]
        counts.append(1 + sum(a != b for a, b in itertools.pairwise(patterns)))
    check({"linear_regions": float(np.mean(counts))}, perceptron)


def total_variation(rows):
    """The trace of the covariance over examples."""
    return ((rows - rows.mean(0)) ** 2).sum(1).mean()


def margin_gradients(layers, inputs, labels):
    """For each example and layer, the gradient of the margin at what enters the layer."""
    entering = forward(layers, inputs)
    _, runner_up = margins(entering[-1], labels)
    gradients = [np.zeros_like(values) for values in entering[:-1]]
    for example, (label, other) in enumerate(zip(labels, runner_up)):
        signal = np.eye(3)[label] - np.eye(3)[other]
        for number in reversed(range(len(layers))):
            signal = layers[number][0].T @ signal
            gradients[number][example] = signal
            signal = signal * (entering[number][example] > 0)
    return gradients


def test_margins(perceptron):
    inputs, labels = sample(perceptron)
    layers, gamma = matrices(perceptron), gamma_of(perceptron)
    entering = forward(layers, inputs)
    outputs = entering[-1]
    margin, _ = margins(outputs, labels)
    probabilities = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    spread = math.sqrt(total_variation(outputs - outputs.mean(1, keepdims=True)))
    gradients = margin_gradients(layers, inputs, labels)
    distances = [
        np.median(margin / np.sqrt((g**2).sum(1))) / math.sqrt(total_variation(x)) for g, x in zip(gradients, entering)
    ]
    lipschitz = np.sqrt((gradients[0] ** 2).sum(1)).max()
    residual = probabilities - np.eye(3)[labels]
    expected = {
        "margin_mean": margin.mean(),
        "margin_quantile_signature": np.mean(
            [math.log(percentile(margin, q) / spread) for q in (0.1, 0.25, 0.5, 0.75, 0.9)]
        ),
        "normalised_layer_margin": np.mean(np.log(distances)),
        "negative_entropy": (probabilities * np.log(probabilities)).sum(1).mean(),
        "train_cross_entropy": losses(outputs, labels).mean(),
        "train_loss": losses(outputs, labels).mean(),
        "isoperimetry": lipschitz / gamma * math.sqrt(111 / (EXAMPLES * 5)),
        "fisher_rao": 9 * ((residual * outputs).sum(1) ** 2).mean(),
    }
    check(expected, perceptron)


def test_mixup_margin(perceptron):
    inputs, labels = sample(perceptron)
    layers = matrices(perceptron)
    means = []
    for i in range(EXAMPLES):
        partners = [k for k in range(EXAMPLES) if k != i and labels[k] == labels[i]]
        halves = (inputs[i] + inputs[partners]) / 2
        means += [margins(forward(layers, halves)[-1], labels[partners])[0].mean()] if partners else []
    found = readings(["mixup_margin"], perceptron)["mixup_margin"]
    assert abs(found.value - np.mean(means)) < 3 * found.standard_error
    ends = margins(forward(layers, inputs)[-1], labels)[0].mean()
    assert abs(ends - np.mean(means)) > 0.01


def path_sum(layers, form):
    """Σ over all paths, from an input or a bias to an output, of the product of form(weight)."""
    total = 0.0
    for first in range(len(layers)):
        sources = [form(layers[first][1])] + ([form(column) for column in layers[0][0].T] if first == 0 else [])
        units = [range(len(bias)) for _, bias in layers[first:]]
        for source, path in itertools.product(sources, itertools.product(*units)):
            product = source[path[0]]
            for number, (a, b) in enumerate(itertools.pairwise(path), first + 1):
                product *= form(layers[number][0][b, a])
            total += product
    return total


def test_paths(perceptron):
    layers = matrices(perceptron)
    squared = path_sum(layers, np.square)
    absolute = np.abs(layers[2][0]) @ np.abs(layers[1][0]) @ np.abs(layers[0][0])
    expected = {
        "path_norm": math.sqrt(squared),
        "path_norm_over_margin": squared / gamma_of(perceptron) ** 2,
        "path_norm_l1": path_sum(layers, np.abs),
        "lipschitz_upper": np.linalg.svd(absolute)[1][0],
    }
    check(expected, perceptron, rel=1e-8)


def test_optimisation(perceptron):
    curve = perceptron.history.loss_nats.tolist()
    # Between epochs: 0.1 is reached a share of 0.6/0.61 into epoch 2, 0.01 a share of 50/56 into epoch 5.
    first, last = 7 * (1 + 0.6 / 0.61), 7 * (4 + 0.05 / 0.056)
    expected = {
        "steps_to_loss": first,
        "steps_between_losses": last - first,
        "training_speed": sum(curve),
        "training_speed_last": curve[-1] + curve[-2],
        "training_speed_ema": sum(0.9 ** (5 - epoch) * loss for epoch, loss in enumerate(curve)),
        "epochs_trained": 5,
        "loss_dissipated": 1 - 0.004 / 1.3,
    }
    check(expected, perceptron)


def unflatten(vector, layers):
    """The (W, b) pairs that `flat` joined, differentiable."""
    parts, at = [], 0
    for shape in (part.shape for layer in layers for part in layer):
        parts.append(vector[..., at : at + math.prod(shape)].reshape(*vector.shape[:-1], *shape))
        at += math.prod(shape)
    return list(zip(parts[::2], parts[1::2]))


def outputs_of(vector, layers, inputs):
    """The outputs (..., examples, classes) with the parameters (..., parameters)."""
    values = inputs
    parts = unflatten(vector, layers)
    for number, (weight, bias) in enumerate(parts):
        values = values @ weight.mT + bias[..., None, :]
        values = values if number == len(parts) - 1 else values.clamp(min=0)
    return values


def per_example_losses(outputs, labels):
    return -outputs.log_softmax(-1)[..., torch.arange(len(labels)), labels]


def gradient_noise(layers, inputs, labels):
    def of_vector(vector):
        return per_example_losses(outputs_of(vector, layers, inputs), labels)

    gradients = torch.autograd.functional.jacobian(of_vector, torch.tensor(flat(layers)))
    return float((gradients**2).sum(1).mean() - (gradients.mean(0) ** 2).sum())


def test_curvature_and_gradient_noise(perceptron):
    layers, early = matrices(perceptron), matrices(perceptron, perceptron.trajectory.states[1])
    inputs, labels = perceptron.train.inputs.double(), perceptron.train.labels

    def loss(vector):
        return per_example_losses(outputs_of(vector, layers, inputs), labels).mean()

    hessian = torch.autograd.functional.hessian(loss, torch.tensor(flat(layers)))
    expected = {
        "hessian_trace": float(hessian.trace()),
        "gradient_noise_final": gradient_noise(layers, inputs, labels),
        "gradient_noise_epoch_1": gradient_noise(early, inputs, labels),
    }
    check(expected, perceptron)
    check({"hessian_top": float(torch.linalg.eigvalsh(hessian)[-1])}, perceptron, rel=1e-6)


def kernel_of(trained, layers):
    inputs = trained.train.inputs.double()[:64]
    jacobian = torch.autograd.functional.jacobian(
        lambda vector: outputs_of(vector, layers, inputs).flatten(), torch.tensor(flat(layers))
    )
    return (jacobian @ jacobian.T).numpy()


def kernel_values(kernel, labels, classes):
    """The measures of a tangent kernel of full rank or not, label energy left out."""
    labels = labels[:64]
    count = len(labels)
    indicators = np.eye(classes)[labels]
    targets = (indicators - indicators.mean(0)).ravel()
    centring = np.kron(np.eye(count) - 1 / count, np.eye(classes))
    centred = centring @ kernel @ centring
    spectrum, vectors = np.linalg.eigh(kernel)
    energy = (vectors.T @ targets) ** 2
    falling = np.maximum(spectrum[::-1], 0)
    return {
        "tangent_alignment": targets @ centred @ targets / np.linalg.norm(centred) / (targets @ targets),
        "label_slow_mass_final": energy[spectrum < 0.01 * spectrum[-1]].sum() / energy.sum(),
        "tangent_effective_dimension": (spectrum / (spectrum + 0.01 * spectrum[-1])).sum(),
        "benign_rank_r": falling.sum() / falling[0],
        "benign_rank_r[k=10]": falling[10:].sum() / falling[10],
        "benign_rank_R": falling.sum() ** 2 / (falling**2).sum(),
        "benign_rank_R[k=10]": falling[10:].sum() ** 2 / (falling[10:] ** 2).sum(),
    }


def test_tangent_kernel(perceptron):
    kernel = kernel_of(perceptron, matrices(perceptron))
    assert quantity("tangent_gram", perceptron).numpy() == pytest.approx(kernel, rel=1e-9, abs=1e-9)
    check(kernel_values(kernel, perceptron.train.labels.numpy(), 3), perceptron)


def test_tangent_kernel_has_64_examples_and_label_energy():
    """A network with more parameters than 64 examples have outputs, so that the kernel can be inverted."""
    generator = torch.Generator().manual_seed(1)
    network, initial = (random_network(generator, 20, 24, 18, 3) for _ in range(2))
    trained = fitted(network, initial, torch.randn(70, 20, generator=generator))
    labels = trained.train.labels.numpy()
    kernel = kernel_of(trained, matrices(trained))
    targets = (np.eye(3)[labels[:64]] - np.eye(3)[labels[:64]].mean(0)).ravel()
    check(kernel_values(kernel, labels, 3), trained)
    check({"label_energy": targets @ np.linalg.solve(kernel, targets)}, trained, rel=1e-7)


def power_law(values):
    """(α, x_min) of least Kolmogorov-Smirnov distance to the law truncated at the largest value."""
    values, best = np.sort(values), (math.inf, 0.0)
    for at in range(len(values) - 1):
        tail = values[at:]
        alpha = 1 + len(tail) / np.log(tail / tail[0]).sum()
        share = 1 - (tail / tail[0]) ** (1 - alpha)
        distance = np.abs(share / share[-1] - np.arange(len(tail)) / len(tail)).max()
        best = min(best, (distance, alpha))
    return best[1]


def bulk_edge(values, long, short):
    edge = math.inf
    while True:
        moved = values[values <= edge].mean() * (1 + math.sqrt(short / long)) ** 2
        if math.isclose(moved, edge, rel_tol=1e-14):
            return edge
        edge = moved


def test_spectra():
    """Layers of 24 x 20 and 18 x 24 weights count; the last has too few eigenvalues."""
    generator = torch.Generator().manual_seed(2)
    network, initial = (random_network(generator, 20, 24, 18, 3) for _ in range(2))
    network[0].weight.data += torch.outer(torch.randn(24, generator=generator), torch.randn(20, generator=generator))
    trained = fitted(network, initial, torch.randn(30, 20, generator=generator))
    weights = [weight for weight, _ in matrices(trained)[:2]]
    spectra = [np.linalg.svd(weight)[1] ** 2 for weight in weights]
    alphas = [power_law(values) for values in spectra]
    edges = [bulk_edge(values, max(w.shape), min(w.shape)) for w, values in zip(weights, spectra)]
    shares = [np.sqrt(values) / np.sqrt(values).sum() for values in spectra]
    energies = [values / values.sum() for values in spectra]
    expected = {
        "alpha": np.mean(alphas),
        "alpha_weighted": np.mean([a * math.log10(v.max()) for a, v in zip(alphas, spectra)]),
        "log_alpha_norm": np.mean([math.log10((v**a).sum()) for a, v in zip(alphas, spectra)]),
        "log_spectral_norm": np.mean([math.log10(v.max()) for v in spectra]),
        "log_norm": np.mean([math.log10(v.sum()) for v in spectra]),
        "stable_rank": np.mean([v.sum() / v.max() for v in spectra]),
        "effective_rank": np.mean([math.exp(-(p * np.log(p)).sum()) for p in shares]),
        "matrix_entropy": np.mean([-(p * np.log(p)).sum() / math.log(len(p)) for p in energies]),
        "mp_soft_rank": np.mean([edge / v.max() for edge, v in zip(edges, spectra)]),
        "num_spikes": np.mean([(v > edge).sum() for edge, v in zip(edges, spectra)]),
    }
    assert expected["num_spikes"] > 0
    check(expected, trained)
