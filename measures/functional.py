"""A network as a function of all its parameters, as one vector."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class AtParameters:
    """The logits of a network with the numbers of a vector in place of its parameters, in the order of its own.

    As `torch.func.functional_call`, which looks for the parameters in the network at every call: for small networks
    that takes longer than the pass. The network has its own parameters back when the call returns.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.own = network, list(network.parameters())
        self.shapes = [parameter.shape for parameter in self.own]
        self.sizes = [parameter.numel() for parameter in self.own]
        # A parameter that is shared has several places.
        places = defaultdict(list)
        for module in network.modules():
            for name, parameter in module._parameters.items():
                places[parameter].append((module._parameters, name))
        self.places = [places[parameter] for parameter in self.own]

    def __call__(
        self, flat: Float[Tensor, " parameters"], inputs: Float[Tensor, " n *shape"]
    ) -> Float[Tensor, "n classes"]:
        try:
            for piece, shape, places in zip(torch.split(flat, self.sizes), self.shapes, self.places, strict=True):
                for parameters, name in places:
                    parameters[name] = piece.view(shape)  # type: ignore[assignment]
            logits: Tensor = self.network(inputs)
            return logits
        finally:
            for parameter, places in zip(self.own, self.places, strict=True):
                for parameters, name in places:
                    parameters[name] = parameter


def functional_logits(
    network: nn.Module, flat: Float[Tensor, " parameters"], inputs: Float[Tensor, " n *shape"]
) -> Float[Tensor, "n classes"]:
    """The logits with these parameters in place of the network's own, in the order of ``network.parameters()``."""
    return AtParameters(network)(flat, inputs)
