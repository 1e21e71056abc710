"""The contract that a network of the user's must keep, as far as training goes."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from gapbench.datasets.errors import InputError
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.models.build import Architecture, build
from gapbench.models.spec import RunSpec
from gapbench.models.train import train
from gapbench.models.trained import Trained

EXAMPLES, CLASSES = 24, 3
SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 32, 32), (20,), (4, 6))
"""Shapes of inputs that are tried: small images, images of CIFAR's size, vectors, tokens."""


@dataclass(frozen=True)
class NetworkCheck:
    """One check of one network: what was checked, whether it held, and what was seen."""

    network: str
    what: str
    passed: bool
    seen: str


class _Case:
    """One network with inputs that it takes."""

    def __init__(self, name: str, own: Architecture, spec: RunSpec, shape: tuple[int, ...]) -> None:
        self.name, self.own, self.spec, self.shape = name, own, spec, shape
        inputs = torch.randn(EXAMPLES, *shape, generator=generator(0, "network contract"))
        labels = torch.arange(EXAMPLES) % CLASSES
        inputs.view(EXAMPLES, -1)[torch.arange(EXAMPLES), labels] += 3.0
        self.sample = Split(inputs, labels, CLASSES)

    def built(self, seed: int = 0) -> nn.Module:
        return build(self.spec, self.shape, CLASSES, generator(seed, "network contract"), {self.name: self.own})

    def outputs(self, network: nn.Module, inputs: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            found: Tensor = network.eval()(self.sample.inputs if inputs is None else inputs)
        return found


def check_network(name: str, own: Architecture, fields: Mapping[str, Any]) -> tuple[list[NetworkCheck], Trained | None]:
    """Every check of the contract on a network, and the network as a short training left it, for measures to read.

    It takes inputs of at least one of `SHAPES`; outputs are (n, classes) and finite; for one seed the same values twice
    and for another seed others; global generators untouched; in evaluation an example's output does not depend on the
    others; the state dict decides the function; every parameter is trained; and training lowers the loss, twice to the
    same bits.
    """
    spec = RunSpec(DataSpec("contract", EXAMPLES), name, 16, 2, learning_rate=1e-2, batch_size=8, optimiser="adam")
    spec = dataclasses.replace(spec, max_epochs=20, stop_loss_nats=1e-9, **fields)
    refusals: list[str] = []
    for shape in SHAPES:
        case = _Case(name, own, spec, shape)
        try:
            case.outputs(case.built())
        except Exception as error:  # noqa: BLE001  any refusal of a shape is an answer
            refusals.append(f"{shape}: {type(error).__name__}: {error}")
            continue
        first = NetworkCheck(name, f"takes inputs of shape {shape}", True, f"refused before: {len(refusals)}")
        try:
            rest = list(_checks(case))
            return [first, *rest], _trained(case)
        except Exception as error:  # noqa: BLE001  what the network raises is what is reported
            return [
                first,
                NetworkCheck(name, "runs through every check", False, f"{type(error).__name__}: {error}"),
            ], None
    what = "takes inputs of at least one shape"
    return [NetworkCheck(name, what, False, "; ".join(refusals))], None


def _trained(case: _Case) -> Trained:
    data = (case.sample, case.sample)
    return train(case.spec, data, trajectory_epochs=(1,), architectures={case.name: case.own})[0]


def _checks(case: _Case) -> Iterator[NetworkCheck]:
    def check(what: str, passed: bool, seen: str) -> NetworkCheck:
        return NetworkCheck(case.name, what, passed, seen)

    network = case.built()
    outputs = case.outputs(network)
    yield check("outputs are (n, classes)", outputs.shape == (EXAMPLES, CLASSES), f"{tuple(outputs.shape)}")
    yield check("outputs are finite", bool(outputs.isfinite().all()), f"largest {float(outputs.abs().max()):.3g}")
    again, other = case.outputs(case.built()), case.outputs(case.built(1))
    yield check("one seed, the same values twice", torch.equal(outputs, again), _distance(outputs, again))
    yield check("another seed, other values", not torch.equal(outputs, other), _distance(outputs, other))
    yield check("global generators untouched", *_generators_untouched(lambda: _trained(case)))
    part = case.outputs(network, case.sample.inputs[3:7])
    alone = torch.allclose(part, outputs[3:7], rtol=1e-3, atol=1e-4)
    yield check("in evaluation, examples do not influence one another", alone, _distance(part, outputs[3:7]))
    twin = case.built(1)
    twin.load_state_dict(network.state_dict())
    loaded = case.outputs(twin)
    yield check("the state dict decides the function", torch.equal(loaded, outputs), _distance(loaded, outputs))
    yield from (check(*row) for row in _training(case))


def _training(case: _Case) -> Iterator[tuple[str, bool, str]]:
    first, second = _trained(case), _trained(case)
    state, other = first.network.state_dict(), second.network.state_dict()
    same = all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    yield "training twice gives the same bits", same, f"{len(state)} tensors"
    still = [name for name, _ in first.network.named_parameters() if torch.equal(state[name], first.initial[name])]
    yield "training moves every parameter", not still, f"unmoved: {', '.join(still) or 'none'}"
    assert first.history is not None
    before, after = float(first.history.loss_nats[0]), float(first.history.loss_nats[-1])
    yield "training lowers the loss", math.isfinite(after) and after < before, f"{before:.3f} to {after:.3f} nats"
    floats = [name for name, parameter in first.network.named_parameters() if parameter.dtype != torch.float32]
    yield "parameters are float32", not floats, f"others: {', '.join(floats) or 'none'}"


def _generators_untouched(act: Callable[[], object]) -> tuple[bool, str]:
    def states() -> tuple[bytes, str, str]:
        return torch.get_rng_state().numpy().tobytes(), str(numpy.random.get_state()), str(random.getstate())  # noqa: NPY002

    before = states()
    act()
    moved = [name for name, a, b in zip(("torch", "numpy", "random"), before, states(), strict=True) if a != b]
    return not moved, f"moved: {', '.join(moved) or 'none'}"


def _distance(first: Tensor, second: Tensor) -> str:
    return f"largest difference {float((first - second).abs().max()):.2g}" if first.shape == second.shape else "shapes"


def own_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a spec that a network asks to be checked with.

    Raises: InputError where there is no such field.
    """
    known = {field.name for field in dataclasses.fields(RunSpec)} - {"data", "architecture"}
    for name in fields:
        if name not in known:
            raise InputError(f"@gapbench.architecture(… {name}=…): a run has no field {name}; it has {sorted(known)}")
    return fields
