"""The gradient of a plain perceptron, written out: a few products, without a graph.

For small networks most of a step is what autograd does around the products.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Chain:
    """The linear layers of a perceptron, x ↦ W_L ρ(… ρ(W_1 x + b_1) …) + b_L with ρ = ReLU, on the mean cross-entropy.

    The parameters' ``grad`` must be there; ``add_gradient`` adds into it, as ``backward`` does.
    """

    def __init__(self, layers: list[nn.Linear]) -> None:
        self.layers = [(layer.weight, layer.bias, layer.weight.grad, layer.bias.grad) for layer in layers]

    @torch.inference_mode()
    def add_gradient(self, inputs: Float[Tensor, "b *shape"], labels: Int[Tensor, " b"]) -> None:
        """Add the gradient of the mean cross-entropy of a batch to the parameters' ``grad``.

        Formula: δ_L = (softmax(u) − y)/b; ∂W_l = δ_lᵀ h_{l−1}, ∂b_l = δ_lᵀ 1; δ_{l−1} = (δ_l W_l) ∘ 1[h_{l−1} > 0].
        """
        units = [inputs.flatten(1)]
        for weight, bias, _, _ in self.layers[:-1]:
            units.append(torch.addmm(bias, units[-1], weight.t()).relu_())
        weight, bias, _, _ = self.layers[-1]
        slope = torch.addmm(bias, units[-1], weight.t()).softmax(1)
        slope.scatter_add_(1, labels[:, None], slope.new_full((len(labels), 1), -1.0)).div_(len(labels))
        ones = slope.new_ones(len(labels))
        for number in range(len(self.layers) - 1, -1, -1):
            weight, _, weight_slope, bias_slope = self.layers[number]
            assert weight_slope is not None
            assert bias_slope is not None
            weight_slope.addmm_(slope.t(), units[number])
            bias_slope.addmv_(slope.t(), ones)
            if number:
                slope = torch.ops.aten.threshold_backward(slope @ weight, units[number], 0)


def chain(network: nn.Module, loss: str) -> Chain | None:
    """The chain of a network: a sequence of flattening, then linear layers with biases and ReLU between them.

    `None` where it is anything else, where a parameter has no ``grad``, or where the loss is another.
    """
    if not isinstance(network, nn.Sequential) or type(network).forward is not nn.Sequential.forward or not len(network):
        return None
    first, *modules = network
    if loss != "cross_entropy" or type(first) is not nn.Flatten or (first.start_dim, first.end_dim) != (1, -1):
        return None
    layers = [module for module in modules[::2] if type(module) is nn.Linear and module.bias is not None]
    if len(modules) != 2 * len(layers) - 1 or any(type(module) is not nn.ReLU for module in modules[1::2]):
        return None
    if any(layer.weight.grad is None or layer.bias.grad is None for layer in layers):
        return None
    return Chain(layers)
