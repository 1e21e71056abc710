"""Margins half-way between training examples of one label, mixed at the input or in the first hidden layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures.draws import DRAWN_EXAMPLES, draws_each
from gapbench.measures.registry import Undefined, quantity
from gapbench.measures.representations import second_layer
from gapbench.models.margins import label_margins


@quantity(cost="forward")
def mixup_margins(evaluated_float32: nn.Module, train: Split, rng: torch.Generator) -> Float[Tensor, "draws paired"]:
    """f_y − max_{j≠y} f_j at (x_i + x_k)/2 for several partners x_k of each example, y_k = y_i = y; float32.

    For the first 250 training examples; examples alone in their label are left out. In each draw, every example is
    the partner of one other. Raises: Undefined where no two of them share a label.
    """
    inputs = train.inputs[:DRAWN_EXAMPLES].float()
    return _margins(lambda partner: evaluated_float32((inputs + inputs[partner]) / 2), train, rng)


@quantity(cost="forward")
def manifold_mixup_margins(
    evaluated_float32: nn.Module, train: Split, rng: torch.Generator
) -> Float[Tensor, "draws paired"]:
    """As `mixup_margins`, with the two examples mixed in what enters the second weight layer; float32.

    Raises: Undefined where no two examples share a label, where there is one weight layer only, and where the second
    one does not see all that is passed on (a skip connection goes around it).
    """
    inputs = train.inputs[:DRAWN_EXAMPLES].float()
    layer = evaluated_float32.get_submodule(second_layer(evaluated_float32, inputs[:1]))
    few, other = inputs[:8], torch.arange(len(inputs[:8])).roll(1)
    with torch.no_grad():
        exchanged, expected = _mixed(evaluated_float32, layer, few, other, 1.0), evaluated_float32(few)[other]
    # A layer that sees all that is passed on turns one example into another when it is given the other's input.
    if not torch.allclose(exchanged, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
        raise Undefined("the second weight layer does not see all that is passed on: a connection goes around it")
    return _margins(lambda partner: _mixed(evaluated_float32, layer, inputs, partner, 0.5), train, rng)


def _mixed(network: nn.Module, layer: nn.Module, inputs: Tensor, partner: Tensor, share: float) -> Tensor:
    """The outputs where a layer is given (1 − share) of each example's own input and this share of its partner's."""

    def mix(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return ((1 - share) * given[0] + share * given[0][partner], *given[1:])

    handle = layer.register_forward_pre_hook(mix)
    try:
        outputs: Tensor = network(inputs)
    finally:
        handle.remove()
    return outputs


def _margins(outputs: Callable[[Tensor], Tensor], train: Split, rng: torch.Generator) -> Float[Tensor, "draws paired"]:
    labels = train.labels[:DRAWN_EXAMPLES]
    rows = []
    with torch.no_grad():
        for _ in range(draws_each(len(labels))):
            partner = partners(labels, rng)
            rows.append(label_margins(outputs(partner), labels)[partner != torch.arange(len(labels))])
    return torch.stack(rows)


def partners(labels: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
    """Another example of the same label for each example, every one once: a random cycle through each class.

    An example alone in its label is its own. Raises: Undefined where all are.
    """
    order = torch.randperm(len(labels), generator=rng)
    partner = torch.arange(len(labels))
    for label in torch.unique(labels):
        members = order[labels[order] == label]
        partner[members] = members.roll(1)
    if torch.equal(partner, torch.arange(len(labels))):
        raise Undefined("no two training examples share a label")
    return partner
