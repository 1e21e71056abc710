"""Grids: expansion, twins, shards, identities, and every mistake a grid can hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.zoo import bundled, load_zoo, parse, shard
from gapbench.models.spec import as_dict, from_dict, run_id, twin

GRID = """
name = "small"
seeds = [0, 1]
[data]
name = "digits"
train_size = 64
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 16
[axes]
width = [8, 16]
"""


def test_every_true_label_run_has_its_twin() -> None:
    zoo = parse(GRID, "small.toml")
    ids = {run_id(spec) for spec in zoo.specs}
    assert len(zoo.specs) == len(ids) == 8
    for spec in zoo.specs:
        if spec.data.label_noise == 0.0:
            assert run_id(twin(spec)) in ids
    assert zoo.axes == {"width": (8, 16)}
    assert zoo.source_text == GRID


def test_twins_that_the_grid_has_are_not_added_again() -> None:
    zoo = parse(GRID + "label_noise = [0.0, 0.5, 1]\n", "small.toml")
    assert len(zoo.specs) == 2 * 2 * 3
    assert {spec.data.label_noise for spec in zoo.specs} == {0.0, 0.5, 1.0}


def test_a_grid_without_true_labels_gets_no_twins() -> None:
    assert len(parse(GRID + "label_noise = [0.5]\n", "small.toml").specs) == 4
    assert len(parse("twins = false\n" + GRID, "small.toml").specs) == 4


def test_the_root_seed_reaches_runs_and_data() -> None:
    zoo = parse(GRID, "small.toml", root_seed=7)
    assert {(spec.root_seed, spec.data.seed) for spec in zoo.specs} == {(7, 7)}
    assert {run_id(s) for s in zoo.specs}.isdisjoint(run_id(s) for s in parse(GRID, "small.toml").specs)


def test_golden_ids() -> None:
    """Ids are the names of stored work: if this fails, the change loses every zoo that anyone has."""
    zoo = parse(GRID, "small.toml")
    assert [run_id(spec) for spec in zoo.specs[:4]] == [
        "a76ab1491266e8a38660",
        "bd6653986ec8a53ce763",
        "06fec90a36d048be03d1",
        "1f36e506c17c5eecd783",
    ]
    assert run_id(parse(GRID, "small.toml", root_seed=1).specs[0]) == "6d466d6adbd3e6740b16"


def test_specs_survive_json() -> None:
    for spec in load_zoo("quick", root_seed=3).specs:
        assert from_dict(as_dict(spec)) == spec


def test_whole_numbers_become_floats() -> None:
    one = parse(GRID.replace("learning_rate = 0.1", "learning_rate = 1"), "a.toml")
    other = parse(GRID.replace("learning_rate = 0.1", "learning_rate = 1.0"), "a.toml")
    assert [run_id(s) for s in one.specs] == [run_id(s) for s in other.specs]


def test_data_axes_and_unions_of_grids() -> None:
    text = GRID + 'train_size = [32, 64]\n[[grids]]\naxes.depth = [2]\n[[grids]]\ndata.name = "teacher"\n'
    zoo = parse(text.replace("train_size = 64", ""), "union.toml")
    found = {(s.data.name, s.depth, s.data.train_size) for s in zoo.specs}
    assert found == {("digits", 2, 32), ("digits", 2, 64), ("teacher", 1, 32), ("teacher", 1, 64)}


def test_datasets_as_an_axis() -> None:
    zoo = parse(GRID.replace('name = "digits"', "") + 'dataset = ["digits", "teacher"]\n', "a.toml")
    assert {s.data.name for s in zoo.specs} == {"digits", "teacher"}
    replaced = parse(GRID + '[[grids]]\naxes.dataset = ["mnist"]\n', "a.toml")
    assert {s.data.name for s in replaced.specs} == {"mnist"}


def test_trajectory() -> None:
    zoo = parse(GRID + "[trajectory]\nepochs = [5, 1]\nstored = true\n", "a.toml")
    assert (zoo.trajectory_epochs, zoo.trajectory_stored) == ((1, 5), True)
    assert not zoo.trajectory_checkpoints
    assert parse(GRID + "[trajectory]\ncheckpoints = true\n", "a.toml").trajectory_checkpoints


@pytest.mark.parametrize("name", bundled())
def test_bundled_zoos_load(name: str) -> None:
    zoo = load_zoo(name)
    assert zoo.name == name
    assert zoo.description
    assert any(spec.data.label_noise == 1.0 for spec in zoo.specs)


def test_quick_is_the_grid_times_seeds() -> None:
    zoo = load_zoo("quick")
    cells = 2
    for values in zoo.axes.values():
        cells *= len(values)
    assert len(zoo.specs) == cells


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
def test_shards_are_a_partition(parts: int) -> None:
    specs = parse(GRID + "label_noise = [0.0, 0.5, 1.0]\n", "a.toml").specs
    shards = [shard(specs, f"{index}/{parts}") for index in range(1, parts + 1)]
    assert sorted(run_id(s) for part in shards for s in part) == sorted(run_id(s) for s in specs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_wrong_shards(part: str) -> None:
    with pytest.raises(InputError, match="third of sixteen"):
        shard(load_zoo("quick").specs, part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("width = [8, 16]", "widht = [8, 16]"), "a.toml: unknown axis 'widht'; did you mean width"),
        (("width = [8, 16]", "width = []"), "axis width is empty"),
        (("width = [8, 16]", "width = 8"), r"axis width is 8, but must be a list: write \[8\]"),
        (("width = [8, 16]", 'width = [8, "16"]'), r"width has the value '16' \(str\), but must be a whole number"),
        (("width = [8, 16]", "width = [8, 16.0]"), r"width has the value 16.0 \(float\), but must be a whole number"),
        (("width = [8, 16]", "width = [true]"), r"width has the value True \(bool\)"),
        (("width = [8, 16]", "width = [8, 8]"), "axis width has the value 8 twice"),
        (("width = [8, 16]", "width = [0]"), "width has the value 0, but must be at least 1"),
        (
            ("width = [8, 16]", "width = [8]\nlabel_noise = [1.5]"),
            "label_noise has the value 1.5, but must be at least",
        ),
        (("width = [8, 16]", "width = [8]\nweight_decay = [inf]"), "weight_decay has the value inf"),
        (("width = [8, 16]", "width = [8]\ndepth = [1]"), "depth is both fixed .1. and an axis"),
        (("width = [8, 16]", "width = [8]\nseed = [1]"), "write seeds"),
        (("width = [8, 16]", ""), "the grid lacks width"),
        (
            ("learning_rate = 0.1", 'learning_rate = "0.1"'),
            r"learning_rate has the value '0.1' \(str\), but must be a nu",
        ),
        (("learning_rate = 0.1", "learning_rat = 0.1"), r"field of \[run\] 'learning_rat'; did you mean learning_rate"),
        (("train_size = 64", "train_sise = 64"), "did you mean train_size"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "seeds has the value 0 twice"),
        (("seeds = [0, 1]", "seeds = []"), "seeds is empty"),
        (("seeds = [0, 1]", "sseds = [0]"), "did you mean seeds"),
        (("[axes]", "[axis]"), "did you mean axes"),
        (("batch_size = 16", "batch_size = "), r"a\.toml, line 11: this is not TOML"),
        (("width = [8, 16]", "width = [8, 16"), r"a\.toml, line \d+: this is not TOML"),
    ],
)
def test_mistakes(change: tuple[str, str], message: str) -> None:
    assert change[0] in GRID
    with pytest.raises(InputError, match=message):
        parse(GRID.replace(*change), "a.toml")


def test_unknown_zoo_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown zoo 'quikc'; did you mean quick"):
        load_zoo("quikc")
    with pytest.raises(InputError, match=r"there is no grid .*missing\.toml"):
        load_zoo(tmp_path / "missing.toml")
    path = tmp_path / "mine.toml"
    path.write_text(GRID)
    assert load_zoo(path).name == "small"
