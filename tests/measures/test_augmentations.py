from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gapbench.datasets.spec import Split
from gapbench.measures.augmentations import augmented_logits, input_spread, shifted
from gapbench.measures.draws import draws_each


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (28, 1), (32, 2), (48, 3)])
def test_shifts_are_uniform_over_the_square_without_its_middle(side: int, reach: int) -> None:
    image = torch.arange(2 * side * side, dtype=torch.float64).view(2, side, side)
    count = 200 * (2 * reach + 1) ** 2
    found = shifted(image.expand(count, -1, -1, -1), rng())
    inside = image[:, reach + 1, reach + 1]
    assert torch.equal(found[:, 1], found[:, 0] + side * side)  # all channels move together
    moves = {}
    for value in found[:, 0, reach + 1, reach + 1].tolist():
        step = int(value - inside[0])
        down = round(step / side)
        move = (down, step - side * down)
        moves[move] = moves.get(move, 0) + 1
    assert set(moves) == {
        (down, right)
        for down in range(-reach, reach + 1)
        for right in range(-reach, reach + 1)
        if (down, right) != (0, 0)
    }
    expected = count / len(moves)
    assert all(abs(times - expected) < 5 * math.sqrt(expected) for times in moves.values())


def test_borders_are_repeated_and_nothing_is_reflected() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    copies = {tuple(copy.flatten().tolist()) for copy in shifted(image.expand(300, -1, -1, -1), rng())}
    up = torch.cat([image[0, 0, 1:], image[0, 0, 3:]])
    left = torch.cat([image[0, 0, :, 1:], image[0, 0, :, 3:]], dim=1)
    assert len(copies) == 8
    assert {tuple(up.flatten().tolist()), tuple(left.flatten().tolist())} <= copies
    assert tuple(image.flip(3).flatten().tolist()) not in copies


def test_vectors_get_noise_of_a_tenth_of_their_spread() -> None:
    inputs = torch.randn(200, 5, generator=rng()) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    inputs = inputs + 100 * torch.arange(5)  # the means of the coordinates are no part of their spread
    train = Split(inputs, torch.zeros(200, dtype=torch.int64), 2)
    expected = math.sqrt(float(inputs.double().var(dim=0, correction=0).mean()))
    assert input_spread(inputs) == pytest.approx(expected, rel=1e-6)
    moved = augmented_logits(nn.Identity(), train, rng(1)) - inputs
    assert moved.shape == (draws_each(200), 200, 5)
    assert moved.std(dim=(0, 1)).tolist() == pytest.approx([expected / 10] * 5, rel=0.15)
    assert expected < float(inputs.std()) / 10


def test_a_network_that_no_shift_reaches_keeps_its_outputs() -> None:
    """The mean over an image that is constant, and, as a control, over one that is not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    labels = torch.tensor([0, 1])
    flat = Split(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4).contiguous(), labels, 2)
    rough = Split(torch.randn(2, 1, 4, 4, generator=rng()), labels, 2)
    for train, same in ((flat, True), (rough, False)):
        found = augmented_logits(network, train, rng(2))
        assert torch.allclose(found, network(train.inputs).expand_as(found), atol=1e-6) is same
