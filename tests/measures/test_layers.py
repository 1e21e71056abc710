"""Folding of batch norm and the list of weight layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gapbench.measures.layers import fold_batch_norm, trace, weight_layers
from gapbench.measures.registry import Undefined


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def test_fold_by_hand() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0))
    for tensor, value in (
        (network[0].weight, 2.0), (network[0].bias, 1.0), (network[1].weight, 3.0), (network[1].bias, 0.5),
        (network[1].running_mean, 4.0), (network[1].running_var, 9.0),
    ):  # fmt: skip
        tensor.data.fill_(value)
    folded = fold_batch_norm(network, torch.ones(1, 1))
    assert float(folded[0].weight.detach()) == pytest.approx(2, rel=1e-9)
    assert float(folded[0].bias.detach()) == pytest.approx(-2.5, rel=1e-9)
    assert isinstance(folded[1], nn.Identity)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_without_scales_are_folded_too(affine: bool) -> None:
    network = randomised(
        nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=affine), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5),
            nn.BatchNorm1d(5, affine=affine), nn.ReLU(), nn.Linear(5, 2),
        )
    )  # fmt: skip
    inputs = torch.randn(6, 1, 4, 4)
    folded = fold_batch_norm(network, inputs[:1])
    assert torch.allclose(folded(inputs.double()), network.double()(inputs.double()), rtol=1e-10, atol=1e-10)


def test_folded_network_computes_the_same_function() -> None:
    network = randomised(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(5, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 6),
            nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3),
        )
    )  # fmt: skip
    inputs = torch.randn(7, 2, 8, 8)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network, inputs[:1])
    assert torch.allclose(folded(inputs.double()), network.double()(inputs.double()), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(tensor, state[name].to(tensor.dtype)) for name, tensor in network.state_dict().items())
    layers = weight_layers(folded, folded, inputs[:1])
    assert [layer.output_shape for layer in layers] == [(5, 8, 8), (4, 1, 1), (6,), (3,)]
    unfolded = weight_layers(*[nn.Sequential(network[0].double())] * 2, inputs[:1])
    assert not torch.allclose(layers[0].weight, unfolded[0].weight)  # positive control: folding moves the weights


def test_activations_in_place_do_not_overwrite_what_trace_keeps() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(inplace=True))
    network[0].weight.data.fill_(-1.0)
    (first, _) = trace(fold_batch_norm(network, torch.ones(1, 1)), torch.ones(1, 1).double())
    assert float(first.output.detach()) == -1.0


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.linear(inputs)
        out: Tensor = self.norm(hidden) + hidden
        return out


def test_another_reader_is_seen_even_where_it_changes_nothing() -> None:
    """With a shift of zero and a scale of one the outputs agree, on any example."""
    network = Residual().eval()
    nn.init.zeros_(network.linear.weight)
    nn.init.zeros_(network.linear.bias)
    with pytest.raises(Undefined, match="another module reads"):
        fold_batch_norm(network, torch.randn(1, 3))


def test_what_cannot_be_folded_is_undefined() -> None:
    with pytest.raises(Undefined, match="not the units of 0"):
        fold_batch_norm(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(4)), torch.randn(1, 4, 5))
    with pytest.raises(Undefined, match="another module reads"):
        fold_batch_norm(randomised(Residual()), torch.randn(1, 3))
    with pytest.raises(Undefined, match="no linear or convolutional layer"):
        fold_batch_norm(randomised(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3))), torch.randn(1, 3))


class Product(nn.Module):
    """A layer, and a matrix that is a parameter of its own, or the layer's weight once more."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.matrix = self.layer.weight if tied else nn.Parameter(torch.randn(3, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layer(inputs) @ self.matrix
        return out


def test_weight_matrices_outside_layers_are_undefined() -> None:
    image, vector = torch.randn(1, 3, 4, 4), torch.randn(1, 3)
    for network, example, reason in (
        (Product(tied=False), vector, "parameter matrix is a weight matrix outside"),
        (Product(tied=True), vector, "the weight of layer layer is used more than once"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 2)),
            image,
            "parameter 1.weight is a weight matrix",
        ),
        (nn.Sequential(nn.ReLU()), vector, "no linear or convolutional layer"),
    ):
        network.register_parameter("spare", nn.Parameter(torch.ones(1)))
        network.double()
        with pytest.raises(Undefined, match=reason):
            weight_layers(network, network, example)


def test_vectors_belong_to_no_layer() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.PReLU()).double()
    assert [layer.name for layer in weight_layers(network, network, torch.randn(1, 3))] == ["0", "2"]


def test_the_matrix_of_a_grouped_convolution_maps_patches_to_outputs() -> None:
    convolution = nn.Conv2d(4, 6, (3, 2), groups=2, bias=False).double()
    (layer,) = weight_layers(convolution, convolution, torch.randn(1, 4, 3, 2))
    patch = torch.randn(1, 4, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(layer.matrix @ patch.flatten(), convolution(patch).detach().flatten())
    assert layer.matrix.shape == layer.matrix_shape == (6, 24)
    assert int((layer.matrix != 0).sum()) == layer.weight.numel() == layer.num_params


def test_shapes_are_those_of_one_example_wherever_the_examples_stand() -> None:
    for network, shape in (
        (nn.Sequential(nn.Linear(4, 2)), (5, 4)),
        (nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2), nn.Unflatten(0, (-1, 5))), (5, 4)),
        (nn.Sequential(nn.Conv1d(4, 2, 3, padding=1)), (4, 5)),
    ):
        network.double()
        (layer,) = weight_layers(network, network, torch.randn(1, *shape))
        assert layer.units == 10
    assert layer.input_shape == (4, 1, 5)
    assert layer.weight.shape == (2, 4, 1, 3)
