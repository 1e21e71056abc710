"""The form in which networks are measured: float64, evaluation mode, attention by its four maps; mathematics only."""

from __future__ import annotations

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv2d
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from gapbench.measures.graph import operations
from gapbench.measures.registry import Undefined


def standard_form(network: nn.Module, example: Float[Tensor, " 1 *shape"]) -> nn.Module:
    """A float64 copy in evaluation mode that computes the same function.

    No activation module works in place; parametrised weights (weight norm) are what they stand for;
    `nn.MultiheadAttention` is an `Attention`, so that its maps are linear layers, and no layer is bypassed by the fused
    path that encoder layers take in evaluation; `scaled_dot_product_attention` is computed by its formula, since
    the fused kernels have no second derivative; and a 1x1 convolution with a stride is a `SkippingConv2d`.
    Raises: Undefined where a batch norm keeps no running statistics (an example's output then depends on its batch), or
    a hook makes a layer's weight.
    """
    copied = copy.deepcopy(network).double().eval()
    split: dict[nn.Module, Attention] = {}
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        if getattr(module, "inplace", False):
            module.__dict__["inplace"] = False  # in place, an activation would overwrite what `trace` keeps
        if is_parametrized(module):
            _unparametrise(module)
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and "weight" not in module._parameters:
            raise Undefined(f"the weight of layer {name} is not a parameter: it is made anew in every forward pass")
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise Undefined(f"batch norm {name} keeps no running statistics: outputs depend on the batch they are in")
        if type(module) is nn.Conv2d and _skips(module):
            module.__class__ = SkippingConv2d
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        if isinstance(module, nn.MultiheadAttention) and module.bias_k is None and not module.add_zero_attn:
            attention = split.setdefault(module, Attention(module))
            copied = _replaced(copied, name, attention)
    with torch.enable_grad():
        output = copied(example.double().requires_grad_())
    fused = any(node.name().startswith("ScaledDotProduct") for node in operations(output))
    return ByFormula(copied) if fused else copied


class SkippingConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride, as one without a stride of the inputs that it does not skip.

    In float32, with few channels, PyTorch 2.15's backward pass of the strided one writes outside its memory.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen = input[..., :: self.stride[0], :: self.stride[1]].contiguous()
        outputs: Tensor = conv2d(seen, weight, bias, groups=self.groups)
        return outputs


def _skips(module: nn.Conv2d) -> bool:
    return module.kernel_size == (1, 1) and module.stride != (1, 1) and module.padding in ((0, 0), "valid")


def _unparametrise(module: nn.Module) -> None:
    """Give a module the values of its parametrised tensors as parameters, and its own class back.

    PyTorch's `remove_parametrizations` changes the class, which copies of the module share.
    """
    parametrised = module.parametrizations
    assert isinstance(parametrised, nn.ModuleDict)
    values = {name: getattr(module, name).detach().clone() for name in parametrised}
    del module.parametrizations
    (module.__class__,) = type(module).__bases__
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value))


def _replaced(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    network.set_submodule(name, module)
    return network


class ByFormula(nn.Module):
    """A network whose `scaled_dot_product_attention` is computed by the formula."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs of the network."""
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self.network(inputs)
        return outputs


class Attention(nn.Module):
    """Multi-head attention with its query, key, value and output maps as linear layers.

    Formula: out(concat over heads of softmax(q kᵀ/√d_head + mask) v), for q, k and v of `nn.MultiheadAttention`, whose
    arguments it takes. ``is_causal`` only says of a mask what it is.
    """

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = packed.num_heads, packed.batch_first
        # Encoder layers read these to decide about their fused path; without a bias there is none.
        self._qkv_same_embed_dim, self.in_proj_bias = packed._qkv_same_embed_dim, None
        weights = (
            packed.in_proj_weight.chunk(3)
            if packed._qkv_same_embed_dim
            else (packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight)
        )
        biases = (None, None, None) if packed.in_proj_bias is None else packed.in_proj_bias.chunk(3)
        self.q, self.k, self.v = (_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))
        self.out = _linear(packed.out_proj.weight, packed.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values, and the attention weights if they are asked for."""
        batched = query.ndim == 3
        if not batched:
            query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        q, k, v = (self._heads(tensor) for tensor in (self.q(query), self.k(key), self.v(value)))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if attn_mask is not None:
            mask = _additive(attn_mask, scores)
            scores = scores + (mask.view(-1, self.num_heads, *mask.shape[1:]) if mask.ndim == 3 else mask)
        if key_padding_mask is not None:
            scores = scores + _additive(key_padding_mask, scores)[:, None, None, :]
        weights = scores.softmax(dim=-1)
        attended = self.out((weights @ v).transpose(1, 2).flatten(2))
        shown = weights.mean(dim=1) if average_attn_weights else weights
        if not batched:
            attended, shown = attended.squeeze(0), shown.squeeze(0)
        elif not self.batch_first:
            attended = attended.transpose(0, 1)
        return attended, shown if need_weights else None

    def _heads(self, tensor: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n heads tokens part"]:
        return tensor.view(*tensor.shape[:2], self.num_heads, -1).transpose(1, 2)


def _additive(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask to be added to the scores; True in a boolean one hides a key."""
    return (
        torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(mask, -math.inf) if mask.dtype is torch.bool else mask
    )


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    with torch.device("meta"):  # no values are drawn that would be thrown away
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer
