"""Fashion-MNIST and SVHN: files of the published forms with other digests, and every way in which they can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy
import pytest
import scipy.io
import torch

from gapbench.datasets import fashion, svhn
from gapbench.datasets.errors import InputError
from gapbench.datasets.fashion import fashion_mnist
from gapbench.datasets.files import check_md5
from gapbench.datasets.spec import DataSpec

IMAGES = numpy.random.default_rng(0).integers(256, size=(12, 28, 28)).astype(numpy.uint8)
LABELS = (numpy.arange(12) % 10).astype(numpy.uint8)
FASHION = DataSpec("fashion_mnist", 8, test_size=3)
DIGITS = numpy.random.default_rng(1).integers(256, size=(32, 32, 3, 12)).astype(numpy.uint8)
SVHN = DataSpec("svhn", 8, test_size=5)


def idx(array: numpy.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def small_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fashion, "_ROWS", {"train": 12, "t10k": 12})
    (tmp_path / "fashion_mnist").mkdir()
    for prefix in ("train", "t10k"):
        (tmp_path / "fashion_mnist" / f"{prefix}-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (tmp_path / "fashion_mnist" / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(LABELS))
    return tmp_path


def test_fashion_mnist_is_read_and_standardised(small_fashion: Path) -> None:
    train, test = fashion_mnist(FASHION, small_fashion)
    assert train.inputs.shape == (8, 1, 28, 28)
    assert len(test) == 3
    for split in (train, test):
        pixels = (split.inputs * 0.3530 + 0.2860) * 255
        for image, label in zip(pixels, split.labels, strict=True):
            row = int(((torch.from_numpy(IMAGES).float() - image).abs().amax(dim=(1, 2)) < 0.01).nonzero())
            assert int(label) == LABELS[row]


def test_fashion_mnist_that_is_missing_altered_or_another_is_named(small_fashion: Path) -> None:
    with pytest.raises(InputError, match="no data folder is given"):
        fashion_mnist(FASHION, None)
    file = small_fashion / "fashion_mnist" / "train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(idx(IMAGES[:5]))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte holds .* not \(12, 28, 28\)"):
        fashion_mnist(FASHION, small_fashion)
    file.write_bytes(content[:-1])
    with pytest.raises(InputError, match="truncated"):
        fashion_mnist(FASHION, small_fashion)
    file.with_name("train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(
        InputError, match=r"\.gz .*truncated or altered: its MD5 is .* 8d4fb7e6c68d591d4c3dfef9ec88bf0d"
    ):
        fashion_mnist(FASHION, small_fashion)
    file.with_name("train-images-idx3-ubyte.gz").unlink()
    file.unlink()
    with pytest.raises(InputError, match=r"no file train-images-idx3-ubyte\.gz or train-images-idx3-ubyte in"):
        fashion_mnist(FASHION, small_fashion)


def test_md5_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    check_md5(tmp_path / "x", "900150983cd24fb0d6963f7d28e17f72")  # RFC 1321
    with pytest.raises(InputError, match="altered"):
        check_md5(tmp_path / "x", "0" * 32)


@pytest.fixture
def small_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "svhn").mkdir()
    for part in ("train", "test"):
        arrays = {"X": DIGITS, "y": (numpy.arange(12) % 10 + 1)[:, None].astype(numpy.uint8)}
        scipy.io.savemat(tmp_path / "svhn" / f"{part}_32x32.mat", arrays, do_compression=True)
    monkeypatch.setattr(svhn, "check_md5", lambda path, expected: None)
    return tmp_path


def test_svhn_is_read_and_standardised_and_ten_is_nought(small_svhn: Path) -> None:
    train, test = svhn.svhn(SVHN, small_svhn)
    assert train.inputs.shape == (8, 3, 32, 32)
    assert len(test) == 5
    mean, std = (torch.tensor(c)[:, None, None] for c in (svhn.SVHN_MEAN, svhn.SVHN_STD))
    pool = torch.from_numpy(DIGITS).permute(3, 2, 0, 1).float()
    for image, label in zip(train.inputs, train.labels, strict=True):
        row = int(((pool - (image * std + mean) * 255).abs().amax(dim=(1, 2, 3)) < 0.01).nonzero())
        assert int(label) == (row % 10 + 1) % 10
    assert 0 in svhn.read_svhn(small_svhn / "svhn" / "train_32x32.mat")[1]


def test_svhn_that_is_missing_damaged_or_another_is_named(small_svhn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small_svhn / "svhn" / "test_32x32.mat"
    content = file.read_bytes()
    file.write_bytes(content[:-500])
    with pytest.raises(InputError, match=r"test_32x32\.mat cannot be read as a MATLAB file"):
        svhn.svhn(SVHN, small_svhn)
    scipy.io.savemat(file, {"X": DIGITS, "y": numpy.full((12, 1), 11)})
    with pytest.raises(InputError, match="labels run from 11 to 11"):
        svhn.svhn(SVHN, small_svhn)
    scipy.io.savemat(file, {"X": DIGITS[..., 0], "y": numpy.ones((12, 1))})
    with pytest.raises(InputError, match="X is uint8 of shape"):
        svhn.svhn(SVHN, small_svhn)
    scipy.io.savemat(file, {"X": DIGITS})
    with pytest.raises(InputError, match="no array 'y'"):
        svhn.svhn(SVHN, small_svhn)
    monkeypatch.undo()
    file.with_name("train_32x32.mat").write_bytes(content)
    with pytest.raises(
        InputError, match=r"train_32x32\.mat .* altered: its MD5 is .* e26dedcc434d2e4c54c9b2d4a06d8373"
    ):
        svhn.svhn(SVHN, small_svhn)
    with pytest.raises(InputError, match=r"no file train_32x32\.mat"):
        svhn.svhn(SVHN, small_svhn / "elsewhere")
