"""Training replayed without some of its examples: against true retraining, where the kernel does not move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gapbench.datasets.seeds import generator
from gapbench.measures import replay as module
from gapbench.measures.replay import (
    Leg,
    OutputGradient,
    cross_entropy_gradient,
    folds,
    held_out,
    squared_loss_gradient,
)
from gapbench.measures.replay import replay as replay_with_residual

EXAMPLES, INPUTS, CLASSES, STEPS = 24, 7, 3, 300

Case = tuple[str, OutputGradient]


def draw(*shape: int, name: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "replay", name))


SAMPLE = draw(EXAMPLES, INPUTS, name="inputs")
LABELS = draw(EXAMPLES, CLASSES, name="labels").argmax(dim=1)
TARGETS = one_hot(LABELS, CLASSES).double()
START = 0.3 * draw(CLASSES, INPUTS, name="weights")
KERNEL = torch.kron(SAMPLE @ SAMPLE.T, torch.eye(CLASSES, dtype=torch.float64))
STEP = 0.5 * EXAMPLES / float(torch.linalg.eigvalsh(KERNEL)[-1])


def retrained(loss: str, kept: Tensor, steps: int = STEPS, momentum: float = 0.0) -> Tensor:
    """The weights of linear classification after gradient descent on the kept examples alone."""
    weights, velocity = START.clone(), torch.zeros_like(START)
    for _ in range(steps):
        outputs = SAMPLE[kept] @ weights.T
        residuals = outputs - TARGETS[kept] if loss == "squared" else outputs.softmax(dim=1) - TARGETS[kept]
        velocity = momentum * velocity + residuals.T @ SAMPLE[kept] / int(kept.sum())
        weights = weights - STEP * (1 - momentum) * velocity
    return weights


def replay(*arguments: Any, **options: Any) -> Tensor:
    return replay_with_residual(*arguments, **options)[0]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step by itself, unless a test says otherwise."""
    monkeypatch.setattr(module, "TOLERANCE", 0.0)


@pytest.fixture(params=["squared", "cross-entropy"])
def case(request: pytest.FixtureRequest) -> Case:
    squared = request.param == "squared"
    gradient = squared_loss_gradient(TARGETS) if squared else cross_entropy_gradient(LABELS, CLASSES)
    return request.param, gradient


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("count", [EXAMPLES, 5])
def test_it_equals_retraining_without_the_examples_in_a_linear_model(case: Case, count: int, momentum: float) -> None:
    """Brute force: every fold, a single example or several, is really left out and the model trained again."""
    loss, gradient = case
    left_out, legs = folds(EXAMPLES, count), [Leg(KERNEL, STEP * STEPS / 2, STEPS // 2)] * 2
    found = held_out(replay(legs, SAMPLE @ START.T, gradient, left_out, momentum=momentum), left_out)
    expected = torch.zeros_like(found)
    for fold in left_out.T:
        expected[fold == 1] = SAMPLE[fold == 1] @ retrained(loss, fold == 0, momentum=momentum).T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    trained = SAMPLE @ retrained(loss, torch.ones(EXAMPLES) == 1).T
    assert float((found - trained).abs().max()) > 0.01, "the positive control: leaving out changes the outputs"


def test_a_column_that_leaves_nothing_out_is_training(case: Case) -> None:
    loss, gradient = case
    nothing = torch.zeros(EXAMPLES, 1, dtype=torch.float64)
    found = replay([Leg(KERNEL, STEP * STEPS, STEPS)], SAMPLE @ START.T, gradient, nothing)[..., 0]
    torch.testing.assert_close(found, SAMPLE @ retrained(loss, torch.ones(EXAMPLES) == 1).T, rtol=0, atol=1e-12)


def test_legs_compose(case: Case) -> None:
    _, gradient = case
    left_out, start = folds(EXAMPLES, 4), SAMPLE @ START.T
    whole = replay([Leg(KERNEL, STEP * 30, 30)], start, gradient, left_out)
    parts = replay([Leg(KERNEL, STEP * 10, 10), Leg(KERNEL, STEP * 20, 20)], start, gradient, left_out)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_many_small_steps_are_taken_together(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of descent in ever smaller steps, the flow, to the second order; and with far fewer products."""
    _, gradient = case
    calls = []

    def counted(outputs: Tensor) -> Tensor:
        calls.append(1)
        return gradient(outputs)

    monkeypatch.setattr(module, "TOLERANCE", 0.01)
    left_out, start = folds(EXAMPLES, 4), SAMPLE @ START.T
    leg = Leg(KERNEL, STEP * 6, 20000)
    found = replay([leg], start, counted, left_out)
    taken = len(calls)
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    exact = replay([leg], start, counted, left_out)
    assert taken < (len(calls) - taken) / 20
    assert float((found - exact).abs().max()) < 5e-3 * float((exact - start.unsqueeze(2)).abs().max())


def test_the_rest_of_the_sample_and_weight_decay_drift_the_outputs() -> None:
    """On half the examples, with the other half's descent as drift along the true path: training itself, exactly."""
    half, decay = EXAMPLES // 2, 0.01
    gradient = squared_loss_gradient(TARGETS[:half])
    weights, legs = START.clone(), []
    for _ in range(20):
        residuals = SAMPLE @ weights.T - TARGETS
        others = -SAMPLE[:half] @ (residuals[half:].T @ SAMPLE[half:] / EXAMPLES).T
        kernel = KERNEL[: half * CLASSES, : half * CLASSES]
        legs.append(Leg(kernel, STEP, 1, others, -decay * SAMPLE[:half] @ weights.T))
        weights = weights - STEP * (residuals.T @ SAMPLE / EXAMPLES + decay * weights)
    left_out = torch.zeros(half, 2, dtype=torch.float64)
    left_out[0, 1] = 1
    found = replay(legs, SAMPLE[:half] @ START.T, gradient, left_out, sample=EXAMPLES)
    torch.testing.assert_close(found[..., 0], SAMPLE[:half] @ weights.T, rtol=0, atol=1e-12)
    assert float((found[..., 1] - found[..., 0]).abs().max()) > 1e-3
    without = replay([Leg(leg.kernel, leg.time, 1) for leg in legs], SAMPLE[:half] @ START.T, gradient, left_out)
    assert float((without - found).abs().max()) > 1e-3, "the positive control: the drift matters"


def test_folds_leave_every_example_out_once() -> None:
    for count in (1, 5, EXAMPLES, 3 * EXAMPLES):
        left_out = folds(EXAMPLES, count)
        assert left_out.shape == (EXAMPLES, min(count, EXAMPLES))
        assert bool((left_out.sum(dim=1) == 1).all())
        assert float(left_out.sum(dim=0).max() - left_out.sum(dim=0).min()) <= 1


def test_the_replay_is_put_back_on_the_path_at_the_end_of_each_leg(case: Case) -> None:
    """With kernels that are somewhat wrong: one column ends where training did, the others keep their distance."""
    _, gradient = case
    nothing = torch.zeros(EXAMPLES, 2, dtype=torch.float64)
    left_out = torch.cat([folds(EXAMPLES, 4), nothing], dim=1)
    kept = torch.ones(EXAMPLES) == 1
    ends = [SAMPLE @ retrained(case[0], kept, steps).T for steps in (10, 30)]
    start = SAMPLE @ START.T
    right = [Leg(KERNEL, STEP * steps, steps, end=end) for steps, end in zip((10, 20), ends, strict=True)]
    outputs, residual = replay_with_residual(right, start, gradient, left_out)
    assert residual < 1e-12
    torch.testing.assert_close(outputs, replay([Leg(KERNEL, STEP * 30, 30)], start, gradient, left_out))
    wrong = [Leg(0.8 * leg.kernel, leg.time, leg.steps, end=leg.end) for leg in right]
    outputs, residual = replay_with_residual(wrong, start, gradient, left_out)
    torch.testing.assert_close(outputs[..., -2], ends[-1], rtol=0, atol=1e-12)
    free = replay([Leg(0.8 * KERNEL, STEP * 30, 30)], start, gradient, left_out)[..., -1]
    torch.testing.assert_close(outputs[..., -1], free, rtol=0, atol=1e-12)
    assert residual == pytest.approx(float((free - ends[-1]).norm() / (ends[-1] - start).norm()))
    assert residual > 0.01
    first = replay([Leg(0.8 * KERNEL, STEP * 10, 10)], start, gradient, left_out)
    put_back = replay([wrong[0]], start, gradient, left_out)
    kept_distance, distance = (found[..., :4] - found[..., 4:5] for found in (put_back, first))
    torch.testing.assert_close(kept_distance, distance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [EXAMPLES, 5])
def test_adam_with_its_preconditioner_held_equals_retraining_without_the_examples(case: Case, count: int) -> None:
    """Brute force: a linear model descends by Adam's bias-corrected mean times a fixed M, with each fold left out."""
    loss, gradient = case
    metric, beta, steps, rate = 0.2 + 3 * draw(CLASSES, INPUTS, name="metric").square(), 0.9, 40, 0.1 * STEP

    def retrained_by_adam(kept: Tensor) -> Tensor:
        weights, mean = START.clone(), torch.zeros_like(START)
        for step in range(1, steps + 1):
            outputs = SAMPLE[kept] @ weights.T
            residuals = outputs - TARGETS[kept] if loss == "squared" else outputs.softmax(dim=1) - TARGETS[kept]
            mean = beta * mean + (1 - beta) * residuals.T @ SAMPLE[kept] / int(kept.sum())
            weights = weights - rate * metric * mean / (1 - beta**step)
        return weights

    kernel = torch.einsum("ik,ck,jk,cd->icjd", SAMPLE, metric, SAMPLE, torch.eye(CLASSES, dtype=torch.float64))
    kernel = kernel.reshape(EXAMPLES * CLASSES, EXAMPLES * CLASSES)
    left_out, legs = folds(EXAMPLES, count), [Leg(kernel, rate * 15, 15), Leg(kernel, rate * 25, 25)]
    options: dict[str, Any] = {"momentum": beta, "corrected": True}
    found = held_out(replay(legs, SAMPLE @ START.T, gradient, left_out, **options), left_out)
    expected = torch.zeros_like(found)
    for fold in left_out.T:
        expected[fold == 1] = SAMPLE[fold == 1] @ retrained_by_adam(fold == 0).T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    plain = held_out(replay(legs, SAMPLE @ START.T, gradient, left_out, momentum=beta), left_out)
    assert float((plain - found).abs().max()) > 1e-3, "the positive control: the correction matters"
