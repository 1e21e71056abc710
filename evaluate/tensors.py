"""What training leaves behind, as bytes and back: safetensors for tensors, Parquet for the training curve."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy
import pyarrow
import pyarrow.parquet
import safetensors.numpy

if TYPE_CHECKING:
    from torch import Tensor

    from gapbench.models.trained import History, TestResults, Trajectory

State = Mapping[str, "Tensor"]


def weights_content(initial: State, final: State) -> bytes:
    """Initial and final state dict, under the keys ``initial.<name>`` and ``final.<name>``."""
    return _content({"initial": initial, "final": final})


def weights(content: bytes, names: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inverse of `weights_content`, for a network whose state dict has these names in this order.

    The initial state dict is empty where none was kept.
    """
    parts = _parts(content, names)
    return parts.get("initial", {}), parts["final"]


_RECORD = "record"


def trajectory_content(trajectory: Trajectory) -> bytes:
    """The state dicts along the path, under the keys ``<epoch>.<name>`` and ``step<steps>.<name>``.

    Preconditioners are under ``scale<steps>.<name>``. What else it says is JSON, as bytes, under the key ``record``.
    """
    import torch

    kept = ("momentum", "weight_decay", "preconditioned", "loss", "decoupled")
    record = {name: getattr(trajectory, name) for name in kept}
    record["step_sizes"] = {point.steps: point.step_size for point in trajectory.checkpoints}
    parts = {str(epoch): state for epoch, state in trajectory.states.items()}
    parts |= {f"step{point.steps}": point.state for point in trajectory.checkpoints}
    parts |= {f"scale{point.steps}": point.preconditioner for point in trajectory.checkpoints if point.preconditioner}
    text = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
    return _content(parts, {_RECORD: text})


def trajectory(content: bytes, names: Collection[str]) -> Trajectory:
    """The inverse of `trajectory_content`, for a network whose state dict has these names in this order."""
    from gapbench.models.trained import Checkpoint, Trajectory

    parts = _parts(content, names)
    # Those of the first versions have no record, and no checkpoints that would need one.
    record = json.loads(bytes(safetensors.numpy.load(content).get(_RECORD, numpy.frombuffer(b"{}", numpy.uint8))))
    sizes = {int(steps): size for steps, size in record.pop("step_sizes", {}).items()}
    checkpoints = tuple(
        Checkpoint(steps, size, parts.pop(f"step{steps}"), parts.pop(f"scale{steps}", None))
        for steps, size in sorted(sizes.items())
    )
    states = {int(epoch): state for epoch, state in parts.items()}
    return Trajectory(dict(sorted(states.items())), checkpoints, **record)


def _content(parts: Mapping[str, State], others: State = MappingProxyType({})) -> bytes:
    import safetensors.torch

    # Clones, because safetensors refuses tensors that share memory (tied weights).
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().clone().contiguous()
        for part, state in parts.items()
        for name, tensor in state.items()
    }
    tensors.update(others)
    content: bytes = safetensors.torch.save(tensors)
    return content


def _parts(content: bytes, names: Collection[str]) -> dict[str, dict[str, Tensor]]:
    import safetensors.torch

    tensors = safetensors.torch.load(content)
    parts = {key.partition(".")[0] for key in tensors if key != _RECORD}
    # Loaded tensors come in an order that changes from load to load, at addresses of any alignment; sums over them
    # would differ in their last bits. Clones are aligned.
    return {
        part: {
            name: tensors[f"{part}.{name}"].clone()
            for name in names
            # Only trained parameters have a scale.
            if f"{part}.{name}" in tensors or not part.startswith("scale")
        }
        for part in sorted(parts)
    }


def history_content(history: History) -> bytes:
    """The training curve as Parquet: a column for each record that was kept, one row an epoch."""
    columns = {field.name: getattr(history, field.name) for field in dataclasses.fields(history)}
    table = pyarrow.table({name: column.numpy() for name, column in columns.items() if column is not None})
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


def history(content: bytes) -> History:
    """The inverse of `history_content`; a record that was not kept is `None`."""
    import torch

    from gapbench.models.trained import History

    table = pyarrow.parquet.read_table(io.BytesIO(content))
    return History(**{name: torch.from_numpy(table[name].to_numpy().copy()) for name in table.column_names})


def results_content(results: TestResults) -> bytes:
    """Per-example test errors and losses under the training law, float32."""
    return _content({"test": {"errors": results.errors.float(), "losses": results.losses.float()}})


def test_errors(content: bytes) -> numpy.ndarray:
    """The per-example test errors in what `results_content` made; needs no torch."""
    errors: numpy.ndarray = safetensors.numpy.load(content)["test.errors"]
    return errors
