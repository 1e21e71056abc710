"""The contract a measure must keep, run on a fixed set of small networks: what `gapbench check` does."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor, nn

from gapbench.datasets.load import load
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures.layers import with_state
from gapbench.measures.read import Reading, read
from gapbench.measures.registry import Measure, Registry
from gapbench.models.spec import RunSpec, twin
from gapbench.models.train import train
from gapbench.models.trained import Trained

TOLERANCE = 1e-6
"""Relative: weights are rescaled and summed in float32, whose rounding is 6e-8 an operation."""

ROTATION_TOLERANCE = 2e-5
"""Relative: a rotation rounds every input and every weight of the first layer to float32 anew."""


@dataclass(frozen=True)
class Check:
    """One check of one measure: what was checked, whether it held, and what was seen."""

    measure: str
    what: str
    passed: bool
    seen: str


@lru_cache(maxsize=1)
def example_networks() -> Mapping[str, Trained]:
    """Small trained networks, the same in every process: MLPs on true and random labels, a deeper one, a small CNN.

    The first and the last two have a seed twin and a random-label twin.
    """
    data = DataSpec("gaussian_mixture", train_size=48, dimension=6, classes=3, test_size=100)
    plain = RunSpec(data, "mlp", width=12, depth=1, learning_rate=0.05, batch_size=12, max_epochs=200)
    noisy = dataclasses.replace(plain, data=dataclasses.replace(data, label_noise=1.0), width=24, max_epochs=400)
    deep = dataclasses.replace(plain, depth=3, width=16, seed=1)
    images = dataclasses.replace(plain, data=DataSpec("digits", train_size=48), architecture="cnn", width=8, depth=2)
    return {
        "mlp": _with_second_runs(plain),
        "mlp on random labels": _trained(noisy),
        "deep mlp": _with_second_runs(deep),
        "cnn": _with_second_runs(images),
    }


def _trained(spec: RunSpec) -> Trained:
    return train(spec, load(spec.data), trajectory_epochs=(1,), checkpoints=True)[0]


def _with_second_runs(spec: RunSpec) -> Trained:
    return dataclasses.replace(
        _trained(spec),
        seed_twins=(_trained(dataclasses.replace(spec, seed=spec.seed + 1)),),
        random_label_twin=_trained(dataclasses.replace(twin(spec), max_epochs=400)),
        unlabelled_test_inputs=load(spec.data)[1].inputs,
    )


def check(measures: Sequence[Measure], registry: Registry) -> list[Check]:
    """Every check of the contract on these measures.

    Finite (or undefined with a reason) on the example networks and defined on at least one; the same value twice for
    one seed; network, sample and global generators untouched; each declared invariance, with the control that a
    quantity known to react does react; and a source that resolves.
    """
    networks = example_networks()
    first = {name: read(measures, registry, trained) for name, trained in networks.items()}
    second = {name: read(measures, registry, trained) for name, trained in networks.items()}
    invariances = [
        one
        for kind in TRANSFORMS
        for name in ("deep mlp", "cnn")
        if not (name == "cnn" and kind == "input_rotation")  # a convolution is bound to the axes of its images
        for one in _invariances(measures, registry, kind, name, first[name])
    ]
    checks: list[Check] = []
    for index, entry in enumerate(measures):
        readings = {name: rows[index] for name, rows in first.items()}
        for name, reading in readings.items():
            good = reading.status == "ok" or (reading.status == "undefined" and bool(reading.reason))
            checks.append(Check(entry.key, f"finite, network and generators untouched: {name}", good, _shown(reading)))
            again = second[name][index]
            same = (reading.value, reading.status) == (again.value, again.status)
            checks.append(Check(entry.key, f"same value twice: {name}", same, f"{_shown(reading)}, {_shown(again)}"))
        defined = [name for name, reading in readings.items() if reading.status == "ok"]
        seen = f"{len(defined)} of {len(readings)}"
        checks.append(Check(entry.key, "defined on at least one network", bool(defined), seen))
        checks += [one for one in invariances if one.measure == entry.key]
        checks.append(_source(entry))
    return checks


def _shown(reading: Reading) -> str:
    return f"{reading.value:.9g}" if reading.value is not None else f"{reading.status}: {reading.reason}"


def _invariances(
    measures: Sequence[Measure], registry: Registry, kind: str, name: str, readings: Sequence[Reading]
) -> Iterator[Check]:
    """The invariance of the measures that declare it, with its positive control: a probe that must see the change."""
    declared = {m.key: before for m, before in zip(measures, readings, strict=True) if kind in m.invariances}
    if not declared:
        return
    trained, moved, what = example_networks()[name], _moved(kind, name), f"invariant under {kind}: {name}"
    probe = TRANSFORMS[kind][1]
    if math.isclose(probe(trained), probe(moved), rel_tol=1e-3):
        for key in declared:
            yield Check(key, what, False, "positive control: the transformation changes nothing")
        return
    tolerance = ROTATION_TOLERANCE if kind == "input_rotation" else TOLERANCE
    for after in read([registry.measures[key] for key in declared], registry, moved):
        before = declared[after.measure]
        if before.value is None or after.value is None:
            held = before.status == after.status
        else:
            held = math.isclose(before.value, after.value, rel_tol=tolerance, abs_tol=tolerance)
        yield Check(after.measure, what, held, f"{_shown(before)} -> {_shown(after)}")


@lru_cache(maxsize=16)
def _moved(kind: str, name: str) -> Trained:
    return TRANSFORMS[kind][0](example_networks()[name])


def _source(entry: Measure) -> Check:
    strange = [one for one in entry.source.split(";") if not _resolves(one.strip())]
    wrong = strange[0].strip() if strange else ""
    advice = f"; {wrong!r}: give a key of references.bib, arXiv:…, doi:…, or unpublished" if wrong else ""
    return Check(entry.key, "source resolves", not strange, f"{entry.source!r}{advice}")


def _resolves(source: str) -> bool:
    key = re.split(r"[,\s]", source, maxsplit=1)[0]
    return key == "unpublished" or key in bibliography() or bool(re.match(r"(arXiv:|doi:|https?://)\S+", source))


@lru_cache(maxsize=1)
def bibliography() -> frozenset[str]:
    """The keys of references.bib."""
    text = files("gapbench.measures").joinpath("references.bib").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", text, flags=re.MULTILINE))


def _layer_names(network: nn.Module) -> list[str]:
    """The weight layers in order; each reads the units of the one before, a channel being a unit."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def _along(scale: Tensor, weight: Tensor, dimension: int) -> Tensor:
    """Factors as a tensor that scales a weight along its outputs (dimension 0) or inputs (1)."""
    return scale.view([-1 if place == dimension else 1 for place in range(weight.ndim)])


def _with_states(
    trained: Trained, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], *, all_states: bool
) -> Trained:
    network = with_state(trained.network, change(dict(trained.network.state_dict())))
    if not all_states:
        return dataclasses.replace(trained, network=network)
    trajectory = trained.trajectory
    if trajectory is not None:
        states = {epoch: change(dict(state)) for epoch, state in trajectory.states.items()}
        points = tuple(dataclasses.replace(point, state=change(dict(point.state))) for point in trajectory.checkpoints)
        trajectory = dataclasses.replace(trajectory, states=states, checkpoints=points)
    return dataclasses.replace(trained, network=network, initial=change(dict(trained.initial)), trajectory=trajectory)


def rescale(trained: Trained) -> Trained:
    """Multiply the input weights and bias of each hidden unit by c > 0 and its output weights by 1/c: same function."""
    names = _layer_names(trained.network)

    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        rng = generator(0, "contract", "rescale")
        for into, out in itertools.pairwise(names):
            # Powers of two are exact in floating point, so the function is unchanged to the last bit.
            scale = torch.exp2(torch.randint(-3, 4, (len(state[f"{into}.weight"]),), generator=rng).float())
            before, after = state[f"{into}.weight"], state[f"{out}.weight"]
            state[f"{into}.weight"] = before * _along(scale, before, 0)
            state[f"{into}.bias"] = state[f"{into}.bias"] * scale
            state[f"{out}.weight"] = after / _along(scale, after, 1)
        return state

    return _with_states(trained, change, all_states=False)


def permute_units(trained: Trained) -> Trained:
    """Permute the hidden units of every layer, at initialisation and along the path too: same function."""
    names = _layer_names(trained.network)

    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        rng = generator(0, "contract", "units")
        for into, out in itertools.pairwise(names):
            order = torch.randperm(len(state[f"{into}.weight"]), generator=rng)
            state[f"{into}.weight"] = state[f"{into}.weight"][order]
            state[f"{into}.bias"] = state[f"{into}.bias"][order]
            state[f"{out}.weight"] = state[f"{out}.weight"][:, order]
        return state

    return _with_states(trained, change, all_states=True)


def permute_examples(trained: Trained) -> Trained:
    """Permute the training examples together with their labels."""
    sample = trained.train
    order = torch.randperm(len(sample), generator=generator(0, "contract", "examples"))
    return dataclasses.replace(trained, train=Split(sample.inputs[order], sample.labels[order], sample.classes))


def duplicate_examples(trained: Trained) -> Trained:
    """Give every training example twice: the same empirical law."""
    sample = trained.train
    twice = Split(sample.inputs.repeat_interleave(2, 0), sample.labels.repeat_interleave(2, 0), sample.classes)
    return dataclasses.replace(trained, train=twice)


def rotate_inputs(trained: Trained) -> Trained:
    """Rotate the inputs, and the first layer's weights with them, at initialisation and along the path too.

    The function of the rotated inputs is the same. The rotation is drawn by the Haar measure.
    """
    first, sample = f"{_layer_names(trained.network)[0]}.weight", trained.train
    size = sample.inputs[0].numel()
    normal = torch.randn(size, size, dtype=torch.float64, generator=generator(0, "contract", "rotation"))
    rotation = torch.linalg.qr(normal).Q

    def rotated(rows: Tensor) -> Tensor:
        turned: Tensor = (rows.flatten(1).double() @ rotation).float()
        return turned.view(rows.shape)

    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**state, first: rotated(state[first])}

    moved = _with_states(trained, change, all_states=True)
    return dataclasses.replace(moved, train=Split(rotated(sample.inputs), sample.labels, sample.classes))


def _first_weight(trained: Trained) -> float:
    return float(next(trained.network.parameters()).detach().flatten()[0])


def _inputs_in_order(trained: Trained) -> float:
    sample = trained.train.inputs.flatten(1).double()
    return float(torch.arange(1, len(sample) + 1).double() @ sample @ torch.arange(1, sample.shape[1] + 1).double())


TRANSFORMS: Mapping[str, tuple[Callable[[Trained], Trained], Callable[[Trained], float]]] = {
    "rescaling": (rescale, lambda trained: float(sum(p.detach().square().sum() for p in trained.network.parameters()))),
    "unit_permutation": (permute_units, _first_weight),
    "example_permutation": (permute_examples, _inputs_in_order),
    "example_duplication": (duplicate_examples, lambda trained: float(len(trained.train))),
    "input_rotation": (rotate_inputs, _inputs_in_order),
}
"""For each declared invariance: the transformation, and a probe that must change under it."""
