"""The user's own images and tables: what is read, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy
import pandas
import pytest
import torch
from PIL import Image

from gapbench.datasets.errors import InputError
from gapbench.datasets.folder import folder
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.datasets.table import table

PIXELS = numpy.random.default_rng(0).integers(256, size=(12, 5, 6, 3)).astype(numpy.uint8)
FOLDER = DataSpec("folder", 8, path="images")


def write(path: Path, names: dict[str, list[int]], mode: str = "RGB") -> None:
    for name, rows in names.items():
        (path / name).mkdir(parents=True)
        for row in rows:
            Image.fromarray(PIXELS[row]).convert(mode).save(path / name / f"{row}.png")


def rows(inputs: torch.Tensor) -> list[int]:
    """Which images these are, by the order of their pixels: standardisation keeps it in each channel."""
    orders = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).flatten(2).double()
    found = []
    for one in inputs.flatten(2).double():
        same = [
            row for row, other in enumerate(orders) if torch.corrcoef(torch.stack([one[0], other[0]]))[0, 1] > 0.9999
        ]
        found += same
    return found


def test_a_folder_a_class_is_split_by_the_seed_and_standardised(tmp_path: Path) -> None:
    write(tmp_path / "images", {"cat": list(range(7)), "ant": list(range(7, 12))})
    (tmp_path / "images" / "cat" / "notes.txt").write_text("no image")
    train, test = load(FOLDER, tmp_path)
    assert train.inputs.shape == (8, 3, 5, 6)
    assert len(test) == 4
    assert train.classes == 2
    assert sorted(rows(train.inputs) + rows(test.inputs)) == list(range(12))
    # Classes in the order of their names: ant is 0.
    assert train.labels.tolist() == [int(row < 7) for row in rows(train.inputs)]
    torch.testing.assert_close(train.inputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.inputs.std(dim=(0, 2, 3), correction=0), torch.ones(3))
    assert rows(load(DataSpec("folder", 8, path="images", seed=1), tmp_path)[0].inputs) != rows(train.inputs)


def test_folders_train_and_test_are_the_samples(tmp_path: Path) -> None:
    write(tmp_path / "images" / "train", {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}, "L")
    write(tmp_path / "images" / "test", {"b": [8, 9], "a": [10]}, "L")
    train, test = folder(FOLDER, tmp_path)
    assert train.inputs.shape == (8, 1, 5, 6)
    assert test.labels.tolist() == [0, 1, 1]
    write(tmp_path / "images" / "test", {"c": [11]}, "L")
    with pytest.raises(InputError, match="a class 'c' that train has not"):
        folder(FOLDER, tmp_path)


def test_images_that_are_missing_damaged_or_unlike_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the path of a folder"):
        folder(DataSpec("folder", 8), tmp_path)
    with pytest.raises(InputError, match=r"there is no .*images"):
        folder(FOLDER, tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has no folder in it"):
        folder(FOLDER, tmp_path)
    (tmp_path / "images" / "empty").mkdir()
    with pytest.raises(InputError, match="there is no image"):
        folder(FOLDER, tmp_path)
    write(tmp_path / "images", {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]})
    file = tmp_path / "images" / "b" / "5.png"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"5\.png cannot be decoded"):
        folder(FOLDER, tmp_path)
    Image.fromarray(PIXELS[5][:4]).save(file)
    with pytest.raises(InputError, match=r"5\.png has 6x4 pixels, and .*0\.png 6x5"):
        folder(FOLDER, tmp_path)
    Image.fromarray(PIXELS[5]).convert("RGBA").save(file)
    with pytest.raises(InputError, match="mode 'RGBA'"):
        folder(FOLDER, tmp_path)
    with pytest.raises(InputError, match=r"5\.png is a file"):
        folder(DataSpec("folder", 8, path=str(file)), None)


FRAME = pandas.DataFrame(
    {"height": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "kind": list("bababa"), "legs": [4, 4, 4, 4, 4, 4], "age": range(6)}
)
TABLE = DataSpec("table", 4, path="mine.csv", label_column="kind")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_split_by_the_seed_and_standardised(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        FRAME.to_csv(path, index=False)
    else:
        FRAME.to_parquet(path)
    train, test = load(DataSpec("table", 4, path=path.name, label_column="kind"), tmp_path)
    assert train.inputs.shape == (4, 3)
    assert len(test) == 2
    torch.testing.assert_close(train.inputs[:, [0, 2]].mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.inputs[:, [0, 2]].std(dim=0, correction=0), torch.ones(2))
    assert (train.inputs[:, 1] == 0).all()  # constant
    everything = torch.cat([train.inputs, test.inputs])[:, 2]
    order = everything.argsort()
    assert torch.cat([train.labels, test.labels])[order].tolist() == [1, 0, 1, 0, 1, 0]  # b is 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": [1.0, float("nan"), 3.0, 4.0, 5.0, 6.0]}, "row 2: column 'height' has nan"),
        ({"height": list("xyzxyz")}, "column 'height' holds 'x', no number"),
        ({"kind": ["a", "b", None, "a", "b", "a"]}, "row 3: column 'kind' has no label"),
        ({"kind": [0.5, 1.5, 0.5, 1.5, 0.5, 1.5]}, "with a fraction"),
        ({"kind": ["a"] * 6}, "every label"),
    ],
)
def test_columns_that_cannot_be_learnt_from_are_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    FRAME.assign(**change).to_csv(tmp_path / "mine.csv", index=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        table(TABLE, tmp_path)


def test_tables_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the path of a CSV or Parquet file"):
        table(DataSpec("table", 4), tmp_path)
    with pytest.raises(InputError, match=r"there is no .*mine\.csv"):
        table(TABLE, tmp_path)
    FRAME.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(InputError, match="did you mean kind"):
        table(DataSpec("table", 4, path="mine.csv", label_column="kin"), tmp_path)
    FRAME.to_parquet(tmp_path / "mine.parquet")
    whole = (tmp_path / "mine.parquet").read_bytes()
    (tmp_path / "mine.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"mine\.parquet cannot be read as parquet"):
        table(DataSpec("table", 4, path="mine.parquet", label_column="kind"), tmp_path)
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(InputError, match=r"mine\.csv cannot be read as csv"):
        table(TABLE, tmp_path)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"neither \.csv nor \.parquet"):
        table(DataSpec("table", 4, path="mine.txt"), tmp_path)
