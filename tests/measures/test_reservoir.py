"""The reservoir family: identities of the theory, true retraining in linear models, and what random labels change."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures import BUILT_IN
from gapbench.measures import held_out as held_out_module
from gapbench.measures import replay as replay_module
from gapbench.measures.held_out import HeldOut, check_residual, final_held_out, path_held_out, path_validity
from gapbench.measures.kernel_path import Point, kernel_path
from gapbench.measures.path_gradients import Rates, path_rates
from gapbench.measures.path_operators import Channel, final_channel, operators, path_channel
from gapbench.measures.read import read
from gapbench.measures.registry import Undefined
from gapbench.measures.reservoir import (
    channel_dimension,
    channel_energy,
    channel_rank,
    gcv_gap,
    integrated_self_influence,
    kernel_drift,
    kernel_rotation,
    noise_transfer,
    path_end_loo_gap,
    path_loo_error_gap,
    path_loo_gap,
    path_loo_soft_error_gap,
    population_risk_decrease,
    reservoir_mass,
    trajectory_gcv_gap,
)
from gapbench.models.losses import LOSSES
from gapbench.models.spec import RunSpec, twin
from gapbench.models.train import train
from gapbench.models.trained import Checkpoint, Trained, Trajectory

EXAMPLES, INPUTS, CLASSES = 20, 6, 3


def draw(*shape: int, name: str, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "reservoir", name))


def linear_sample(seed: int = 0, examples: int = EXAMPLES) -> Split:
    inputs = draw(examples, INPUTS, name="inputs", seed=seed).float()
    truth = inputs.double() @ draw(INPUTS, CLASSES, name="truth") + 2 * draw(examples, CLASSES, name="noise", seed=seed)
    return Split(inputs, truth.argmax(dim=1), CLASSES)


def descend(sample: Split, kept: Tensor, loss: str, steps: int = 60, step: float = 0.2) -> list[Tensor]:
    """The weights of a linear network along gradient descent on the kept examples, from zero."""
    weights, path = torch.zeros(CLASSES, INPUTS, dtype=torch.float64), []
    inputs, targets = sample.inputs.double()[kept], one_hot(sample.labels, CLASSES).double()[kept]
    for _ in range(steps + 1):
        path.append(weights)
        outputs = inputs @ weights.T
        slopes = outputs - targets if loss == "squared" else outputs.softmax(dim=1) - targets
        weights = weights - step * slopes.T @ inputs / len(inputs)
    return path


def linear_run(sample: Split, loss: str, steps: int = 60, step: float = 0.2) -> tuple[nn.Module, Trajectory]:
    path = descend(sample, torch.ones(len(sample)) == 1, loss, steps, step)
    kept = [0, 1, 2, 5, 10, 20, steps]
    points = tuple(Checkpoint(at, step * at, {"weight": path[at]}) for at in kept)
    network = nn.Linear(INPUTS, CLASSES, bias=False).double()
    network.load_state_dict(points[-1].state)
    return network, Trajectory({}, points, loss=loss)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "TOLERANCE", 0.0)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("folds", [5, EXAMPLES])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_in_a_linear_model_it_is_the_gap_of_true_retraining(loss: str, folds: int) -> None:
    """Brute force: the network is trained again without each fold; to 1e-9, with leave-one-out among the folds."""
    sample = linear_sample()
    network, trajectory = linear_run(sample, loss)
    points = kernel_path(network, trajectory, sample)
    found = path_held_out(points, trajectory, sample)
    inputs, expected = sample.inputs.double(), torch.zeros(EXAMPLES, CLASSES, dtype=torch.float64)
    for fold in range(folds):
        out = torch.arange(EXAMPLES) % folds == fold
        expected[out] = inputs[out] @ descend(sample, ~out, loss)[-1].T
    trained = inputs @ network.weight.detach().T
    losses = [LOSSES[loss].mean(outputs, sample.labels) for outputs in (expected, trained)]
    errors = [(outputs.argmax(dim=1) != sample.labels).double().mean() for outputs in (expected, trained)]
    gap = path_loo_gap(found, 0.0, trajectory, sample, folds=folds)
    assert gap.value == pytest.approx(float(losses[0] - losses[1]), abs=1e-9)
    assert path_loo_error_gap(found, 0.0, sample, folds=folds).value == pytest.approx(float(errors[0] - errors[1]))
    assert found(folds).residual < 1e-12
    assert gap.value > 0.05, "the positive control: leaving out matters"
    assert path_loo_gap(found, 0.0, trajectory, sample, folds=2).value != pytest.approx(gap.value, rel=0.01)
    if loss == "squared":
        with pytest.raises(Undefined, match="no logits"):
            path_loo_soft_error_gap(found, 0.0, trajectory, sample)
    else:
        own = torch.arange(EXAMPLES), sample.labels
        shares = [outputs.softmax(dim=1)[own].mean() for outputs in (expected, trained)]
        soft = path_loo_soft_error_gap(found, 0.0, trajectory, sample, folds=folds)
        assert soft.value == pytest.approx(float(shares[1] - shares[0]), abs=1e-9)
    if folds == 5:
        frozen = path_end_loo_gap(final_held_out(points, trajectory, sample), trajectory, sample).value
        single = path_loo_gap(found, 0.0, trajectory, sample).value
        assert frozen == pytest.approx(single, abs=1e-9), "the kernel of a linear model never moves"


def test_products_in_single_precision_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = run(dataclasses.replace(SPEC, loss="cross_entropy"))
    assert trained.trajectory is not None
    points = kernel_path(trained.network, trained.trajectory, trained.train)
    double = path_held_out(points, trained.trajectory, trained.train)(5)
    monkeypatch.setattr(held_out_module, "DOUBLE_OUTPUTS", 0)
    single = path_held_out(points, trained.trajectory, trained.train)(5)
    change = (double.held_out - double.trained).norm()
    assert 0 < float((single.held_out - double.held_out).norm()) < 1e-4 * float(change)


def test_the_standard_errors_are_those_of_means() -> None:
    sample = linear_sample()
    trained = 3 * one_hot(sample.labels, CLASSES).double()
    wrong = trained.clone()
    wrong[:5] = wrong[:5].roll(1, dims=1)
    found = path_loo_error_gap(lambda count: HeldOut(trained, wrong, 0.0), 0.0, sample)
    assert found.value == pytest.approx(0.25)
    share = torch.tensor([1.0] * 5 + [0.0] * 15)
    assert found.standard_error == pytest.approx(float(share.std()) / math.sqrt(EXAMPLES))


def test_a_path_that_its_kernels_do_not_explain_is_undefined() -> None:
    for loss, limit in (("squared", 0.1), ("cross_entropy", 0.3)):
        check_residual(limit, loss)
        with pytest.raises(Undefined, match=r"residual of its replay is 0\.31, above"):
            check_residual(0.31, loss)
    with pytest.raises(Undefined):
        check_residual(math.nan, "squared")
    sample = linear_sample()
    network, trajectory = linear_run(sample, "squared")
    points = list(kernel_path(network, trajectory, sample))
    points[1:] = [dataclasses.replace(point, kernel=0.05 * point.kernel) for point in points[1:]]
    found = path_held_out(tuple(points), trajectory, sample)
    with pytest.raises(Undefined, match="do not explain the path"):
        path_validity(found, trajectory)


def test_linear_regression_estimates_the_true_gap_over_fresh_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity 9: in the mean over draws of the sample, within the Monte Carlo error."""
    monkeypatch.setattr(replay_module, "TOLERANCE", 0.0)
    test = linear_sample(seed=10**6, examples=4000)
    differences, gaps = [], []
    for seed in range(40):
        sample = linear_sample(seed=seed)
        network, trajectory = linear_run(sample, "squared")
        with torch.no_grad():
            risks = [
                float(LOSSES["squared"].mean(network(part.inputs.double()), part.labels)) for part in (test, sample)
            ]
        found = path_held_out(kernel_path(network, trajectory, sample), trajectory, sample)
        gaps.append(risks[0] - risks[1])
        differences.append(path_loo_gap(found, 0.0, trajectory, sample, folds=EXAMPLES).value - gaps[-1])
    mean = torch.tensor(differences, dtype=torch.float64)
    gap = sum(gaps) / len(gaps)
    error = float(mean.std()) / math.sqrt(len(mean))
    assert abs(float(mean.mean())) < 3 * error + 0.05 * gap  # a sample of 19 is not one of 20: about 1/n
    assert error < 0.2 * gap, "the positive control: the test has the power to see a fifth of the gap"


def frozen_path(kernel: Tensor, time: float) -> tuple[Point, ...]:
    nothing = torch.zeros(len(kernel), 1, dtype=torch.float64)
    return tuple(Point(i, time * i, nothing, kernel, nothing, nothing) for i in range(2))


def test_degrees_of_freedom_are_what_label_noise_costs() -> None:
    """Identity 8: E[in-sample gap] = σ²/n tr(I − P), frozen kernel and fixed design, by Monte Carlo."""
    features = draw(EXAMPLES, 8, name="features")
    kernel, time, noise = features @ features.T, 1.5, 0.7
    points = frozen_path(kernel, time)
    found = path_channel(points, 0.0, Trajectory({}, loss="squared"))
    decay = torch.matrix_exp(-kernel * time / EXAMPLES)
    torch.testing.assert_close(found.propagator, decay, rtol=0, atol=1e-12)
    signal = draw(EXAMPLES, 1, name="signal")
    labels = signal + noise * draw(EXAMPLES, 100_000, name="labels")
    fitted = labels - decay @ labels
    again = signal + noise * draw(EXAMPLES, 100_000, name="labels again")
    gaps = ((again - fitted).square() - (labels - fitted).square()).sum(dim=0) / (2 * EXAMPLES)
    expected = noise**2 / EXAMPLES * channel_dimension(found)
    error = float(gaps.std()) / math.sqrt(gaps.numel())
    assert abs(float(gaps.mean()) - expected) < 4 * error
    assert abs(float(gaps.mean()) - noise**2 / EXAMPLES * channel_energy(found)) > 4 * error, "the positive control"


def test_counts_of_a_channel_by_hand() -> None:
    found = Channel(torch.diag(torch.tensor([1.0, 0.8, 0.5, 0.0], dtype=torch.float64)), 4)
    assert channel_dimension(found) == pytest.approx(1.7)
    assert channel_energy(found) == pytest.approx(0.36 + 0.75 + 1)
    assert (channel_rank(found), channel_rank(found, share=0.3)) == (2, 3)
    assert gcv_gap(0.1, found) == pytest.approx(0.1 * ((1 - 1.7 / 4) ** -2 - 1))
    with pytest.raises(Undefined, match="all 4 directions"):
        gcv_gap(0.1, Channel(torch.zeros(4, 4), 4))


SPEC = RunSpec(
    DataSpec("gaussian_mixture", train_size=16, dimension=6, classes=CLASSES, test_size=50),
    "mlp", 8, 1, 0.05, 16, momentum=0.0, activation="tanh", max_epochs=60, stop_loss_nats=1e-3, loss="squared",
)  # fmt: skip


def run(spec: RunSpec) -> Trained:
    return train(spec, load(spec.data), checkpoints=True)[0]


def per_example_gradients(trained: Trained, checkpoint: Checkpoint, loss: str) -> Tensor:
    network = trained.network.double()
    network.load_state_dict(checkpoint.state)
    rows = []
    for example, label in zip(trained.train.inputs.double(), trained.train.labels, strict=True):
        value = LOSSES[loss].mean(network(example[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(network.parameters()))]))
    return torch.stack(rows)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_rates_are_those_of_per_example_gradients(loss: str) -> None:
    """Identity 7: the U-statistic is the mean over ordered pairs; the kernel form of Γ's rate is the gradient form."""
    trained = run(dataclasses.replace(SPEC, loss=loss))
    assert trained.trajectory is not None
    rates = path_rates(
        kernel_path(trained.network, trained.trajectory, trained.train), trained.trajectory, trained.train
    )
    count = len(trained.train)
    for at, checkpoint in enumerate(trained.trajectory.checkpoints):
        gradients = per_example_gradients(trained, checkpoint, loss)
        products = gradients @ gradients.T
        pairs = float((products.sum() - products.trace()) / (count * (count - 1)))
        covariance = torch.cov(gradients.T)
        assert float(rates.population_descent[at]) == pytest.approx(pairs, rel=1e-9)
        assert float(rates.variance[at]) == pytest.approx(float(covariance.trace()), rel=1e-9)
        biased = float(torch.cov(gradients.T, correction=0).trace())
        assert biased / (count - 1) == pytest.approx(float(covariance.trace()) / count, rel=1e-12)
        assert float(rates.joint[at]) - biased / (count - 1) == pytest.approx(pairs, rel=1e-9)
        assert pairs != pytest.approx(float(gradients.mean(dim=0).square().sum()), rel=1e-3), "the positive control"


def test_integrals_of_rates_by_hand() -> None:
    one = torch.ones(3, dtype=torch.float64)
    rates = Rates(torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64), 5 * one, 2 * one, 4)
    sample = Split(torch.zeros(8, 1), torch.zeros(8, dtype=torch.int64), 2)
    assert integrated_self_influence(rates, 0.0, sample) == pytest.approx(3 * (5 - 2) * 4 / 3 / 8)
    assert population_risk_decrease(rates, 0.0) == pytest.approx(3 * (4 * 2 - 5) / 3)


def test_the_shares_of_fitted_and_left_energy_are_those_of_the_loss() -> None:
    """Squared loss on all examples: reservoir mass is Φ(T)/Φ(0), and the kernels explain the path."""
    trained = run(SPEC)
    assert trained.trajectory is not None
    points = kernel_path(trained.network, trained.trajectory, trained.train)
    assert path_validity(path_held_out(points, trained.trajectory, trained.train), trained.trajectory) < 0.01
    found = path_channel(points, 0.0, trained.trajectory)
    labels = trained.train.labels
    first, last = (float(LOSSES["squared"].mean(points[at].outputs, labels)) for at in (0, -1))
    assert reservoir_mass(found, points, trained.trajectory, trained.train) == pytest.approx(last / first, rel=0.05)
    assert trajectory_gcv_gap(found, points, trained.trajectory, trained.train) == pytest.approx(gcv_gap(last, found))
    frozen = final_channel(points, trained.trajectory)
    decay = torch.matrix_exp(-points[-1].kernel * points[-1].time / len(labels))
    torch.testing.assert_close(frozen.propagator, decay, rtol=0, atol=1e-10)
    assert not torch.allclose(frozen.propagator, found.propagator, atol=1e-2)


def test_noise_transfer_is_the_variance_of_predictions() -> None:
    """Squared loss, frozen kernel: Monte Carlo over label noise on one half, variance on the other."""
    features = draw(EXAMPLES, 8, name="features")
    kernel, time, half = features @ features.T, 3.0, EXAMPLES // 2
    points = frozen_path(kernel, time)
    found = noise_transfer(points, 0.0, Trajectory({}, loss="squared"))
    own, cross = kernel[:half, :half], kernel[half:, :half]
    labels, steps = draw(half, 20_000, name="noise"), 3000
    outputs, probes = torch.zeros_like(labels), torch.zeros_like(labels)
    for _ in range(steps):
        slopes = time / steps * (outputs - labels) / half
        outputs, probes = outputs - own @ slopes, probes - cross @ slopes
    assert found == pytest.approx(float(probes.square().mean()), rel=0.03)
    assert operators(points, "squared", half, half).probes is not None


def test_kernel_drift_and_rotation_by_hand() -> None:
    first, turned = torch.diag(torch.tensor([3.0, 4.0])).double(), torch.diag(torch.tensor([6.0, 8.0])).double()
    assert kernel_drift(turned, first) == pytest.approx(1)
    assert kernel_rotation(turned, first) == pytest.approx(0)
    assert kernel_rotation(first.flip(0).flip(1), first) == pytest.approx(1 - 24 / 25)
    with pytest.raises(Undefined, match="zero"):
        kernel_drift(first, 0 * first)


def test_random_labels_change_nothing_of_the_first_kernel_but_all_that_sees_labels() -> None:
    """Identity 11."""
    own, other = run(SPEC), run(twin(SPEC))
    assert not torch.equal(own.train.labels, other.train.labels)
    first = [kernel_path(t.network, t.trajectory, t.train)[0] for t in (own, other) if t.trajectory is not None]
    assert torch.equal(first[0].kernel, first[1].kernel)
    torch.testing.assert_close(first[0].outputs, first[1].outputs, rtol=0, atol=1e-12)
    names = ["path_loo_gap", "integrated_self_influence", "label_slow_mass", "tangent_alignment", "kernel_drift"]
    entries = [BUILT_IN.measures[name] for name in names]
    for before, after in zip(read(entries, BUILT_IN, own), read(entries, BUILT_IN, other), strict=True):
        assert before.value is not None, before.reason
        assert before.value != pytest.approx(after.value, rel=1e-3), before.measure


@pytest.mark.parametrize(
    ("optimiser", "rate", "batch", "decay", "loss"),
    [
        ("adamw", 1e-3, 48, 0.1, "squared"),
        ("adam", 1e-3, 48, 0.01, "cross_entropy"),
        ("rmsprop", 3e-4, 48, 0.0, "squared"),
        ("adamw", 1e-3, 12, 0.0, "cross_entropy"),
    ],
)
def test_the_path_of_adaptive_steps_is_explained_by_its_preconditioned_kernels(
    optimiser: str, rate: float, batch: int, decay: float, loss: str
) -> None:
    """Full batch and mini-batches; along plain kernels, in the same time, it is not."""
    data = DataSpec("digits", train_size=48)
    spec = RunSpec(data, "mlp", 24, 1, rate, batch, momentum=0.0, optimiser=optimiser, weight_decay=decay)
    trained = run(dataclasses.replace(spec, loss=loss, max_epochs=150, stop_loss_nats=0.02))
    trajectory = trained.trajectory
    assert trajectory is not None
    points = kernel_path(trained.network, trajectory, trained.train)
    residual = path_held_out(points, trajectory, trained.train)(8).residual
    assert residual < 0.1
    plain = tuple(dataclasses.replace(p, preconditioner=None) for p in trajectory.checkpoints)
    unscaled = dataclasses.replace(trajectory, checkpoints=plain, preconditioned=False)
    points = kernel_path(trained.network, unscaled, trained.train)
    assert path_held_out(points, unscaled, trained.train)(8).residual > 2 * residual, "the positive control"
