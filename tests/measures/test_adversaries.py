from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures.adversaries import flipped
from gapbench.measures.augmentations import input_spread
from gapbench.measures.consistency import ADVERSARIAL_EXAMPLES, critical_sample_ratio


@pytest.fixture
def boundary() -> nn.Linear:
    """f = (x + 2z, 0): a point is within r (ℓ∞) of the boundary where |x + 2z| < 3r."""
    network = nn.Linear(2, 2, bias=False)
    network.weight.data = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    return network


def test_the_search_is_exact_for_a_linear_network(boundary: nn.Linear) -> None:
    inputs = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    distances = (inputs @ torch.tensor([1.0, 2.0])).abs() / 3
    for radius in (0.1, 0.3, 1.0):
        found = flipped(boundary, inputs, radius, radius, 1)
        assert torch.equal(found, distances < radius)
        assert 0 < int(found.sum()) < 300
    # A first step of 5/6 of the radius falls short of some; the next, cut off at the box, does not.
    once, twice = (flipped(boundary, inputs, 1.0, 5 / 6, steps) for steps in (1, 2))
    assert int(once.sum()) < int(twice.sum())
    assert torch.equal(twice, distances < 1.0)


def test_sure_predictions_have_gradients_too(boundary: nn.Linear) -> None:
    """With logits of 1e4 the softmax is 1 to rounding and its loss has no gradient; the margin has one."""
    inputs = torch.tensor([[1.0, 0.0]])
    boundary.weight.data *= 1e4
    at = inputs.clone().requires_grad_()
    loss = nn.functional.cross_entropy(boundary(at), torch.tensor([0]))
    assert float(torch.autograd.grad(loss, at)[0].abs().max()) == 0
    assert flipped(boundary, inputs, 0.4, 0.4, 1).tolist() == [True]
    assert flipped(boundary, inputs, 0.3, 0.3, 1).tolist() == [False]


def test_a_hit_is_a_hit_inside_the_box() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))
    inputs = torch.randn(50, 5)
    found = flipped(network, inputs, 0.2, 1 / 6, 3)
    assert 0 < int(found.sum()) < 50
    corners = torch.cartesian_prod(*[torch.linspace(-0.2, 0.2, 7)] * 5)
    for one in torch.nonzero(found).squeeze(1)[:5]:
        near = network(inputs[one] + corners).argmax(dim=1)
        assert bool((near != network(inputs[one : one + 1]).argmax()).any())


def test_the_ratio_is_of_the_first_examples_and_in_units_of_the_spread(boundary: nn.Linear) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = 10 * torch.randn(ADVERSARIAL_EXAMPLES + 50, 2, generator=rng)
    train = Split(inputs, torch.zeros(len(inputs), dtype=torch.int64), 2)
    distances = (inputs[:ADVERSARIAL_EXAMPLES] @ torch.tensor([1.0, 2.0])).abs() / 3
    expected = float((distances < 0.3 * input_spread(inputs)).double().mean())
    assert critical_sample_ratio(boundary, train, radius=0.3) == pytest.approx(expected)
    assert expected != pytest.approx(float((distances < 0.3).double().mean()))
