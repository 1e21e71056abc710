"""Tiny networks and tables whose values can be worked out by hand, read from end to end.

Every group has a positive control: the same check on something broken, which does not reach the value.
"""

from __future__ import annotations

import math
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN
from gapbench.measures.perturbation import PerturbationScale
from gapbench.measures.read import read
from gapbench.measures.registry import Quantity, build
from gapbench.measures.spectrum import Spectrum, fit_power_law
from gapbench.models.trained import History, Trained

GAMMA = 8.7


def constant(value):
    def function():
        return value

    return function


def registry_with(**quantities):
    """The built-in registry with some quantities replaced by functions."""
    kept = [entry for name, entry in BUILT_IN.quantities.items() if name not in quantities]
    replaced = [Quantity(name, entry, tuple(signature(entry).parameters)) for name, entry in quantities.items()]
    return build([*kept, *replaced, *BUILT_IN.measures.values()])


def readings(keys, trained, registry=BUILT_IN, seed=0):
    found = read([registry.measures[key] for key in keys], registry, trained, seed=seed)
    assert [(r.measure, r.status, r.reason) for r in found] == [(key, "ok", "") for key in keys]
    return {r.measure: r for r in found}


def values(keys, trained, registry=BUILT_IN):
    return {key: reading.value for key, reading in readings(keys, trained, registry).items()}


def value(key, trained, registry=BUILT_IN):
    return values([key], trained, registry)[key]


def perceptron(*matrices):
    """A ReLU network without biases, in float64: 0.1 is not a float32."""
    modules = []
    for matrix in (torch.tensor(rows, dtype=torch.float64) for rows in matrices):
        linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
        linear.load_state_dict({"weight": matrix})
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


W1, W2 = [[3, 0], [0, 4]], [[1, 2], [2, -1]]
W1_INIT, W2_INIT = [[1, 0], [0, 1]], [[1, 0], [0, -1]]


def network_n(w1=W1, w2=W2, init=(W1_INIT, W2_INIT)):
    steps = torch.arange(1.0, 11.0)
    nothing = torch.zeros(10)
    inputs = torch.cat([torch.stack([steps, nothing], 1), torch.stack([nothing, steps], 1)])
    labels = torch.tensor([1] * 10 + [0] * 10)
    return Trained(perceptron(w1, w2), perceptron(*init).state_dict(), Split(inputs, labels, 2))


def from_zero():
    return network_n(init=([[0, 0], [0, 0]],) * 2)


def rescaled():
    """The first hidden unit's incoming weights times 10, its outgoing ones times 0.1."""
    return network_n([[30, 0], [0, 4]], [[0.1, 2], [0.2, -1]])


class AgainstZero(nn.Module):
    """One output z becomes the logits (0, z): a classifier by sign."""

    def forward(self, outputs):
        return torch.cat([torch.zeros_like(outputs), outputs], 1)


class Quadratic(nn.Module):
    """Logits of (w1, w2) whose cross-entropy for label 0 is (4 w1²/s² + w2²)/2, s a reparametrisation of w1."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, weights):
        loss = (4 * (weights[:, :1] / self.scale) ** 2 + weights[:, 1:] ** 2) / 2
        return torch.cat([torch.zeros_like(loss), torch.log(torch.expm1(loss))], 1)


NORMS = {
    "num_params": 8,
    "param_norm": 35,
    "l2": math.sqrt(35),
    "frobenius_distance": 21,
    "l2_distance": math.sqrt(21),
    "spectral_distance": 13,
    "log_prod_frobenius": math.log(250),
    "log_sum_frobenius": math.log(31.6227766017),
    "log_prod_spectral": math.log(80),
    "log_sum_spectral": math.log(17.88854382),
    "log_prod_spectral_operator": math.log(80),
    "log_sum_spectral_operator": math.log(17.88854382),
    "frobenius_over_spectral": 3.5625,
    "frobenius_over_spectral_operator": 3.5625,
}


def test_norms():
    assert values(NORMS, network_n()) == pytest.approx(NORMS, rel=1e-9)


def test_norms_notice_norms_that_are_not_squared():
    def frobenius_norms(layers):
        return torch.stack([layer.weight.norm() for layer in layers]).sqrt()

    def spectral_norms(layers):
        return torch.stack([torch.linalg.matrix_norm(layer.weight, 2) for layer in layers]).sqrt()

    wrong = registry_with(frobenius_norms=frobenius_norms, spectral_norms=spectral_norms)
    keys = [key for key in NORMS if "prod" in key or "sum" in key]
    found = values(keys, network_n(), wrong)
    assert all(abs(found[key] - NORMS[key]) > 0.1 for key in keys)
    assert math.exp(found["log_prod_frobenius"]) == pytest.approx(math.sqrt(250))


def test_distances_notice_weights_in_place_of_differences():
    found = values(["frobenius_distance", "l2_distance", "spectral_distance"], from_zero())
    assert found == pytest.approx({"frobenius_distance": 35, "l2_distance": math.sqrt(35), "spectral_distance": 21})


MARGINS = {"inverse_margin": GAMMA**-2, "margin_mean": 41.25, "train_error": 0.0}
AT_GAMMA_6 = {
    "inverse_margin": 0.0277777777778,
    "log_prod_spectral_over_margin": math.log(2.2222222222),
    "log_sum_spectral_over_margin": math.log(2.98142397),
    "log_prod_frobenius_over_margin": math.log(6.9444444444),
    "log_sum_frobenius_over_margin": math.log(5.2704627669),
    "spectral_init_main": 5.3611111111,
    "spectral_orig_main": 7.9166666667,
    "path_norm_over_margin": 3.4722222222,
}
OVER_MARGIN = {
    "log_prod_spectral_over_margin": math.log(80 / GAMMA**2),
    "log_prod_spectral_over_margin_operator": math.log(80 / GAMMA**2),
    "log_sum_spectral_over_margin": math.log(17.88854382 / GAMMA),
    "log_sum_spectral_over_margin_operator": math.log(17.88854382 / GAMMA),
    "log_prod_frobenius_over_margin": math.log(250 / GAMMA**2),
    "log_sum_frobenius_over_margin": math.log(31.6227766017 / GAMMA),
    "spectral_init_main": 193 / GAMMA**2,
    "spectral_orig_main": 285 / GAMMA**2,
    "path_norm_over_margin": 125 / GAMMA**2,
    "bartlett_foster_telgarsky": 38.23587869 / GAMMA,
    "bartlett_foster_telgarsky[reference=zero]": 47.39899226 / GAMMA,
}


def test_margins():
    expected = {**MARGINS, **OVER_MARGIN}
    assert values(expected, network_n()) == pytest.approx(expected, rel=1e-9)


def test_margins_notice_another_quantile():
    """With the 2nd smallest of 20 margins, 6, the same measures have the other printed values."""
    found = values(AT_GAMMA_6, network_n(), registry_with(margin=constant(6.0)))
    assert found == pytest.approx(AT_GAMMA_6, rel=1e-9)
    assert all(abs(found[key] - {**MARGINS, **OVER_MARGIN}[key]) > 0.01 for key in AT_GAMMA_6)


def test_spectral_complexity_notices_the_reference():
    found = value("bartlett_foster_telgarsky", from_zero())
    assert found == pytest.approx(47.39899226 / GAMMA, rel=1e-9)
    assert abs(found - 38.23587869 / GAMMA) > 1


def test_path_norms():
    expected = {"path_norm": 11.1803398875, "path_norm_l1": 21}
    for trained in (network_n(), rescaled()):
        assert values(expected, trained) == pytest.approx(expected, rel=1e-9)


def test_rescaling_changes_the_layer_norms():
    expected = {"param_norm": 921.05, "log_prod_spectral": math.log(4500)}
    assert values(expected, rescaled()) == pytest.approx(expected, rel=1e-9)


def test_path_norm_notices_a_unit_scaled_on_one_side_only():
    assert value("path_norm", network_n([[30, 0], [0, 4]])) == pytest.approx(math.sqrt(45 * 100 + 80))


def test_capacity():
    expected = {"vc_bartlett2019": 117.4310599, "vc_pgdl": 344.9011661, "parameters_per_sample": 0.4}
    assert values(expected, network_n()) == pytest.approx(expected, rel=1e-9)


def test_capacity_notices_a_parameter_more():
    wider = network_n([*W1, [0, 0]], [[1, 2, 0], [2, -1, 0]], ([*W1_INIT, [0, 0]], [[1, 0, 0], [0, -1, 0]]))
    assert value("vc_bartlett2019", wider) > 118
    assert value("vc_pgdl", wider) > 400


def convolutions(bias=True):
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=bias),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    inputs = torch.zeros(5, 3, 32, 32)
    return Trained(network, network.state_dict(), Split(inputs, torch.arange(5), 8))


def test_capacity_of_convolutions():
    """The printed value is for 50,000 examples; here are five."""
    found = values(["vc_jiang", "num_params"], convolutions())
    assert found == pytest.approx({"vc_jiang": 17908.54001 * 100, "num_params": 808}, rel=1e-9)
    assert value("num_params", convolutions(bias=False)) == 792


def ones_kernel(outputs):
    convolution = nn.Conv2d(1, 1, 2, bias=False)
    nn.init.ones_(convolution.weight)
    linear = nn.Linear(9, 2, bias=False)
    linear.weight.data = torch.eye(2, 9) * outputs
    network = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).eval()
    start = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    return Trained(network, start, Split(torch.ones(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]), 2))


CONVOLUTION = {
    "log_prod_spectral": math.log(4),
    "log_prod_spectral_operator": math.log(16),
    "param_norm": 4 + 2,
    "frobenius_over_spectral": 4 / 4 + 2,
    "frobenius_over_spectral_operator": 64 / 16 + 2,
}


def test_convolution():
    assert values(CONVOLUTION, ones_kernel(1.0)) == pytest.approx(CONVOLUTION, rel=1e-9)


def test_convolution_notices_a_kernel_norm_over_an_operator_norm():
    def operator_frobenius_norms(frobenius_norms):
        return frobenius_norms

    mixed = registry_with(operator_frobenius_norms=operator_frobenius_norms)
    assert value("frobenius_over_spectral_operator", ones_kernel(1.0), mixed) == pytest.approx(4 / 16 + 2)


def normalised(mean=4.0):
    linear, norm, output = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0), nn.Linear(1, 2, bias=False)
    network = nn.Sequential(linear, norm, nn.ReLU(), output).double().eval()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for tensor, number in [
        (linear.weight, 2), (linear.bias, 1), (norm.weight, 3), (norm.bias, 0.5), (norm.running_mean, mean),
        (norm.running_var, 9), (output.weight, 1),
    ]:  # fmt: skip
        tensor.data.fill_(number)
    return Trained(network, start, Split(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]), 2))


def test_batch_norm_fold():
    """Weight 2, bias -2.5 and the output's two ones: a path from the bias carries 2.5² twice."""
    expected = {"param_norm": 4 + 2, "l2": math.sqrt(4 + 2.5**2 + 2), "path_norm": math.sqrt(2 * (4 + 2.5**2))}
    assert values(expected, normalised()) == pytest.approx(expected, rel=1e-9)


def test_batch_norm_fold_notices_the_mean():
    assert value("l2", normalised(mean=0.0)) == pytest.approx(math.sqrt(4 + 1.5**2 + 2))


PAC_BAYES = {
    "pacbayes_init": 34.68887945,
    "pacbayes_orig": 48.68887945,
    "pacbayes_flatness": 4,
    "pacbayes_mag_init": 29.6781061,
    "pacbayes_mag_orig": 30.6997571,
    "pacbayes_mag_flatness": 4,
}


def at_sigma(sigma):
    scale = constant(PerturbationScale(sigma))
    return registry_with(sigma=scale, sigma_magnitude=scale)


def test_pac_bayes_at_a_given_sigma():
    assert values(PAC_BAYES, network_n(), at_sigma(0.5)) == pytest.approx(PAC_BAYES, rel=2e-9)


def test_pac_bayes_notices_a_variance_and_a_missing_initialisation():
    variance = values(PAC_BAYES, network_n(), at_sigma(0.25))
    assert all(abs(variance[key] - expected) > 1 for key, expected in PAC_BAYES.items())
    assert value("pacbayes_init", from_zero(), at_sigma(0.5)) == pytest.approx(PAC_BAYES["pacbayes_orig"], rel=2e-9)


SIGMA, SIGMA_OF_THE_VARIANCE_BUG = 0.7803041461, 0.8833482587


@pytest.fixture(scope="module")
def one_weight():
    linear = nn.Linear(1, 1, bias=False)
    nn.init.ones_(linear.weight)
    network = nn.Sequential(linear, AgainstZero()).eval()
    inputs = torch.linspace(-2, 2, 1000)[:, None]
    trained = Trained(network, {"0.weight": torch.zeros(1, 1)}, Split(inputs, (inputs[:, 0] > 0).long(), 2))
    return [readings(["pacbayes_flatness"], trained, seed=seed)["pacbayes_flatness"] for seed in range(4)]


def test_sigma_search(one_weight):
    for reading in one_weight:
        assert 0 < reading.standard_error < 0.2
        assert abs(reading.value - SIGMA**-2) < 3 * reading.standard_error
    # The search ends at an accuracy drop within 0.01 of its target.
    assert 0.7458484 < np.mean([reading.value for reading in one_weight]) ** -0.5 < 0.8153095


def test_sigma_search_tells_a_standard_deviation_from_a_variance(one_weight):
    mean = np.mean([reading.value for reading in one_weight])
    error = math.hypot(*(reading.standard_error for reading in one_weight)) / len(one_weight)
    assert abs(mean - SIGMA**-2) < 3 * error
    assert abs(mean - SIGMA_OF_THE_VARIANCE_BUG**-2) > 5 * error


def quadratic(scale=1.0):
    network = nn.Sequential(*perceptron([[scale], [2.0]]), Quadratic(scale)).eval()
    start = {"0.weight": torch.zeros(2, 1, dtype=torch.float64)}
    return Trained(network, start, Split(torch.ones(256, 1), torch.zeros(256, dtype=torch.int64), 2))


def with_knobs(key, trained, **knobs):
    (found,) = read([replace(BUILT_IN.measures[key], knobs=knobs)], BUILT_IN, trained)
    assert (found.status, found.reason) == ("ok", "")
    return found


@pytest.mark.parametrize(
    ("key", "scale", "expected"),
    [
        ("average_sharpness_l2", 1.0, 0.025),
        ("average_adaptive_sharpness_l2", 1.0, 0.04),
        ("average_sharpness_l2", 3.0, 0.007222222222),
        ("average_adaptive_sharpness_l2", 3.0, 0.04),
    ],
)
def test_average_sharpness(key, scale, expected):
    found = with_knobs(key, quadratic(scale), rho=0.1)
    assert 0 < found.standard_error < 0.01
    assert abs(found.value - expected) < 3 * found.standard_error


def test_worst_sharpness_ascends():
    """In the box |u_i| <= 0.1 |w_i| every weight grows by a tenth: 4 · 1.1² - 4."""
    for scale in (1.0, 3.0):
        found = with_knobs("worst_adaptive_sharpness_linf", quadratic(scale), rho=0.1)
        assert found.value == pytest.approx(0.84, rel=1e-9)
    assert with_knobs("worst_sharpness_linf", quadratic(), rho=0.1).value == pytest.approx(
        (4 * 1.1**2 + 2.1**2) / 2 - 4
    )


@pytest.mark.parametrize(("scale", "trace", "top"), [(1.0, 5, 4), (3.0, 4 / 9 + 1, 1)])
def test_hessian_and_its_change_by_a_reparametrisation(scale, trace, top):
    found = readings(["hessian_trace", "hessian_top"], quadratic(scale))
    assert found["hessian_top"].value == pytest.approx(top, rel=1e-9)
    assert found["hessian_trace"].value == pytest.approx(trace, rel=1e-9)


def test_fisher_rao():
    trained = network_n()
    one = Trained(trained.network, trained.initial, Split(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), 2))
    found = value("fisher_rao", one)
    assert found == pytest.approx(0.08097168408, rel=1e-9)
    # The printed (d + 1)², with d the weight layers.
    assert abs(found - 0.7287451567) > 0.5


def with_tangent_eigenvalues(*eigenvalues):
    """One linear unit on orthogonal inputs, which have the eigenvalues of the kernel as squared norms."""
    network = nn.Sequential(nn.Linear(len(eigenvalues), 1, bias=False, dtype=torch.float64), AgainstZero()).eval()
    inputs = torch.diag(torch.tensor(eigenvalues).sqrt())
    return Trained(network, network.state_dict(), Split(inputs, torch.arange(len(eigenvalues)) % 2, 2))


@pytest.mark.parametrize(
    ("key", "k", "expected"),
    [
        ("benign_rank_r", 0, 2), ("benign_rank_R", 0, 2.976744186), ("benign_rank_r", 1, 2),
        ("benign_rank_R", 1, 2.909090909),
    ],
)  # fmt: skip
def test_benign_ranks(key, k, expected):
    # The inputs are float32, so that their squared norms are eigenvalues to 1e-7.
    found = with_knobs(key, with_tangent_eigenvalues(8.0, 4.0, 2.0, 1.0, 1.0), k=k).value
    assert found == pytest.approx(expected, rel=2e-7)
    changed = with_knobs(key, with_tangent_eigenvalues(8.0, 4.0, 1.0, 1.0, 1.0), k=k).value
    assert abs(changed - expected) > 0.1


def test_label_energy():
    kernel, labels = torch.diag(torch.tensor([1.0, 4.0])).double(), torch.tensor([1.0, 2.0]).double()

    def energy(kernel):
        registry = registry_with(tangent_gram=constant(kernel), tangent_labels=constant(labels))
        return value("label_energy", network_n(), registry)

    assert energy(kernel) == pytest.approx(2, rel=1e-9)
    assert energy(kernel**2) == pytest.approx(1.25)


TAIL = {"alpha": 1.666666667, "alpha_weighted": 2.17147241, "log_alpha_norm": 2.261831895}


def test_power_law():
    spectrum = Spectrum(torch.exp(torch.arange(4, dtype=torch.float64)), 4, 4)
    assert values(TAIL, network_n(), registry_with(weight_spectra=constant((spectrum,)))) == pytest.approx(
        TAIL, rel=1e-8
    )
    assert fit_power_law(spectrum.eigenvalues, truncated=False).distance == pytest.approx(0.236582881, rel=1e-8)


def diagonal_layer(exponent):
    """A layer whose matrix has the singular values 1, e^a, e^2a, e^3a, four times each, a the exponent."""
    singular_values = torch.exp(exponent * torch.arange(4, dtype=torch.float64)).repeat(4)
    network = perceptron(torch.diag(singular_values).tolist(), torch.eye(2, 16).tolist())
    return Trained(network, network.state_dict(), Split(torch.eye(16), torch.arange(16) % 2, 2))


def test_power_law_of_a_layer():
    """Eigenvalues are squares: 1, e, e², e³; every sum over them is four times as large."""
    expected = {**TAIL, "log_alpha_norm": TAIL["log_alpha_norm"] + math.log10(4)}
    assert values(expected, diagonal_layer(0.5)) == pytest.approx(expected, rel=2e-8)


def test_power_law_notices_singular_values_in_place_of_eigenvalues():
    found = values(TAIL, diagonal_layer(0.25))
    assert found["alpha"] == pytest.approx(1 + 2 * (TAIL["alpha"] - 1))


def test_training_speed():
    losses = torch.tensor([2.3, 1.1, 0.6, 0.3, 0.1], dtype=torch.float64)
    expected = {"training_speed": 4.4, "training_speed_last": 0.4, "epochs_trained": 4}

    def along(losses):
        history = History(torch.arange(len(losses)), losses, torch.zeros(len(losses)))
        network = network_n()
        return values(expected, Trained(network.network, network.initial, network.train, history))

    assert along(losses) == pytest.approx(expected, rel=1e-9)
    assert along(losses[1:])["training_speed"] == pytest.approx(2.1)
    assert along(losses.flip(0))["training_speed_last"] == pytest.approx(3.4)
