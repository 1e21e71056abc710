"""CIFAR-10's published batches, pickled and binary: files made in their forms, and how they can be wrong."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from gapbench.datasets import cifar
from gapbench.datasets.errors import InputError
from gapbench.datasets.spec import DataSpec
from gapbench.datasets.vision import CIFAR10_MEAN, CIFAR10_STD, cifar10

ROWS = 4
PIXELS = numpy.random.default_rng(0).integers(256, size=(6 * ROWS, 3072)).astype(numpy.uint8)
LABELS = [row % 10 for row in range(6 * ROWS)]
SPEC = DataSpec("cifar10", 5 * ROWS - 1)
NAMES = (*cifar.BATCHES["train"], *cifar.BATCHES["test"])

# What Python 2 with NumPy 1 wrote, in protocol 2: {'data': array([[7, 200]], uint8), 'labels': [3]}.
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x02\x86"
    b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\xc8tb"
    b"U\x06labels]K\x03au."
)


def pickled(part: slice, protocol: int = 2) -> bytes:
    record = {"batch_label": "a batch", "labels": LABELS[part], "data": PIXELS[part], "filenames": ["a.png"] * ROWS}
    return pickle.dumps(record, protocol=protocol)


def binary(part: slice) -> bytes:
    labels = numpy.array(LABELS[part], numpy.uint8)[:, None]
    return numpy.concatenate([labels, PIXELS[part]], axis=1).tobytes()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "BATCH_ROWS", ROWS)
    monkeypatch.setattr(cifar, "check_md5", lambda path, expected: None)


def fill(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        part = slice(number * ROWS, (number + 1) * ROWS)
        if kind == "binary":
            (folder / f"{name}.bin").write_bytes(binary(part))
        else:
            (folder / name).write_bytes(pickled(part))
    return folder


@pytest.mark.parametrize("above", ["", "cifar10"])
@pytest.mark.parametrize(("kind", "name"), [("pickled", cifar.PICKLED), ("binary", cifar.BINARY)])
def test_both_forms_are_read_in_both_places(tmp_path: Path, kind: str, name: str, above: str) -> None:
    fill(tmp_path / above / name, kind)
    train, test = cifar10(SPEC, tmp_path)
    assert train.inputs.shape == (5 * ROWS - 1, 3, 32, 32)
    mean, std = (torch.tensor(c)[:, None, None] for c in (CIFAR10_MEAN, CIFAR10_STD))
    pool = torch.from_numpy(PIXELS).view(-1, 3, 32, 32).float()
    found = set()
    for image, label in zip(train.inputs, train.labels, strict=True):
        row = int(((pool - (image * std + mean) * 255).abs().amax(dim=(1, 2, 3)) < 0.01).nonzero())
        assert int(label) == LABELS[row]
        found.add(row)
    assert len(found) == 5 * ROWS - 1
    assert max(found) < 5 * ROWS
    torch.testing.assert_close((test.inputs * std + mean) * 255, pool[5 * ROWS :], atol=0.01, rtol=0)


def test_what_python_2_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(PYTHON_2)
    with (tmp_path / "batch").open("rb") as file:
        record = cifar._Arrays(file, encoding="latin1").load()
    assert record["data"].tolist() == [[7, 200]]
    assert record["data"].dtype == numpy.uint8
    assert record["labels"] == [3]


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a pickle",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_in_a_batch_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    folder = fill(tmp_path / cifar.PICKLED, "pickled")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": _Code(), "labels": []}, protocol=protocol))
    with pytest.raises(InputError, match=r"test_batch cannot be read .*it names \w+\.mkdir"):
        cifar10(SPEC, tmp_path)
    assert not (tmp_path / "made by a pickle").exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert (tmp_path / "made by a pickle").exists(), "the control: the pickle runs code"


def test_what_is_missing_damaged_or_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cifar-10-batches-py"):
        cifar10(SPEC, tmp_path)
    folder = fill(tmp_path / cifar.PICKLED, "pickled")
    file = folder / "data_batch_3"
    content = file.read_bytes()
    for wrong, message in (
        (content[:-20], "data_batch_3 cannot be read as a batch"),
        (pickle.dumps({"data": PIXELS[:2], "labels": LABELS[:ROWS]}), "data_batch_3: its data are not bytes of shape"),
        (pickle.dumps({"data": PIXELS[:ROWS], "labels": [10] * ROWS}), "data_batch_3: its labels are not 4 integers"),
        (pickle.dumps({"data": PIXELS[:ROWS], "labels": ["a"] * ROWS}), "data_batch_3: its labels are no integers"),
        (pickle.dumps({"data": PIXELS[:ROWS]}), r"data_batch_3 cannot be read as a batch of CIFAR-10 \('labels'\)"),
    ):
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=message):
            cifar10(SPEC, tmp_path)
    file.unlink()
    with pytest.raises(InputError, match="data_batch_3 is missing: unpack"):
        cifar10(SPEC, tmp_path)
    file.write_bytes(content)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"data_batch_1 .* altered: its MD5 is .* c99cafc152244af753f735de768cd75f"):
        cifar10(SPEC, tmp_path)


def test_a_truncated_binary_batch_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / cifar.BINARY, "binary")
    file = folder / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"data_batch_2\.bin has 12,291 bytes, not the 12,292"):
        cifar10(SPEC, tmp_path)
