"""Networks that were trained elsewhere, taken into a zoo of their own: weights and a manifest.

manifest.toml beside the files of weights (safetensors, under the names of the network's state dict):

name = "mine"
[data]                              # as in a grid: the sample that they were trained on
name = "npz"
path = "mine.npz"
train_size = 500
[run]                               # what they have in common; what you do not know, give as you like, once for all
architecture = "mlp"                # a bundled one, or one from --networks FILE
depth = 2
learning_rate = 0.1
batch_size = 32

[[networks]]                        # what sets each apart: any field of [data] and [run], and seed
weights = "first.safetensors"
initial = "first-initial.safetensors"   # optional: without it, what is measured from the start has no value
width = 64
train_error = 0.0                   # optional: checked against what the network does on the data
test_error = 0.31
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate import files, tensors
from gapbench.evaluate.claim import claimed, holder
from gapbench.evaluate.engines import one_thread
from gapbench.evaluate.execute import check_specs
from gapbench.evaluate.fields import data_fields, run_fields
from gapbench.evaluate.provenance import environment
from gapbench.evaluate.sources import check_sources
from gapbench.evaluate.store import TEST, WEIGHTS, Store, begin
from gapbench.evaluate.work import architectures_of
from gapbench.evaluate.zoo import Zoo, parse
from gapbench.models.spec import RunSpec, run_id

if TYPE_CHECKING:
    from torch import Tensor

    from gapbench.models.build import Architecture

MANIFEST = "manifest.toml"
TOLERANCE = 1e-6
"""A stated error is a fraction of counted examples: what differs by more is another network or another sample."""
_OWN = ("weights", "initial", "train_error", "test_error", "seed")
_TOP = ("name", "description", "data", "run", "networks")


@dataclass(frozen=True)
class Adopted:
    """What `adopt` did: the zoo's folder, how many networks it took now, and how many it had taken before."""

    out: Path
    taken: int
    known: int


@dataclass(frozen=True)
class _Network:
    """A network of the manifest: the tables of its grid, its files, and its stated errors."""

    data: Mapping[str, Any]
    run: Mapping[str, Any]
    seed: int
    weights: Path
    initial: Path | None
    stated: Mapping[str, float]


def adopt(
    folder: Path, out: Path | None = None, *, networks: Collection[Path] = (), data_dir: Path | None = None
) -> Adopted:
    """Take the networks of a folder with a manifest into a zoo, by default zoos/NAME; then `run` reads measures there.

    Adopting a manifest that has grown takes what is new. Nothing is unpickled.
    Raises: InputError where the manifest or a file is wrong, weights do not fit the network, a stated error is not what
    the network does on the data, or the zoo holds runs that were trained here.
    """
    record = _manifest(folder)
    found = [_network(folder, record, entry, number) for number, entry in enumerate(record["networks"], 1)]
    text = _grid(record, found)
    zoo = parse(text, str(folder / MANIFEST))
    architectures = architectures_of(networks)
    check_specs(zoo.specs, architectures)
    out = Path("zoos") / zoo.name if out is None else out
    store = begin(out, text, [run_id(spec) for spec in zoo.specs])
    store.record_provenance(environment())
    check_sources(store, zoo.specs, architectures, data_dir)
    taken = 0
    with one_thread():
        for spec, network in zip(_ordered(zoo, found), found, strict=True):
            taken += _take(store, spec, network, architectures, data_dir)
    return Adopted(out, taken, len(found) - taken)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"there is no {path}: `gapbench adopt --help` shows what it says")
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    for name in record:
        if name not in _TOP:
            raise InputError(f"{path}: {unknown('key', name, _TOP)}")
    entries = record.get("networks")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} names no network: write [[networks]] above the fields of each")
    return record


def _network(folder: Path, record: Mapping[str, Any], entry: Mapping[str, Any], number: int) -> _Network:
    where = f"{folder / MANIFEST}, network {number}"
    if not isinstance(entry.get("weights"), str):
        raise InputError(f'{where}: it has no weights: give weights = "….safetensors"')
    data, run = dict(record.get("data", {})), dict(record.get("run", {}))
    if "name" in data:
        data["dataset"] = data.pop("name")
    for name, value in entry.items():
        if name in _OWN:
            continue
        if name not in {**data_fields(), **run_fields()}:
            raise InputError(f"{where}: {unknown('field', name, (*data_fields(), *run_fields(), *_OWN))}")
        (data if name in data_fields() else run)[name] = value
    paths = {name: folder / entry[name] for name in ("weights", "initial") if name in entry}
    for path in paths.values():
        if not path.is_file():
            raise InputError(f"{where}: there is no file {path}")
    run["adopted"] = files.digest(paths["weights"].read_bytes())
    stated = {name: float(entry[name]) for name in ("train_error", "test_error") if name in entry}
    return _Network(data, run, int(entry.get("seed", 0)), paths["weights"], paths.get("initial"), stated)


def _grid(record: Mapping[str, Any], networks: list[_Network]) -> str:
    """The grid whose runs are these networks."""
    lines = [f"name = {json.dumps(record.get('name', 'adopted'))}"]
    lines.append(f"description = {json.dumps(record.get('description', 'Networks that were trained elsewhere.'))}")
    lines.append("twins = false")
    for network in networks:
        lines.append(f"\n[[grids]]\nseeds = [{network.seed}]")
        for table, fields in (("data", network.data), ("run", network.run)):
            lines += [f"{table}.{name} = {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(lines).replace("data.dataset", "data.name") + "\n"


def _ordered(zoo: Zoo, networks: list[_Network]) -> list[RunSpec]:
    """The specs in the order of the networks.

    Raises: InputError where one stands twice.
    """
    by_weights = {(spec.adopted, spec.seed): spec for spec in zoo.specs}
    if len(by_weights) < len(networks) or len(zoo.specs) < len(networks):
        raise InputError(f"{zoo.name}: two networks have the same weights and seed: leave one out")
    return [by_weights[network.run["adopted"], network.seed] for network in networks]


def _take(
    store: Store,
    spec: RunSpec,
    network: _Network,
    architectures: Mapping[str, Architecture],
    data_dir: Path | None,
) -> bool:
    from gapbench.datasets.load import load
    from gapbench.datasets.seeds import generator
    from gapbench.models.build import build
    from gapbench.models.train import judged

    run = run_id(spec)
    folder = store.folder(run)
    files.make_folder(folder)
    with claimed(folder, store.path) as claim:
        if claim is None:
            raise InputError(f"run {run} of {store.path} is being worked on by {holder(folder)}: try again later")
        if store.is_finished(run):
            return False
        files.remove_temporaries(folder)
        data = load(spec.data, data_dir)
        made = build(spec, tuple(data[0].inputs.shape[1:]), data[0].classes, generator(0), architectures)
        names = made.state_dict()
        final = _state(network.weights, names)
        initial = {} if network.initial is None else _state(network.initial, names)
        made.load_state_dict(final)
        outcome, results = judged(spec, made.eval(), data)
        for name, stated in network.stated.items():
            seen = getattr(outcome, name)
            if abs(seen - stated) > TOLERANCE:
                raise InputError(
                    f"{network.weights}: its {name} is stated as {stated}, and on this data it is {seen:.6f}: the "
                    "data, its order, its scaling or the network is another one than it was trained with"
                )
        store.write_spec(spec)
        contents = {WEIGHTS: tensors.weights_content(initial, final), TEST: tensors.results_content(results)}
        store.commit(spec, outcome, contents)
    return True


def _state(path: Path, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    try:
        found = safetensors.torch.load(path.read_bytes())
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or of another kind"
        ) from error
    missing, strange = sorted(set(names) - set(found)), sorted(set(found) - set(names))
    if missing or strange:
        raise InputError(
            f"{path} does not fit the network: it lacks {', '.join(missing) or 'nothing'}, and has "
            f"{', '.join(strange) or 'nothing'} that the network has not"
        )
    for name, tensor in names.items():
        if found[name].shape != tensor.shape:
            raise InputError(f"{path}: {name} has shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}")
    return {name: found[name].to(tensor.dtype) for name, tensor in names.items()}
