"""A network at other parameters against `torch.func.functional_call`, and the network afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gapbench.measures.functional import AtParameters, functional_logits


class Tied(nn.Module):
    """Two layers that share their weights, and one parameter of its own; it refuses empty samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.scale = nn.Linear(3, 3), nn.Linear(3, 3), nn.Parameter(torch.ones(3))
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        if not len(inputs):
            raise ValueError("an empty sample")
        found: Tensor = self.second(torch.tanh(self.first(inputs))) * self.scale
        return found


def test_the_logits_and_gradients_are_those_of_functional_call_also_of_shared_parameters() -> None:
    network = Tied().double()
    draws = torch.Generator().manual_seed(0)
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    flat = torch.randn(sum(map(torch.Size.numel, shapes.values())), dtype=torch.float64, generator=draws)
    inputs = torch.randn(5, 3, dtype=torch.float64, generator=draws)
    at = flat.requires_grad_()
    pieces = torch.split(at, [shape.numel() for shape in shapes.values()])
    state = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    expected = functional_call(network, state, inputs, tie_weights=True)
    found = functional_logits(network, at, inputs)
    assert torch.equal(found, expected)
    slope, known = (torch.autograd.grad(logits.square().sum(), at)[0] for logits in (found, expected))
    torch.testing.assert_close(slope, known, rtol=1e-14, atol=0)


def test_the_network_has_its_own_parameters_back_also_after_an_error() -> None:
    network = Tied()
    before = dict(network.named_parameters())
    at_parameters = AtParameters(network)
    flat = torch.zeros(sum(parameter.numel() for parameter in network.parameters()))
    assert not at_parameters(flat, torch.ones(2, 3)).any()
    with pytest.raises(ValueError, match="an empty sample"):
        at_parameters(flat, torch.ones(0, 3))
    assert all(after is before[name] for name, after in network.named_parameters())
    assert network.second.weight is network.first.weight
    assert network(torch.ones(2, 3)).any()
