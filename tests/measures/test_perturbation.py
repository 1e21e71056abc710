from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures import weight_noise
from gapbench.measures.perturbation import (
    MAGNITUDE_FLOOR,
    TARGET_DROP,
    Crossing,
    correct_under_noise,
    crossing,
    mean_standard_error,
    search_sigma,
    sigma,
    sigma_magnitude,
)
from gapbench.measures.weight_noise import EXAMPLES_A_DRAW, Noise, NoisyNetwork


class SignClassifier(nn.Module):
    """f(x) = w x as two logits (0, w x), one weight and no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.map.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.map(x)
        return torch.cat([torch.zeros_like(f), f], dim=1)


def signs(n: int = 400) -> Split:
    x = torch.randn(n, 1, generator=generator(0, "signs"))
    return Split(x, (x[:, 0] > 0).long(), 2)


def blobs(net: nn.Module, n: int = 200, shape: tuple[int, ...] = (6,)) -> Split:
    """Inputs with the labels that the network itself gives them: accuracy 1."""
    x = torch.randn(n, *shape, generator=generator(0, "blobs"))
    with torch.no_grad():
        return Split(x, net(x).argmax(dim=1), 3)


def initialised(net: nn.Module) -> nn.Module:
    draws = generator(0, "network")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) / max(1, parameter[0].numel()) ** 0.5)
    return net.eval()


def mlp() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))


def cnn() -> nn.Module:
    return initialised(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
    )


def layer_norm() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
    return initialised(net)


def grouped() -> nn.Module:
    convolution = nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2)
    around = nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular")
    return initialised(
        nn.Sequential(convolution, nn.ReLU(), around, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    )


def tokens() -> nn.Module:
    return initialised(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)))


NETWORKS = [(mlp, (6,)), (cnn, (2, 8, 8)), (layer_norm, (6,)), (grouped, (4, 5, 5)), (tokens, (3, 6))]


def naive_accuracies(net: nn.Module, train: Split, noise: Noise, draws: int) -> torch.Tensor:
    """The accuracy of each explicit draw of all weights, common to all examples."""
    return (naive_logits(net, train.inputs, noise, draws).argmax(dim=2) == train.labels).double().mean(dim=1)


def naive_logits(net: nn.Module, x: torch.Tensor, noise: Noise, draws: int) -> torch.Tensor:
    stream, state = generator(7, "naive"), {}
    for name, value in net.named_parameters():
        p = value.detach()
        state[name] = p + noise.variance(p).sqrt() * torch.randn(draws, *p.shape, generator=stream)
    return torch.func.vmap(lambda one: torch.func.functional_call(net, one, x))(state).detach()


def clean_logits(net: nn.Module, train: Split) -> torch.Tensor:
    with torch.no_grad():
        return net(train.inputs)


def test_sigma_of_the_sign_classifier() -> None:
    net, train = SignClassifier(), signs()
    logits = clean_logits(net, train)
    found = [sigma(net, logits, train, generator(seed, "search")) for seed in range(5)]
    assert all(one.converged and one.standard_error > 0 for one in found)
    for one in found:
        assert abs(one.sigma - 0.7803041461) < 3.5 * one.standard_error
    mean = sum(one.sigma for one in found) / 5
    assert 0.7458484 < mean < 0.8153095  # a drop within .01 of .1
    assert abs(mean - 0.7803041461) < abs(mean - 0.8833482587)


def test_a_standard_deviation_of_sigma_squared_gives_the_other_value() -> None:
    net, train = SignClassifier(), signs()
    found = search_sigma(
        net, clean_logits(net, train), train, generator(0, "search"), lambda size: Noise(size**2), guess=0.5
    )
    assert abs(found.sigma - 0.8833482587) < 4 * found.standard_error
    assert abs(found.sigma - 0.7803041461) > 5 * found.standard_error


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
@pytest.mark.parametrize("noise", [Noise(0.15), Noise(MAGNITUDE_FLOOR, 0.4)])
def test_mean_accuracy_is_that_of_explicit_weight_draws(
    make: type[nn.Module], shape: tuple[int, ...], noise: Noise
) -> None:
    net = make()
    train = blobs(net, shape=shape)
    # Accuracies are skewed: with few draws, their own standard deviation says too little of the mean's error.
    naive = naive_accuracies(net, train, noise, 625)
    noisy = NoisyNetwork(net, train.inputs[:1])
    correct = correct_under_noise(noisy, train.inputs, train.labels, noise, 3, 20).double()
    error = math.hypot(float(naive.std()) / 25, mean_standard_error(correct, noisy.examples_a_draw))
    assert abs(float(correct.mean() - naive.mean())) < 3.5 * error
    louder = Noise(2 * noise.absolute, 2 * noise.relative)
    other = correct_under_noise(noisy, train.inputs, train.labels, louder, 3, 20)
    assert abs(float(other.double().mean() - naive.mean())) > 3.5 * error


@pytest.mark.parametrize("noise", [Noise(0.3), Noise(0.1, 0.6)])
@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_one_examples_logits_have_the_law_of_explicit_weight_draws(
    make: type[nn.Module], shape: tuple[int, ...], noise: Noise
) -> None:
    net = make()
    x = torch.randn(1, *shape, generator=generator(2, "example"))
    naive, noisy = naive_logits(net, x, noise, 2000)[:, 0], NoisyNetwork(net, x)
    draws = generator(4, "law")
    ours = torch.stack([noisy.logits(x, noise, draws)[0] for _ in range(300)])
    for moment in (1, 2):
        a, b = naive**moment, ours**moment
        error = (a.var(dim=0) / 2000 + b.var(dim=0) / 300).sqrt()
        assert bool(((a.mean(dim=0) - b.mean(dim=0)).abs() < 4.5 * error).all())


def test_noise_of_different_examples_is_shared_only_where_said() -> None:
    net, x = mlp(), torch.ones(2, 6)
    noisy = NoisyNetwork(net, x[:1])
    assert noisy.examples_a_draw == 1
    logits = noisy.logits(x, Noise(0.3), generator(0, "x"))
    assert not torch.allclose(logits[0], logits[1])
    assert NoisyNetwork(cnn(), torch.zeros(1, 2, 8, 8)).examples_a_draw == EXAMPLES_A_DRAW


def test_common_random_numbers_and_the_antithetic_draw() -> None:
    net, x = mlp(), torch.randn(5, 6, generator=generator(0, "x"))
    noisy = NoisyNetwork(net, x[:1])
    there, again, back = (
        noisy.logits(x, Noise(1e-4), torch.Generator().manual_seed(1), sign=sign) for sign in (1.0, 1.0, -1.0)
    )
    assert torch.equal(there, again)
    clean = clean_logits(net, Split(x, torch.zeros(5).long(), 3))
    torch.testing.assert_close(there + back, 2 * clean, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(there, clean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("search", [sigma, sigma_magnitude])
def test_the_standard_error_is_the_spread_over_seeds(search: type) -> None:
    net = mlp()
    train = blobs(net)
    found = [search(net, clean_logits(net, train), train, generator(seed, "search")) for seed in range(12)]
    values = torch.tensor([one.sigma for one in found], dtype=torch.float64)
    reported = torch.tensor([one.standard_error for one in found]).mean()
    assert 0.5 < float(values.std() / reported) < 2


def test_the_search_reaches_the_target_on_explicit_draws() -> None:
    net = mlp()
    train = blobs(net)
    found = sigma(net, clean_logits(net, train), train, generator(0, "search"))
    naive = naive_accuracies(net, train, Noise(found.sigma), 400)
    assert abs(1 - float(naive.mean()) - TARGET_DROP) < 0.01 + 3 * float(naive.std()) / 15


def test_a_search_at_its_cap_has_not_converged() -> None:
    net, train = SignClassifier(), signs()
    wrong = Split(train.inputs, 1 - train.labels, 2)
    found = sigma(net, clean_logits(net, wrong), wrong, generator(0, "search"))
    assert not found.converged
    assert found.sigma == pytest.approx(found.cap)


def test_crossing_finds_the_zero_from_either_side_and_needs_few_evaluations() -> None:
    def drop(log_size: float) -> float:
        return 0.5 * math.erfc(math.exp(-log_size) / math.sqrt(2)) - TARGET_DROP

    for start in (-6.0, -1.0, 2.0):
        found = crossing(drop, start, first_step=1.0)
        assert found.converged
        assert abs(found.value) <= 0.01
        assert 0.7458484 < math.exp(found.at) < 0.8153095
        assert found.evaluations < 12
    assert crossing(lambda _: -1.0, 0.0, first_step=1.0) == Crossing(math.log(10.0), -1.0, 3, False)


def test_a_jump_over_zero_ends_unconverged() -> None:
    found = crossing(lambda at: 1.0 if at > 0.3 else -1.0, 0.0, first_step=1.0)
    assert not found.converged
    assert abs(found.at - 0.3) < 0.01


def test_searching_leaves_the_network_and_the_global_generator_alone() -> None:
    net = cnn()
    train = blobs(net, shape=(2, 8, 8))
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    sigma(net, clean_logits(net, train), train, generator(0, "search"))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(not module._forward_hooks for module in net.modules())


def test_noise_of_a_linear_output_layer_is_integrated_out() -> None:
    net, x = initialised(nn.Sequential(nn.Linear(6, 3))), torch.randn(40, 6, generator=generator(3, "x"))
    labels = torch.randint(3, (40,), generator=generator(4, "labels"))
    noisy, noise = NoisyNetwork(net, x[:1]), Noise(0.1, 0.7)
    assert noisy.output_layer is net[0]
    found, again = (noisy.correct(x, labels, noise, generator(seed, "none")) for seed in (0, 1))
    assert torch.equal(found, again)  # nothing else is drawn
    draws = generator(5, "many")
    hits = sum((noisy.logits(x, noise, draws).argmax(dim=1) == labels).double() for _ in range(2000)) / 2000
    error = (hits * (1 - hits) / 2000).sqrt() + 1e-3
    assert float(((found - hits) / error).abs().max()) < 4.5
    louder = noisy.correct(x, labels, Noise(0.1, 1.0), generator(0, "none"))
    assert float(((louder - hits) / error).abs().max()) > 4.5


def test_the_quadrature_is_close_to_a_fine_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = generator(6, "quadrature")
    logits, labels = 3 * torch.randn(500, 10, generator=draws).double(), torch.arange(500) % 10
    deviations = 0.5 + torch.rand(500, 10, generator=draws).double()
    found = weight_noise._probability(logits, deviations, labels)
    monkeypatch.setattr(weight_noise, "QUADRATURE_NODES", 150)
    fine = weight_noise._probability(logits, deviations, labels)
    assert float((found - fine).abs().max()) < 5e-3
    assert abs(float((found - fine).mean())) < 1e-4
    monkeypatch.setattr(weight_noise, "QUADRATURE_NODES", 1)
    assert float((weight_noise._probability(logits, deviations, labels) - fine).abs().max()) > 5e-2


class Scaled(nn.Module):
    """Its last linear layer's outputs are not the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.map(x)


def test_other_ends_of_a_network_are_drawn() -> None:
    net, x = initialised(Scaled()), torch.randn(40, 6, generator=generator(3, "x"))
    noisy, labels = NoisyNetwork(net, x[:1]), torch.zeros(40, dtype=torch.int64)
    assert noisy.output_layer is None
    assert NoisyNetwork(cnn(), torch.zeros(1, 2, 8, 8)).output_layer is not None
    hits = noisy.correct(x, labels, Noise(0.5), generator(0, "draw"))
    assert set(hits.tolist()) == {0.0, 1.0}
    assert torch.equal(hits, (noisy.logits(x, Noise(0.5), generator(0, "draw")).argmax(dim=1) == 0).float())
