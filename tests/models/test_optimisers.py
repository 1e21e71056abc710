"""The gated AdamW: against its formulas, one parameter and one step at a time."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec
from gapbench.models.optimisers import AdamW, GatedAdamW
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

DATA = DataSpec("digits", train_size=64)
SPEC = RunSpec(DATA, "mlp", 8, 1, 0.01, 16, optimiser="gated_adamw", weight_decay=0.02, max_epochs=5)
SIZE, STEPS = 12, 60


def gradients() -> torch.Tensor:
    """Some parameters have a signal above the noise, others have none; one gradient is always zero."""
    noise = torch.randn(STEPS, SIZE, dtype=torch.float64, generator=generator(0, "gated"))
    found = noise + torch.linspace(0, 6, SIZE, dtype=torch.float64)
    found[:, 0] = 0
    return found


def naive(spec: RunSpec, alpha: float) -> tuple[list[float], list[float]]:
    """The parameters after all steps, started at 1, and the mean gate of each step."""
    values, opened = [1.0] * SIZE, []
    m, v, r = [0.0] * SIZE, [0.0] * SIZE, [0.0] * SIZE
    for t, row in enumerate(gradients().tolist(), start=1):
        gates = []
        for i, g in enumerate(row):
            r[i] = 0.99 * r[i] + 0.01 * (g - m[i]) ** 2
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            mean, square, noise = m[i] / (1 - 0.9**t), v[i] / (1 - 0.999**t), r[i] / (1 - 0.99**t)
            if spec.gate == "hard":
                gate = 1.0 if mean**2 > alpha * noise * (1 + 1e-6) else 0.0
            elif spec.gate == "soft":
                excess = max(0.0, mean**2 - alpha * noise) if t > 1 or alpha < 1 else 0.0
                gate = excess / (excess + spec.gate_ridge * noise + 1e-12)
            else:
                gate = mean**2 / (mean**2 + spec.gate_ridge * noise + 1e-12)
            step = spec.learning_rate * gate * mean / (math.sqrt(square) + 1e-8)
            values[i] = values[i] * (1 - spec.learning_rate * spec.weight_decay) - step
            gates.append(gate)
        opened.append(sum(gates) / SIZE)
    return values, opened


def run(rule: AdamW, gradient: torch.Tensor) -> list[float]:
    opened = []
    for row in gradients():
        rule.before_backward()
        gradient.add_(row)
        rule.step()
        opened.append(getattr(rule, "gate_open", 1.0))
    return opened


@pytest.mark.parametrize(("noise", "alpha"), [("finite", 16 / 48), ("fresh", 1.0)])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
@pytest.mark.parametrize("gate", ["hard", "soft", "snr"])
def test_the_steps_are_those_of_the_formulas(gate: str, ridge: float, noise: str, alpha: float) -> None:
    spec = dataclasses.replace(SPEC, gate=gate, gate_ridge=ridge, gate_noise=noise)
    values, gradient = torch.ones(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    opened = run(GatedAdamW(values, gradient, spec), gradient)
    expected, expected_opened = naive(spec, alpha)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-13)
    assert opened == pytest.approx(expected_opened, rel=1e-9, abs=1e-13)
    plain, own = torch.ones(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    run(AdamW(plain, own, spec), own)
    open_everywhere = gate == "snr" and ridge == 0
    assert torch.allclose(plain, values, rtol=1e-6) == open_everywhere, "the positive control: a gate changes the steps"


def test_a_full_batch_has_no_noise_to_gate_by() -> None:
    full = dataclasses.replace(SPEC, batch_size=64)
    values = torch.ones(2)
    with pytest.raises(InputError, match="no noise for the gate"):
        GatedAdamW(values, values.clone(), full)
    for allowed in ({"gate": "snr"}, {"gate_noise": "fresh"}):
        GatedAdamW(values, values.clone(), dataclasses.replace(full, **allowed))
    for wrong in ({"gate": "softt"}, {"gate_noise": "finit"}):
        with pytest.raises(InputError, match="did you mean"):
            GatedAdamW(values, values.clone(), dataclasses.replace(SPEC, **wrong))


def test_training_logs_how_far_the_gate_was_open() -> None:
    history = train(SPEC, load(DATA))[0].history
    assert history is not None
    assert history.gate_open is not None
    assert history.gate_open.shape == history.steps.shape
    assert bool(((history.gate_open[1:] > 0) & (history.gate_open[1:] < 1)).all())
    other = train(dataclasses.replace(SPEC, optimiser="adamw"), load(DATA))[0].history
    assert other is not None
    assert other.gate_open is None
