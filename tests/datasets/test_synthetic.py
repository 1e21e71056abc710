from __future__ import annotations

import numpy
import pytest
import torch

from gapbench.datasets.seeds import derive_seed
from gapbench.datasets.spec import DataSpec, Split
from gapbench.datasets.synthetic import RADIUS, gaussian_mixture, mixture_means, teacher, teacher_labels

LOADERS = {"gaussian_mixture": gaussian_mixture, "teacher": teacher}


def equal(first: Split, second: Split) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)


@pytest.mark.parametrize("name", list(LOADERS))
def test_sizes_dimension_and_classes_are_those_of_the_spec(name: str) -> None:
    train, test = LOADERS[name](DataSpec(name, 33, dimension=4, classes=3, test_size=70_001))
    assert train.inputs.shape == (33, 4)
    assert test.inputs.shape == (70_001, 4)
    assert train.inputs.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    assert train.classes == test.classes == 3
    assert set(test.labels.tolist()) == {0, 1, 2}
    default_train, default_test = LOADERS[name](DataSpec(name, 5))
    assert default_train.inputs.shape == (5, 20)
    assert len(default_test) == 10_000
    assert default_test.classes == 10


@pytest.mark.parametrize("name", list(LOADERS))
def test_a_smaller_sample_begins_a_larger_one_and_the_seed_changes_it(name: str) -> None:
    load = LOADERS[name]
    small, small_test = load(DataSpec(name, 33, test_size=17))
    large, large_test = load(DataSpec(name, 120, test_size=40))
    assert equal(small, Split(large.inputs[:33], large.labels[:33], 10))
    assert equal(small_test, Split(large_test.inputs[:17], large_test.labels[:17], 10))
    assert not torch.equal(small.inputs[:17], small_test.inputs)
    assert not equal(small, load(DataSpec(name, 33, seed=1))[0])


def test_mixture_means_lie_on_the_sphere() -> None:
    means = mixture_means(20, 10)
    assert torch.allclose(means.norm(dim=1), torch.full((10,), RADIUS, dtype=torch.float64))


def test_mixture_classes_are_gaussians_of_unit_covariance_about_their_means() -> None:
    _, test = gaussian_mixture(DataSpec("gaussian_mixture", 1, test_size=60_000, dimension=3, classes=4))
    residuals = test.inputs.double() - mixture_means(3, 4)[test.labels]
    for label in range(4):
        of_class = residuals[test.labels == label]
        assert abs(len(of_class) / 60_000 - 0.25) < 4 * (0.1875 / 60_000) ** 0.5
        assert of_class.mean(dim=0).abs().max() < 4 / len(of_class) ** 0.5
        assert (of_class.T.cov() - torch.eye(3)).abs().max() < 5 * (2 / len(of_class)) ** 0.5


def test_bayes_error_of_the_default_mixture_is_as_stated() -> None:
    _, test = gaussian_mixture(DataSpec("gaussian_mixture", 1, test_size=100_000))
    nearest = torch.cdist(test.inputs.double(), mixture_means(20, 10)).argmin(dim=1)
    assert (nearest != test.labels).double().mean().item() == pytest.approx(0.12, abs=0.005)


def test_teacher_labels_do_not_depend_on_the_batch_and_are_balanced() -> None:
    _, test = teacher(DataSpec("teacher", 1, test_size=70_000))
    assert torch.equal(teacher_labels(test.inputs[-10:], 10), test.labels[-10:])
    frequencies = test.labels.bincount(minlength=10) / 70_000
    assert frequencies.min() > 0.05
    assert frequencies.max() < 0.2


def test_teacher_is_not_linear() -> None:
    _, test = teacher(DataSpec("teacher", 1, test_size=20_000))
    # A linear function's highest logit at x is its lowest at -x, so no example would keep its label.
    assert (teacher_labels(-test.inputs, 10) == test.labels).double().mean() > 0.01
    linear = test.inputs @ test.inputs[:10].T
    assert not ((-linear).argmax(dim=1) == linear.argmax(dim=1)).any()


def test_teacher_is_the_stated_network() -> None:
    """A twin written from the formula, with the expectation of each hidden unit by Monte Carlo, not in closed form."""
    dimension, classes, width = 4, 3, 100
    weights = numpy.random.default_rng(derive_seed(0, "teacher", "weights", dimension, classes))
    hidden = weights.standard_normal((width, dimension)) / 2
    output = weights.standard_normal((classes, width))
    sample = numpy.random.default_rng(0).standard_normal((100_000, dimension))
    expectation = numpy.maximum(sample @ hidden.T, 0).mean(axis=0)
    _, test = teacher(DataSpec("teacher", 1, test_size=20_000, dimension=dimension, classes=classes))
    features = numpy.maximum(test.inputs.double().numpy() @ hidden.T, 0)
    agreement = ((features - expectation) @ output.T).argmax(axis=1) == test.labels.numpy()
    assert agreement.mean() > 0.99
    # Positive control: without the expectation the labels are others.
    assert ((features @ output.T).argmax(axis=1) == test.labels.numpy()).mean() < 0.9
