from __future__ import annotations

import pytest
import torch

from gapbench.datasets.corrupt import noisy_labels
from gapbench.datasets.errors import InputError
from gapbench.datasets.law import noisy_law_errors, noisy_law_losses

CLASSES = 7


@pytest.fixture
def classifier() -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and true labels of a classifier that is right on more than chance."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (500,), generator=rng)
    logits = torch.randn(500, CLASSES, generator=rng, dtype=torch.float64)
    logits[torch.arange(500), labels] += 2
    return logits.log_softmax(dim=1), labels


def monte_carlo(values_of: torch.Tensor, labels: torch.Tensor, p: float) -> tuple[float, float]:
    """Mean over noisy draws of the mean of values_of[i, noisy label of i], and its standard error."""
    rng = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [values_of.gather(1, noisy_labels(labels, p, CLASSES, rng)[:, None]).mean() for _ in range(400)]
    )
    return draws.mean().item(), draws.std().item() / 20


@pytest.mark.parametrize("p", [0.1, 0.4, 1.0])
def test_error_law_is_the_mean_of_noisy_draws(classifier: tuple[torch.Tensor, torch.Tensor], p: float) -> None:
    log_probabilities, labels = classifier
    predictions = log_probabilities.argmax(dim=1)
    mean, standard_error = monte_carlo((predictions[:, None] != torch.arange(CLASSES)).double(), labels, p)
    law = noisy_law_errors(predictions == labels, p, CLASSES).mean().item()
    assert abs(law - mean) < 4 * standard_error
    # Positive control: the law of noise over the *other* classes is told apart.
    right = predictions == labels
    other = torch.where(right, p, 1 - p / (CLASSES - 1)).double().mean().item()
    assert abs(other - mean) > 4 * standard_error


@pytest.mark.parametrize("p", [0.1, 0.4, 1.0])
def test_loss_law_is_the_mean_of_noisy_draws(classifier: tuple[torch.Tensor, torch.Tensor], p: float) -> None:
    log_probabilities, labels = classifier
    mean, standard_error = monte_carlo(-log_probabilities, labels, p)
    law = noisy_law_losses(-log_probabilities, labels, p).mean().item()
    assert abs(law - mean) < 4 * standard_error
    clean = noisy_law_losses(-log_probabilities, labels, 0.0).mean().item()
    assert abs(clean - mean) > 4 * standard_error


def test_closed_forms() -> None:
    right = torch.tensor([True, False])
    assert noisy_law_errors(right, 0.0, 10).tolist() == [0.0, 1.0]
    assert noisy_law_errors(right, 0.5, 10).tolist() == pytest.approx([0.45, 0.95])
    assert noisy_law_errors(right, 1.0, 10).tolist() == pytest.approx([0.9, 0.9])
    losses = noisy_law_losses(-torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([0]), 0.3)
    log2 = torch.tensor(2.0, dtype=torch.float64).log()
    assert losses.item() == pytest.approx((0.7 * log2 + 0.3 * (5 / 3) * log2).item(), rel=1e-7)


def test_at_no_noise_the_law_is_the_ordinary_error_and_loss(classifier: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probabilities, labels = classifier
    losses = torch.nn.functional.nll_loss(log_probabilities, labels, reduction="none")
    assert torch.equal(noisy_law_losses(-log_probabilities, labels, 0.0), losses)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_what_is_not_a_probability_is_refused(p: float) -> None:
    with pytest.raises(InputError, match="not a probability"):
        noisy_law_errors(torch.tensor([True]), p, 10)
    with pytest.raises(InputError, match="not a probability"):
        noisy_law_losses(torch.zeros(1, 2), torch.tensor([0]), p)
