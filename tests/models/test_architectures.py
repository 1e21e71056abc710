"""The architectures: published parameter counts, equal layers of PyTorch, and what every network must do."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, layer_norm

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec
from gapbench.models.build import ARCHITECTURES, build
from gapbench.models.norms import channel_norm
from gapbench.models.resnet import _block
from gapbench.models.spec import RunSpec
from gapbench.models.tokens import Attention, Patches, patch_size

BASE = RunSpec(DataSpec("digits", 64), "mlp", width=8, depth=2, learning_rate=0.05, batch_size=16)
IMAGE, TOKENS = (3, 8, 8), (2, 12)
OWN_SIZES = {"linear": {"width": 1, "depth": 0}}
NORMS = {"linear": ("none",), **dict.fromkeys(("vit", "mixer", "transformer"), ("none", "layer"))}
NETWORKS = [(name, norm) for name in ARCHITECTURES for norm in NORMS.get(name, ("none", "batch", "layer"))]


def made(name: str, shape: tuple[int, ...], classes: int = 4, **fields: object) -> nn.Module:
    spec = dataclasses.replace(BASE, architecture=name, **{**OWN_SIZES.get(name, {}), **fields})  # type: ignore[arg-type]
    return build(spec, shape, classes, torch.Generator().manual_seed(0))


def inputs_of(name: str, count: int = 6) -> torch.Tensor:
    shape = TOKENS if name == "transformer" else IMAGE
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "width", "depth", "parameters"),
    [
        ("alexnet_small", 64, 2, 1_387_786),
        ("inception_small", 96, 3, 1_649_402),
        ("mlp", 512, 3, 1_735_178),
        ("mlp", 512, 1, 1_209_866),
    ],
)
def test_parameter_counts_are_those_of_zhang_2017(name: str, width: int, depth: int, parameters: int) -> None:
    network = made(name, (3, 28, 28), 10, width=width, depth=depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_resnet_20_has_the_published_size() -> None:
    # He et al. 2016, table 6: 0.27 M.
    network = made("resnet", (3, 32, 32), 10, width=16, depth=3, norm="batch")
    assert 0.27e6 < sum(parameter.numel() for parameter in network.parameters()) < 0.28e6
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules()) == 19


@pytest.mark.parametrize(("name", "norm"), NETWORKS)
def test_every_network(name: str, norm: str) -> None:
    """Shape; a start of order one; examples independent in evaluation; gradients everywhere; the loss falls."""
    network, inputs = made(name, inputs_of(name).shape[1:], norm=norm), inputs_of(name)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    network.eval()
    with torch.no_grad():
        outputs = network(inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs)
        torch.testing.assert_close(network(inputs[2:4]), outputs[2:4], rtol=1e-4, atol=1e-5)
    assert outputs.shape == (6, 4)
    assert 0.01 < float(outputs.std()) < 20
    network.train()
    losses = []
    for _ in range(60):
        loss = cross_entropy(network(inputs), labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.05)
        losses.append(float(loss.detach()))
    # A bias before a batch norm has no influence: its gradient is zero but for rounding.
    still = [float(gradient.abs().max()) == 0 for gradient in gradients]
    assert sum(still) <= (len(still) // 3 if norm == "batch" else 0)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("linear", "mlp", "transformer")])
def test_networks_on_images_refuse_vectors(name: str) -> None:
    with pytest.raises(InputError, match="needs images of shape"):
        made(name, (64,))


@pytest.mark.parametrize("name", ["vit", "mixer", "transformer"])
def test_networks_on_tokens_have_no_batch_norm(name: str) -> None:
    with pytest.raises(InputError, match="norm for"):
        made(name, inputs_of(name).shape[1:], norm="batch")


def test_what_does_not_fit_is_refused() -> None:
    for name, fields, words in (
        ("linear", {"width": 8}, "width = 1"),
        ("linear", {"norm": "batch"}, "no hidden units"),
        ("inception_small", {"depth": 4}, "at most 3"),
        ("vit", {"width": 40, "norm": "layer"}, None),
        ("vit", {"width": 41, "norm": "layer"}, "multiple of"),
        ("resnet", {"depth": 0}, "at least 1"),
    ):
        if words is None:
            made(name, IMAGE, **fields)
            continue
        with pytest.raises(InputError, match=words):
            made(name, IMAGE, **fields)
    with pytest.raises(InputError, match="tokens of shape"):
        made("transformer", IMAGE)


def test_attention_is_that_of_pytorch() -> None:
    ours, theirs = Attention(8, 2).double(), nn.MultiheadAttention(8, 2, batch_first=True).double()
    maps = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in maps]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in maps]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
        x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours(x), theirs(x, x, x)[0])
        # Control: attention without the other tokens is not the same.
        assert not torch.allclose(ours(x)[:, :1], ours(x[:, :1]))


def test_patches_are_a_strided_convolution() -> None:
    patches, x = Patches(3, 7, 4), inputs_of("vit").contiguous(memory_format=torch.channels_last)
    weight = patches.embed.weight.view(7, 3, 4, 4)
    expected = conv2d(x, weight, patches.embed.bias, stride=4).flatten(2).mT
    torch.testing.assert_close(patches(x), expected, rtol=1e-4, atol=1e-5)
    assert [patch_size((3, side, side)) for side in (32, 28, 8, 7)] == [4, 4, 2, 1]


def test_the_shortcut_of_a_residual_block_is_a_strided_convolution() -> None:
    block = _block(BASE, 8, 16, 2)
    x = torch.randn(2, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    (projection,) = (m for m in block.shortcut.modules() if isinstance(m, nn.Conv2d))
    torch.testing.assert_close(block.shortcut(x), conv2d(x, projection.weight, projection.bias, stride=2))


def test_layer_norm_of_images_is_over_channels_and_positions() -> None:
    (norm,) = channel_norm(dataclasses.replace(BASE, norm="layer"), 3)
    x = inputs_of("cnn")
    torch.testing.assert_close(norm(x), layer_norm(x, IMAGE), rtol=1e-4, atol=1e-5)


def test_initial_scales() -> None:
    """Weights are multiplied, and the output layer's once more; the draws are the same."""
    plain = made("mlp", IMAGE).state_dict()
    scaled = made("mlp", IMAGE, initial_scale=0.5, output_scale=0.25).state_dict()
    torch.testing.assert_close(scaled["linear1.weight"], 0.5 * plain["linear1.weight"])
    torch.testing.assert_close(scaled["linear2.weight"], 0.5 * plain["linear2.weight"])
    torch.testing.assert_close(scaled["output.weight"], 0.125 * plain["output.weight"])


def test_layers_without_an_activation_start_with_gain_one() -> None:
    network = made("vit", IMAGE, width=64, depth=1)
    state = dict(network.named_modules())
    (query,) = (module for name, module in state.items() if name.endswith("query"))
    (hidden,) = (m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == 256)
    assert float(query.weight.detach().std()) * 8 == pytest.approx(1.0, rel=0.05)
    assert float(hidden.weight.detach().std()) * 8 == pytest.approx(2**0.5, rel=0.05)


def test_a_network_is_the_same_for_a_seed_whatever_the_global_generator() -> None:
    for name in ARCHITECTURES:
        shape = inputs_of(name).shape[1:]
        before = torch.get_rng_state()
        first = made(name, shape).state_dict()
        assert torch.equal(before, torch.get_rng_state())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            second = made(name, shape).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first), name
