"""What a user gives to be read, looked at before anything is computed: whether its parts fit each other."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import Split
from gapbench.models.trained import Trained


def examine(trained: Trained) -> None:
    """Raise InputError where a sample, the network's outputs on it, or the initial weights are not as they must be."""
    _examine(trained, "")
    for number, twin in enumerate(trained.seed_twins or ()):
        _examine(twin, f"seed_twins[{number}].")
    if trained.random_label_twin is not None:
        _examine(trained.random_label_twin, "random_label_twin.")


def _examine(trained: Trained, whose: str) -> None:
    _examine_sample(trained.train, f"{whose}train")
    _examine_outputs(trained, whose)
    if not trained.initial:
        return
    state, where = trained.network.state_dict(), f"{whose}initial is not the network's state dict before training"
    odd = sorted(state.keys() ^ trained.initial.keys())
    if odd:
        raise InputError(f"{where}: {odd[0]} is only in the {'network' if odd[0] in state else 'initial state'}")
    for name, tensor in state.items():
        if trained.initial[name].shape != tensor.shape:
            shapes = f"{tuple(trained.initial[name].shape)}, in the network {tuple(tensor.shape)}"
            raise InputError(f"{where}: {name} has the shape {shapes}")


def _examine_sample(sample: Split, where: str) -> None:
    for name, tensor in (("inputs", sample.inputs), ("labels", sample.labels)):
        if not isinstance(tensor, Tensor):
            raise InputError(f"{where}.{name} must be a tensor, not a {type(tensor).__name__}: use torch.as_tensor")
    if not sample.inputs.is_floating_point():
        raise InputError(f"{where}.inputs must be floating-point numbers, not {sample.inputs.dtype}: use .float()")
    if sample.labels.is_floating_point() or sample.labels.is_complex() or sample.labels.ndim != 1:
        found = f"{sample.labels.dtype} of shape {tuple(sample.labels.shape)}"
        raise InputError(f"{where}.labels must be one integer an example, not {found}")
    if len(sample.inputs) != len(sample.labels) or len(sample.labels) == 0:
        raise InputError(f"{where} has {len(sample.inputs)} inputs and {len(sample.labels)} labels")
    if sample.classes < 2:
        raise InputError(f"{where}.classes is {sample.classes}: a classifier has two outputs at least")
    outside = ((sample.labels < 0) | (sample.labels >= sample.classes)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise InputError(
            f"{where}.labels[{row}] is {int(sample.labels[row])}: with classes={sample.classes} labels are 0 to "
            f"{sample.classes - 1}"
        )
    infinite = (~torch.isfinite(sample.inputs.flatten(1))).any(dim=1).nonzero()
    if len(infinite):
        raise InputError(f"{where}.inputs[{int(infinite[0])}] holds a number that is not finite")


def _examine_outputs(trained: Trained, whose: str) -> None:
    inputs, classes = trained.train.inputs[:2], trained.train.classes
    network = copy.deepcopy(trained.network).eval()
    first = next(network.parameters(), inputs)
    try:
        with torch.no_grad():
            outputs = network(inputs.to(first.dtype))
    except Exception as error:
        raise InputError(
            f"{whose}network cannot be applied to train.inputs of shape {tuple(trained.train.inputs.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    wanted = f"it must return logits of shape (examples, classes), here ({len(inputs)}, {classes})"
    if not isinstance(outputs, Tensor):
        raise InputError(f"{whose}network returns a {type(outputs).__name__}: {wanted}")
    if outputs.shape != (len(inputs), classes):
        raise InputError(f"{whose}network returns a tensor of shape {tuple(outputs.shape)}: {wanted}")
