from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gapbench.datasets import vision
from gapbench.datasets.errors import InputError
from gapbench.datasets.idx import read_idx
from gapbench.datasets.parquet_images import read_images
from gapbench.datasets.spec import DataSpec, Split


def digest(split: Split) -> str:
    return hashlib.sha256(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()[:16]


def test_digits_are_pinned() -> None:
    train, test = vision.digits(DataSpec("digits", 1000, seed=3))
    assert train.inputs.shape == (1000, 1, 8, 8)
    assert test.inputs.shape == (797, 1, 8, 8)
    assert train.classes == test.classes == 10
    assert train.labels[:10].tolist() == [0, 7, 1, 6, 3, 0, 5, 3, 7, 0]
    assert (digest(train), digest(test)) == ("236dc8e048dd76aa", "d5842df4203d564b")


def test_digits_train_and_test_make_up_the_whole() -> None:
    from sklearn.datasets import load_digits

    train, test = vision.digits(DataSpec("digits", 1500))
    bundle = load_digits()
    labels = torch.cat([train.labels, test.labels])
    assert torch.equal(labels.bincount(), torch.from_numpy(bundle.target).bincount())
    images = torch.cat([train.inputs, test.inputs]).flatten(1)
    step = images.unique()
    assert len(step) == 17
    levels = torch.searchsorted(step, images)
    assert sorted(map(tuple, levels.tolist())) == sorted(map(tuple, bundle.data.astype(int).tolist()))


def test_digits_are_standardised_by_the_training_sample() -> None:
    train, test = vision.digits(DataSpec("digits", 50))
    assert train.inputs.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert train.inputs.double().std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert abs(test.inputs.mean().item()) > 1e-4


def test_digits_test_size_and_its_independence_of_train_size() -> None:
    small, large = (vision.digits(DataSpec("digits", size, test_size=300))[1].labels for size in (100, 1497))
    assert torch.equal(small, large)
    with pytest.raises(InputError, match="digits: train_size 1,498 and test_size 300 do not fit into the 1,797"):
        vision.digits(DataSpec("digits", 1498, test_size=300))


def test_digits_cannot_be_corrupted() -> None:
    first, _ = vision.digits(DataSpec("digits", 1000))
    before = digest(first)
    first.inputs.zero_()
    first.labels.zero_()
    assert digest(vision.digits(DataSpec("digits", 1000))[0]) == before


TRAIN = numpy.random.default_rng(0).integers(256, size=(40, 28, 28)).astype(numpy.uint8)
TEST = numpy.random.default_rng(1).integers(256, size=(20, 28, 28)).astype(numpy.uint8)


def idx(array: NDArray[numpy.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with forty and twenty images under MNIST's names, labels plain and images gzipped."""
    contents = {
        "train-images-idx3-ubyte": idx(TRAIN),
        "train-labels-idx1-ubyte": idx(numpy.arange(40, dtype=numpy.uint8) % 10),
        "t10k-images-idx3-ubyte": idx(TEST),
        "t10k-labels-idx1-ubyte": idx(numpy.arange(20, dtype=numpy.uint8) % 10),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(vision, "MNIST_SHA256", digests)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, content in contents.items():
        if "images" in name:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return tmp_path


def standardised_mnist(images: NDArray[numpy.uint8]) -> torch.Tensor:
    return ((torch.from_numpy(images).double() / 255 - 0.1307) / 0.3081)[:, None].float()


def test_mnist_from_files(small_mnist: Path) -> None:
    train, test = vision.mnist(DataSpec("mnist", 40), small_mnist)
    assert torch.allclose(test.inputs, standardised_mnist(TEST), atol=1e-5)
    assert test.labels.tolist() == list(range(10)) * 2
    order = torch.cdist(train.inputs.flatten(1), standardised_mnist(TRAIN).flatten(1)).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(40))
    assert torch.equal(train.labels, order % 10)
    smaller, fewer = vision.mnist(DataSpec("mnist", 7, test_size=3), small_mnist)
    assert torch.equal(smaller.inputs, train.inputs[:7])
    assert fewer.inputs.shape == (3, 1, 28, 28)


def test_mnist_sizes_beyond_the_pools_are_refused(small_mnist: Path) -> None:
    with pytest.raises(InputError, match="mnist: train_size 41 is larger than the 40 examples"):
        vision.mnist(DataSpec("mnist", 41), small_mnist)
    with pytest.raises(InputError, match="mnist: test_size 21 is larger than the 20 examples"):
        vision.mnist(DataSpec("mnist", 1, test_size=21), small_mnist)


def test_an_altered_mnist_file_is_refused(small_mnist: Path) -> None:
    path = small_mnist / "mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte is not the original file"):
        vision.mnist(DataSpec("mnist", 5), small_mnist)


def test_a_missing_mnist_file_is_named(small_mnist: Path) -> None:
    (small_mnist / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(
        InputError, match=r"no file train-images-idx3-ubyte or train-images-idx3-ubyte\.gz in .*mnist; get .*--data-dir"
    ):
        vision.mnist(DataSpec("mnist", 5), small_mnist)
    with pytest.raises(InputError, match="no data folder is given: set GAPBENCH_DATA or --data-dir"):
        vision.mnist(DataSpec("mnist", 5), None)


def test_cifar10_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "CIFAR10_ROWS", {"train": 6, "test": 3})
    pixels = numpy.random.default_rng(0).integers(256, size=(6, 32, 32, 3)).astype(numpy.uint8)
    (tmp_path / "cifar10").mkdir()
    for part, count in (("train", 6), ("test", 3)):
        rows = []
        for image in pixels[:count]:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": ""})
        table = pyarrow.table({"img": rows, "label": list(range(count))})
        pyarrow.parquet.write_table(table, tmp_path / "cifar10" / f"{part}.parquet")
    train, test = vision.cifar10(DataSpec("cifar10", 4), tmp_path)
    mean, std = numpy.array([0.4914, 0.4822, 0.4465]), numpy.array([0.2470, 0.2435, 0.2616])
    expected = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    assert train.inputs.shape == (4, 3, 32, 32)
    assert torch.allclose(train.inputs, expected[train.labels], atol=1e-5)
    assert torch.allclose(test.inputs, expected[:3], atol=1e-5)
    assert train.labels.dtype == torch.int64


def test_a_missing_cifar10_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cifar10: no file train\.parquet in .*cifar10; get cifar10 as torchvision"):
        vision.cifar10(DataSpec("cifar10", 4), tmp_path)


def test_real_mnist(data_dir: Path) -> None:
    train, test = vision.mnist(DataSpec("mnist", 60_000), data_dir)
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    scaled = train.inputs.double() * 0.3081 + 0.1307
    assert scaled.mean().item() == pytest.approx(0.13066, abs=5e-6)
    assert scaled.std().item() == pytest.approx(0.30811, abs=5e-6)
    name = "train-labels-idx1-ubyte"
    pool = read_idx(
        next(path for path in (data_dir / "mnist" / name, data_dir / "mnist" / f"{name}.gz") if path.exists())
    )
    assert pool[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_a_truncated_copy_of_real_mnist_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for path in (data_dir / "mnist").glob("*ubyte*"):
        content = path.read_bytes()
        (tmp_path / "mnist" / path.name).write_bytes(
            content[: len(content) // 2] if "t10k-images" in path.name else content
        )
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.*truncated"):
        vision.mnist(DataSpec("mnist", 10), tmp_path)


def test_real_cifar10(data_dir: Path) -> None:
    train, test = vision.cifar10(DataSpec("cifar10", 4000, test_size=1000), data_dir)
    pool = read_images(data_dir / "cifar10" / "train.parquet", 50_000, classes=10, side=32)
    assert numpy.bincount(pool.labels).tolist() == [5000] * 10
    assert train.inputs.shape == (4000, 3, 32, 32)
    assert test.inputs.shape == (1000, 3, 32, 32)
    # The whole training set has mean .4913 .4821 .4465 and deviation .2452 .2428 .2606 (as JPEG), or .2470 .2435 .2616:
    # an image's mean colour has a deviation of about .12, so 4,000 images give the mean to .002.
    pixels = train.inputs * torch.tensor([0.2470, 0.2435, 0.2616])[:, None, None]
    pixels += torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.4913, 0.4821, 0.4465], abs=0.008)
    assert pixels.std(dim=(0, 2, 3)).tolist() == pytest.approx([0.2452, 0.2428, 0.2606], abs=0.008)
