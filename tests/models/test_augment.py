"""Augmentation: what crops and flips may be, checked image by image; its draws."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import pad

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.models.augment import AUGMENTATIONS, augmentation, crop, flip
from gapbench.models.spec import RunSpec
from gapbench.models.train import train

IMAGES = torch.arange(40 * 2 * 16 * 16, dtype=torch.float32).view(40, 2, 16, 16) + 1


def test_every_crop_is_a_window_of_the_padded_image_and_all_occur() -> None:
    cropped = crop(IMAGES.repeat(20, 1, 1, 1), torch.Generator().manual_seed(0))
    padded = pad(IMAGES.repeat(20, 1, 1, 1), (2, 2, 2, 2))
    seen = set()
    for image, whole in zip(cropped, padded, strict=True):
        windows = {(y, x) for y in range(5) for x in range(5) if torch.equal(image, whole[:, y : y + 16, x : x + 16])}
        assert len(windows) == 1
        seen |= windows
    assert len(seen) == 25


def test_every_flip_is_the_image_or_its_mirror() -> None:
    flipped = flip(IMAGES, torch.Generator().manual_seed(0))
    mirrored = [torch.equal(one, image.flip(2)) for one, image in zip(flipped, IMAGES, strict=True)]
    kept = [torch.equal(one, image) for one, image in zip(flipped, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 8 < sum(mirrored) < 32


def test_names() -> None:
    assert augmentation("none", (64,)) is None
    with pytest.raises(InputError, match="crop"):
        augmentation("cropp", (1, 8, 8))
    with pytest.raises(InputError, match="for images"):
        augmentation("flip", (64,))


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_training_is_deterministic_and_changed_by_augmentation(name: str) -> None:
    data = DataSpec("digits", train_size=48)
    spec = RunSpec(data, "cnn", width=4, depth=1, learning_rate=0.05, batch_size=16, max_epochs=3, augmentation=name)
    first, second = (train(spec, load(data))[0].network.state_dict() for _ in range(2))
    plain = train(dataclasses.replace(spec, augmentation="none"), load(data))[0].network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(first[key], plain[key]) for key in first) == (name == "none")
