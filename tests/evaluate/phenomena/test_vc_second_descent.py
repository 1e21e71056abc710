"""The least-norm fit of the output layer on nested random features."""

from __future__ import annotations

import torch

from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.phenomena.vc_second_descent import fit, output_layer, random_network

TRAIN = load(DataSpec("digits", 30))[0]


def test_the_output_layer_is_that_of_the_pseudoinverse() -> None:
    for features in (12, 60):
        network = random_network(TRAIN, features, torch.Generator().manual_seed(0))
        fit(network, TRAIN)
        hidden = network[:3](TRAIN.inputs).detach().double()
        target = torch.eye(10, dtype=torch.float64)[TRAIN.labels]
        expected = torch.linalg.pinv(hidden) @ target
        assert torch.allclose(output_layer(network).weight.double().T, expected, rtol=1e-3, atol=1e-4)


def test_features_are_nested_up_to_their_common_scale_and_of_length_1() -> None:
    few, many = (random_network(TRAIN, features, torch.Generator().manual_seed(0)) for features in (5, 20))
    first, second = few[1].weight.detach(), many[1].weight.detach()[:5]
    assert torch.allclose(first / first.norm(), second / second.norm(), atol=1e-6)
    lengths = many[:3](TRAIN.inputs).square().sum(dim=1)
    assert torch.isclose(lengths.mean(), torch.tensor(1.0))
