from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from gapbench.datasets.spec import Split
from gapbench.measures.consistency import geometric_complexity, input_gradient_norm
from gapbench.measures.input_jacobians import JACOBIAN_EXAMPLES, input_jacobian_grams


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4))


def test_norms_against_jacobians_by_torch_func(network: nn.Sequential) -> None:
    train = Split(3 * torch.randn(JACOBIAN_EXAMPLES + 7, 2, 4, 4), torch.zeros(JACOBIAN_EXAMPLES + 7).long(), 4)
    used = train.inputs[:JACOBIAN_EXAMPLES]

    def logits(example: Tensor) -> Tensor:
        outputs: Tensor = network(example[None])
        return outputs[0]

    def probabilities(example: Tensor) -> Tensor:
        return logits(example).softmax(dim=0)

    with torch.no_grad():
        of_logits, of_probabilities = (vmap(jacrev(f))(used).flatten(2) for f in (logits, probabilities))
    grams = input_jacobian_grams(network, train)
    torch.testing.assert_close(grams, (of_logits @ of_logits.mT).double(), rtol=1e-4, atol=1e-5)
    outputs = network(train.inputs).detach().double()
    squares = of_logits.square().sum(dim=(1, 2))
    assert geometric_complexity(grams) == pytest.approx(float(squares.mean()), rel=1e-5)
    expected = float(of_probabilities.norm(dim=(1, 2)).mean())
    assert input_gradient_norm(grams, outputs) == pytest.approx(expected, rel=1e-5)
    # The mean of the squares is not the square of the mean, and the logits' norm is not the probabilities'.
    assert expected < 0.9 * float(of_logits.norm(dim=(1, 2)).mean())
    assert float(squares.sqrt().mean()) ** 2 < 0.99 * geometric_complexity(grams)


def test_a_linear_network_by_hand() -> None:
    """f = (3x + 4z, 0): Σ‖∂f‖² = 25; at x = z = 0, p = (½, ½), ∂p = ±(3, 4)/4, norm 5√2/4."""
    network = nn.Linear(2, 2, bias=False)
    network.weight.data = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    train = Split(torch.zeros(2, 2), torch.tensor([0, 1]), 2)
    grams = input_jacobian_grams(network, train)
    assert geometric_complexity(grams) == pytest.approx(25, rel=1e-12)
    assert input_gradient_norm(grams, torch.zeros(2, 2, dtype=torch.float64)) == pytest.approx(5 * 2**0.5 / 4)
