from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec, Split
from gapbench.datasets.tabular import npz

X = numpy.random.default_rng(0).standard_normal((30, 2, 3))
Y = numpy.arange(30) % 3
X_TEST, Y_TEST = X[:8] + 100, numpy.array([0, 1, 2, 3, 0, 1, 2, 3])


def read(folder: Path, arrays: dict[str, Any], **fields: Any) -> tuple[Split, Split]:
    numpy.savez(folder / "mine.npz", **arrays)
    return npz(DataSpec("npz", **{"train_size": 20, "path": "mine.npz"} | fields), folder)


def rows(split: Split, pool: Any) -> list[int]:
    """Which rows of the pool a split consists of."""
    return [int((torch.from_numpy(pool).float() == x).flatten(1).all(dim=1).nonzero()) for x in split.inputs]


def test_without_test_arrays_the_sample_is_split_by_the_seed(tmp_path: Path) -> None:
    train, test = read(tmp_path, {"x_train": X, "y_train": Y})
    assert train.inputs.shape == (20, 2, 3)
    assert train.inputs.dtype == torch.float32
    assert train.classes == test.classes == 3
    assert sorted(rows(train, X) + rows(test, X)) == list(range(30))
    assert train.labels.tolist() == Y[rows(train, X)].tolist()
    assert test.labels.tolist() == Y[rows(test, X)].tolist()
    other, _ = read(tmp_path, {"x_train": X, "y_train": Y}, seed=1)
    assert rows(other, X) != rows(train, X)
    assert len(read(tmp_path, {"x_train": X, "y_train": Y}, test_size=4)[1]) == 4


def test_with_test_arrays_the_test_sample_is_theirs(tmp_path: Path) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X_TEST, "y_test": Y_TEST}
    train, test = read(tmp_path, arrays, train_size=30)
    assert sorted(rows(train, X)) == list(range(30))
    assert rows(test, X_TEST) == list(range(8))
    assert test.labels.tolist() == Y_TEST.tolist()
    assert train.classes == 4
    assert len(read(tmp_path, arrays, test_size=5)[1]) == 5


def test_classes_can_be_more_than_the_labels_show(tmp_path: Path) -> None:
    assert read(tmp_path, {"x_train": X, "y_train": Y}, classes=5)[0].classes == 5
    with pytest.raises(InputError, match="label 2 is not below classes = 2"):
        read(tmp_path, {"x_train": X, "y_train": Y}, classes=2)


def test_the_cache_cannot_be_corrupted(tmp_path: Path) -> None:
    first, _ = read(tmp_path, {"x_train": X, "y_train": Y})
    kept = first.inputs.clone()
    first.inputs.zero_()
    first.labels.zero_()
    again, _ = npz(DataSpec("npz", 20, path="mine.npz"), tmp_path)
    assert torch.equal(again.inputs, kept)
    assert again.labels.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": None}, "has no array x_train; it has y_train"),
        ({"y_train": None}, "has no array y_train; it has x_train"),
        ({"x_test": X_TEST}, "has no array y_test"),
        ({"y_test": Y_TEST}, "has no array x_test"),
        ({"y_train": Y.astype(float)}, "y_train is float64, not integer class labels"),
        ({"y_train": Y - 1}, "y_train runs from -1 to 1"),
        ({"y_train": Y[:-1]}, r"y_train has shape \(29,\) where x_train has \(30, 2, 3\)"),
        ({"y_train": numpy.eye(30, dtype=int)}, r"y_train has shape \(30, 30\)"),
        ({"y_train": Y * 0}, r"largest label is 0, which would make 1 class\(es\) of 30"),
        ({"y_train": Y * 1_000_000}, "largest label is 2,000,000"),
        ({"y_train": numpy.full(30, 2**64 - 1, dtype=numpy.uint64)}, "y_train runs from 18446744073709551615"),
        ({"x_train": X[:, 0, 0]}, r"x_train is float64 of shape \(30,\)"),
        ({"x_train": X.astype(complex)}, "x_train is complex128"),
        (
            {"x_train": numpy.where(X[4, 1, 2] == X, numpy.nan, X)},
            "1 values of x_train are not finite .* the first nan",
        ),
        ({"x_train": numpy.where(X[4, 1, 2] == X, numpy.inf, X)}, "the first inf"),
        ({"x_train": X * 1e300}, "180 values of x_train are not finite float32"),
        ({"x_test": X_TEST[:, :1], "y_test": Y_TEST}, r"x_train has shape \(2, 3\), and one of x_test \(1, 3\)"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "at least one"),
        ({"x_train": numpy.array([{}] * 30).reshape(30, 1)}, "cannot be read as .npz without pickle"),
    ],
)
def test_what_is_wrong_with_the_arrays_is_said(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arrays = {key: array for key, array in ({"x_train": X, "y_train": Y} | change).items() if array is not None}
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, arrays)
    assert "mine.npz" in str(caught.value)


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_size 30 and at least one test example"):
        read(tmp_path, {"x_train": X, "y_train": Y}, train_size=30)
    arrays = {"x_train": X, "y_train": Y, "x_test": X_TEST, "y_test": Y_TEST}
    with pytest.raises(InputError, match="npz: train_size 31 is larger than the 30"):
        read(tmp_path, arrays, train_size=31)
    with pytest.raises(InputError, match="npz: test_size 9 is larger than the 8"):
        read(tmp_path, arrays, test_size=9)


def test_missing_and_strange_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="npz needs the path of a file"):
        npz(DataSpec("npz", 1), tmp_path)
    with pytest.raises(InputError, match=rf"no file {tmp_path}/none\.npz"):
        npz(DataSpec("npz", 1, path="none.npz"), tmp_path)
    numpy.save(tmp_path / "one.npy", X)
    with pytest.raises(InputError, match=r"is a single array, not an \.npz file"):
        npz(DataSpec("npz", 1, path="one.npy"), tmp_path)
    numpy.savez(tmp_path / "whole.npz", x_train=X, y_train=Y)
    for name, content in (
        ("cut.npz", (tmp_path / "whole.npz").read_bytes()[:-40]),
        ("text.npz", b"hello"),
        ("empty.npz", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as .npz"):
            npz(DataSpec("npz", 1, path=name), tmp_path)


def test_paths_are_absolute_or_in_the_data_folder_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numpy.savez(tmp_path / "mine.npz", x_train=X, y_train=Y)
    monkeypatch.chdir(tmp_path)
    for path, folder in (
        (str(tmp_path / "mine.npz"), tmp_path / "elsewhere"),
        ("mine.npz", tmp_path),
        ("mine.npz", None),
    ):
        assert len(npz(DataSpec("npz", 20, path=path), folder)[0]) == 20
