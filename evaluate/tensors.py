"""What training leaves behind, as bytes and back: safetensors for tensors, Parquet for the training curve."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Mapping
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
    """The inverse of `weights_content`, for a network whose state dict has these names in this order."""
    parts = _parts(content, names)
    return parts["initial"], parts["final"]


def trajectory_content(trajectory: Trajectory) -> bytes:
    """The state dicts along the path, under the keys ``<epoch>.<name>``."""
    return _content({str(epoch): state for epoch, state in trajectory.states.items()})


def trajectory(content: bytes, names: Collection[str]) -> Trajectory:
    """The inverse of `trajectory_content`, for a network whose state dict has these names in this order."""
    from gapbench.models.trained import Trajectory

    states = {int(epoch): state for epoch, state in _parts(content, names).items()}
    return Trajectory(dict(sorted(states.items())))


def _content(parts: Mapping[str, State]) -> bytes:
    import safetensors.torch

    # Clones, because safetensors refuses tensors that share memory (tied weights).
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().clone().contiguous()
        for part, state in parts.items()
        for name, tensor in state.items()
    }
    content: bytes = safetensors.torch.save(tensors)
    return content


def _parts(content: bytes, names: Collection[str]) -> dict[str, dict[str, Tensor]]:
    import safetensors.torch

    tensors = safetensors.torch.load(content)
    parts = {key.partition(".")[0] for key in tensors}
    # Loaded tensors come in an order that changes from load to load, at addresses of any alignment; sums over them
    # would differ in their last bits. Clones are aligned.
    return {part: {name: tensors[f"{part}.{name}"].clone() for name in names} for part in sorted(parts)}


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
