"""Attention by its four maps against PyTorch's own; parametrised weights; what has no standard form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gapbench.measures.layers import weight_layers
from gapbench.measures.registry import Undefined
from gapbench.measures.standard_form import Attention, ByFormula, standard_form

OPTIONS: list[dict[str, Any]] = [
    {"batch_first": True},
    {"batch_first": False},
    {"batch_first": True, "bias": False},
    {"batch_first": True, "kdim": 5, "vdim": 7},
]


def packed(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 3, **options).double().eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masked", ["not", "by place", "by head", "by key"])
def test_split_attention_is_packed_attention(options: dict[str, Any], masked: str) -> None:
    attention = packed(**options)
    split = Attention(attention)
    widths = (6, options.get("kdim", 6), options.get("vdim", 6))
    given = [
        torch.randn(2, tokens, width, dtype=torch.float64) for tokens, width in zip((4, 5, 5), widths, strict=True)
    ]
    if not options["batch_first"]:
        given = [tensor.transpose(0, 1) for tensor in given]
    hidden = torch.zeros(4, 5, dtype=torch.bool)
    hidden[0, 1:] = hidden[2, 0] = True
    masks: dict[str, dict[str, Tensor]] = {
        "not": {},
        "by place": {"attn_mask": hidden},
        "by head": {"attn_mask": torch.randn(6, 4, 5, dtype=torch.float64)},
        "by key": {"key_padding_mask": torch.tensor([[False, True, False, False, True], [True] * 2 + [False] * 3])},
    }
    for average in (True, False):
        found = split(*given, **masks[masked], average_attn_weights=average)
        expected = attention(*given, **masks[masked], average_attn_weights=average)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert split(*given, need_weights=False)[1] is None
    if masked == "by place":  # positive control: without its mask it is something else
        assert not torch.allclose(split(*given)[0], expected[0], atol=1e-3)


def test_unbatched_attention() -> None:
    attention, x = packed(), torch.randn(4, 6, dtype=torch.float64)
    for one, other in zip(Attention(attention)(x, x, x), attention(x, x, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_shows_its_six_maps(norm_first: bool) -> None:
    """In evaluation without gradients PyTorch takes a fused path, in which no module is called."""
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=norm_first).eval()
    x = torch.randn(3, 4, 6)
    before = copy.deepcopy(network.state_dict())
    form = standard_form(network, x[:1])
    with torch.no_grad():
        torch.testing.assert_close(form(x.double()).float(), network(x), rtol=1e-4, atol=1e-5)
    layers = weight_layers(form, form, x[:1])
    parts = [f"self_attn.{part}" for part in ("q", "k", "v", "out")]
    assert [layer.name for layer in layers] == [*parts, "linear1", "linear2"]
    assert [layer.positions for layer in layers] == [4] * 6
    packed_weight = network.self_attn.in_proj_weight.detach().double()
    assert torch.equal(torch.cat([layer.weight for layer in layers[:3]]), packed_weight)
    assert sum(p.numel() for p in form.parameters()) == sum(p.numel() for p in network.parameters())
    assert isinstance(network.self_attn, nn.MultiheadAttention)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.packed, self.head = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.packed(x).unsqueeze(1).chunk(3, dim=-1)
        logits: Tensor = self.head(scaled_dot_product_attention(q, k, v).mean(dim=(1, 2)))
        return logits


def test_fused_attention_has_second_derivatives_by_formula() -> None:
    torch.manual_seed(0)
    network, x = Fused().double(), torch.randn(3, 5, 4, dtype=torch.float64)
    form = standard_form(network, x[:1])
    assert isinstance(form, ByFormula)
    torch.testing.assert_close(form(x), network(x), rtol=1e-12, atol=1e-12)

    def second(net: nn.Module) -> Tensor:
        (weight, *_) = net.parameters()
        (slope,) = torch.autograd.grad(net(x).square().sum(), weight, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), weight)
        return curvature

    assert float(second(form).abs().max()) > 0
    with pytest.raises(RuntimeError, match="not implemented"):
        second(network)


def test_parametrised_weights_are_what_they_stand_for_and_the_network_keeps_its_own() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)).eval()
    x = torch.randn(5, 3)
    expected = network(x)
    for _ in range(2):
        form = standard_form(network, x[:1])
        torch.testing.assert_close(form(x.double()).float(), expected)
        assert type(form[0]) is nn.Linear
        torch.testing.assert_close(form[0].weight.float(), network[0].weight)
    torch.testing.assert_close(network(x), expected)
    assert "0.parametrizations.weight.original0" in network.state_dict()


def test_what_has_no_standard_form_is_undefined() -> None:
    with pytest.raises(Undefined, match="batch norm 1 keeps no running statistics"):
        standard_form(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)), torch.zeros(1, 3))
    hooked = nn.Sequential(nn.Linear(3, 3))
    weight = hooked[0].weight
    del hooked[0].weight
    hooked[0].register_parameter("raw", weight)
    hooked[0].weight = weight.detach()
    with pytest.raises(Undefined, match="the weight of layer 0 is not a parameter"):
        standard_form(hooked, torch.zeros(1, 3))
