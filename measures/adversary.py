"""An adversary who moves the weights of a network within a box; mathematics only, nothing is registered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from gapbench.datasets.spec import Split
from gapbench.measures.ascent import FINE, Ball
from gapbench.measures.curvature import (
    EXAMPLES_AT_ONCE,
    Terms,
    mean_loss_terms,
    value,
    value_and_gradient,
)
from gapbench.measures.functional import functional_logits
from gapbench.measures.quantities import cached_examples, channels_last
from gapbench.measures.registry import Undefined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Float
    from torch import Tensor, nn

LARGEST_RADIUS = 10.0

SCOUTED_IMAGES = 128

FIRST_FACTOR = 1.1
"""Radii grow or shrink by this factor, then by its square, and so on, until two of them bracket the one sought."""


@dataclass(frozen=True)
class Adversary:
    """A network, its weights as one vector, and the sample on which moving them is to do harm."""

    network: nn.Module
    weights: Float[Tensor, " p"]
    sample: Split

    @staticmethod
    def of(network: nn.Module, sample: Split) -> Adversary:
        """The adversary of a network on a sample."""
        weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        return Adversary(network, weights, Split(channels_last(sample.inputs), sample.labels, sample.classes))

    def on_first(self, examples: int) -> Adversary:
        """The same adversary on the first examples, which are a random subset: so is the order of a sample."""
        few = Split(self.sample.inputs[:examples], self.sample.labels[:examples], self.sample.classes)
        return Adversary(self.network, self.weights, few)

    def scout(self) -> Adversary:
        """The same adversary on enough examples to seek a direction: the first 128 images, or 1,000 vectors."""
        return self.on_first(SCOUTED_IMAGES if self.sample.inputs.ndim == 4 else EXAMPLES_AT_ONCE)

    @cached_property
    def terms(self) -> Terms:
        """The mean loss on the sample, as a function of the weights."""
        return mean_loss_terms(self.network, self.sample)

    def loss(self, displacement: Tensor | float) -> float:
        """The mean loss on the sample with the weights displaced."""
        return value(self.terms, self.weights + displacement)

    def corners(self) -> list[Float[Tensor, " p"]]:
        """Where gradients meet a box: that of the loss, and that of minus the mean centred logit of the labels.

        At a loss near zero the first is the gradient of few examples; in the second all of them count alike.
        Raises: Undefined where both are zero.
        """
        gradients = [value_and_gradient(terms, self.weights)[1] for terms in (self.terms, self._label_terms())]
        corners = [gradient.sign() for gradient in gradients if bool(gradient.any())]
        if not corners:
            raise Undefined("the gradient of the training loss is zero: the ascent has no direction")
        return corners

    def _label_terms(self) -> Terms:
        def term(inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
            def mean(flat: Tensor) -> Tensor:
                logits = functional_logits(self.network, flat, inputs.to(flat.dtype))
                return (logits.mean(dim=1) - logits.gather(1, labels[:, None])[:, 0]).sum() / len(self.sample)

            return mean

        return [term(*batch) for batch in self._batches()]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = min(EXAMPLES_AT_ONCE, cached_examples(self.sample.inputs))
        parts = (torch.split(part, size) for part in (self.sample.inputs, self.sample.labels))
        return zip(*parts)

    def climb(
        self, corner: Float[Tensor, " p"], half_widths: Float[Tensor, " p"], tolerance: float = FINE
    ) -> tuple[Float[Tensor, " p"], bool]:
        """Where, in units of the box, an ascent of the loss from a corner of it ends; and whether it stands still."""
        ball = Ball(self.terms, self.weights, half_widths, 1.0, "linf")
        top, still = ball.climb(ball.at(corner), self.loss(0.0), tolerance)
        return top.inside, still

    def right(self, displacement: Tensor | float) -> int:
        """How many examples are classified correctly with the weights displaced."""
        flat, dtype = self.weights + displacement, self.weights.dtype
        with torch.no_grad():
            return sum(
                int((functional_logits(self.network, flat, inputs.to(dtype)).argmax(dim=1) == labels).sum())
                for inputs, labels in self._batches()
            )

    def radius(self, displacement: Callable[[float], Tensor], drop: float, start: float, precision: float) -> float:
        """The radius from which a growing displacement costs this much accuracy; `LARGEST_RADIUS` if none does.

        Bisected to a relative ``precision``, from ``start``.
        """
        clean, fewest = self.right(0.0), math.ceil(drop * len(self.sample) - 1e-9)

        def reached(radius: float) -> bool:
            return clean - self.right(displacement(radius)) >= fewest

        low = high = start
        factor, grow = FIRST_FACTOR, not reached(start)
        while low == high:
            if grow and high >= LARGEST_RADIUS:
                return LARGEST_RADIUS
            following = min(LARGEST_RADIUS, high * factor) if grow else high / factor
            factor *= factor
            if reached(following) == grow:
                low, high = min(high, following), max(high, following)
            else:
                low = high = following
        while high > low * (1 + precision):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if reached(middle) else (middle, high)
        return high
