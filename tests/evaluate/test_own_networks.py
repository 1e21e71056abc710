"""Networks and data of the user's own in a zoo: trained, read by workers, and refused once they have changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.execute import run
from gapbench.evaluate.plan import plan
from gapbench.evaluate.sources import content_digest
from gapbench.evaluate.store import Store
from gapbench.evaluate.zoo import Zoo, parse

NETWORKS = """
import math

import gapbench
from torch import nn


@gapbench.architecture(width=8)
class Mine(nn.Sequential):
    def __init__(self, spec, input_shape, classes):
        units = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(units, spec.width), nn.Softplus(), nn.Linear(spec.width, classes))
"""
GRID = """
name = "own"
[data]
name = "npz"
path = "mine.npz"
train_size = 12
[run]
architecture = "Mine"
depth = 1
learning_rate = 0.1
batch_size = 6
max_epochs = 2
[axes]
width = [4, 5]
[trajectory]
epochs = [1]
"""
Result = Callable[[Path], dict[str, Any]]


@pytest.fixture
def own(tmp_path: Path) -> tuple[Zoo, Path]:
    rng = numpy.random.default_rng(0)
    arrays = {"x_train": rng.standard_normal((20, 3)), "y_train": numpy.arange(20) % 2}
    numpy.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "networks.py").write_text(NETWORKS)
    return parse(GRID, "own.toml"), tmp_path / "networks.py"


def test_workers_know_the_users_network(
    tmp_path: Path, own: tuple[Zoo, Path], measure_file: Path, result: Result
) -> None:
    zoo, networks = own
    options: dict[str, Any] = {
        "files": [measure_file], "networks": [networks], "data_dir": tmp_path, "progress": False
    }  # fmt: skip
    keys = ["weight_sum", "drawn"]
    assert plan(zoo, tmp_path / "one", keys, files=[measure_file], networks=[networks]).trainings_to_do == 4
    first = run(zoo, tmp_path / "one", keys, **options)
    assert (first.trained, first.readings_ok, first.problems) == (4, 8, ())
    run(zoo, tmp_path / "two", keys, jobs=2, **options)
    assert result(tmp_path / "one") == result(tmp_path / "two")
    assert not run(zoo, tmp_path / "one", keys, **options).trained


def test_without_its_file_a_network_is_unknown(tmp_path: Path, own: tuple[Zoo, Path]) -> None:
    with pytest.raises(InputError, match="unknown architecture 'Mine'"):
        run(own[0], tmp_path / "zoo", [], data_dir=tmp_path, progress=False)
    assert not (tmp_path / "zoo").exists()


def test_a_network_or_data_that_changed_is_refused(tmp_path: Path, own: tuple[Zoo, Path]) -> None:
    zoo, networks = own
    out, options = tmp_path / "zoo", {"networks": [networks], "data_dir": tmp_path, "progress": False}
    run(zoo, out, [], part="1/2", **options)  # type: ignore[arg-type]
    networks.write_text("# a comment\n" + NETWORKS)
    assert run(zoo, out, [], **options).trained == 2  # type: ignore[arg-type]
    networks.write_text(NETWORKS.replace("Softplus", "Tanh"))
    with pytest.raises(InputError, match=r"network Mine has changed since .*zoo was begun .* --out"):
        run(zoo, out, [], **options)  # type: ignore[arg-type]
    networks.write_text(NETWORKS)
    data = tmp_path / "mine.npz"
    content = data.read_bytes()
    numpy.savez(data, x_train=numpy.ones((20, 3)), y_train=numpy.arange(20) % 2)
    with pytest.raises(InputError, match=r"data mine\.npz has changed"):
        run(zoo, out, [], **options)  # type: ignore[arg-type]
    data.write_bytes(content)
    assert not run(zoo, out, [], **options).problems  # type: ignore[arg-type]
    assert len(Store(out).runs()) == 4


def test_digests_of_folders_see_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = content_digest(tmp_path)
    assert content_digest(tmp_path) == first
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    renamed = content_digest(tmp_path)
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, renamed, content_digest(tmp_path)}) == 3
