"""Margins: hand values, gradients against one example at a time, and mixtures within a class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gapbench.datasets.spec import Split
from gapbench.measures import margins, outputs
from gapbench.measures.registry import Undefined


@pytest.fixture
def sample() -> tuple[Tensor, Split]:
    """Logits and sample of the two-layer network W1 = diag(3, 4), W2 = ((1, 2), (2, −1)) on its twenty inputs."""
    t = torch.arange(1.0, 11.0, dtype=torch.float64)
    inputs = torch.cat([torch.stack([t, 0 * t], dim=1), torch.stack([0 * t, t], dim=1)])
    labels = torch.tensor([1] * 10 + [0] * 10)
    logits = torch.relu(inputs * torch.tensor([3.0, 4.0])) @ torch.tensor([[1.0, 2.0], [2.0, -1.0]]).double().T
    return logits, Split(inputs.float(), labels, 2)


def test_hand_values(sample: tuple[Tensor, Split]) -> None:
    found = outputs.margins(*sample)
    assert float(found.min()) == pytest.approx(3)
    assert outputs.margin(found) == pytest.approx(8.7, rel=1e-9)
    assert float(found.sort().values[1]) == pytest.approx(6)  # the k-th smallest is another convention
    assert float(torch.quantile(found, 0.05)) == pytest.approx(5.85, rel=1e-9)
    assert margins.margin_mean(found) == pytest.approx(41.25, rel=1e-9)
    assert margins.inverse_margin(6.0) == pytest.approx(0.0277777778, rel=1e-8)
    assert margins.inverse_margin(8.7) == pytest.approx(1 / 75.69, rel=1e-12)


def test_a_margin_that_is_not_positive_is_undefined(sample: tuple[Tensor, Split]) -> None:
    logits, train = sample
    with pytest.raises(Undefined, match=r"10th percentile -"):
        outputs.margin(outputs.margins(logits, Split(train.inputs, 1 - train.labels, 2)))


def test_signature_is_free_of_the_scale_of_the_outputs(sample: tuple[Tensor, Split]) -> None:
    logits, train = sample

    def signature(logits: Tensor) -> float:
        found = outputs.margins(logits, train)
        return margins.margin_quantile_signature(found, outputs.margin(found), logits)

    found = outputs.margins(logits, train).numpy()
    centred = logits - logits.mean(dim=1, keepdim=True)
    spread = math.sqrt(float(centred.var(dim=0, correction=0).sum()))
    expected = [float(torch.quantile(torch.tensor(found), q)) / spread for q in (0.1, 0.25, 0.5, 0.75, 0.9)]
    assert signature(logits) == pytest.approx(sum(map(math.log, expected)) / 5, rel=1e-12)
    assert signature(7 * logits) == pytest.approx(signature(logits), rel=1e-12)
    assert signature(logits + torch.arange(20.0).unsqueeze(1)) == pytest.approx(signature(logits), rel=1e-9)
    assert signature(logits + torch.tensor([0.0, 1.0])) != pytest.approx(signature(logits), rel=1e-3)


def test_margin_gradients_against_one_example_at_a_time() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()
    inputs = torch.randn(11, 1, 4, 4)
    labels = network(inputs.double()).argmax(dim=1)
    found = margins.margin_gradients(network, Split(inputs, labels, 3))
    assert len(found) == 3
    for place, cut in enumerate((0, 3, 5)):
        points, norms = [], []
        for x, y in zip(inputs.double(), labels, strict=True):
            point = network[:cut](x.unsqueeze(0)).detach().requires_grad_()
            f = network[cut:](point)[0]
            margin = f[y] - max(f[j] for j in range(3) if j != y)
            norms.append(float(torch.autograd.grad(margin, point)[0].norm()))
            points.append(point.detach().flatten())
        assert found[place].norms.tolist() == pytest.approx(norms, rel=1e-10)
        variation = float(torch.stack(points).var(dim=0, correction=0).sum())
        assert found[place].total_variation == pytest.approx(variation, rel=1e-10)


def test_normalised_layer_margin_of_a_linear_network() -> None:
    """f = (x, −x): margins 2x, gradient norm 2, so distances |x| in {1, 2, 3}, labels by sign: median 2."""
    network = nn.Sequential(nn.Linear(1, 2, bias=False)).double()
    network[0].weight.data = torch.tensor([[1.0], [-1.0]]).double()
    inputs = torch.tensor([[1.0], [-2.0], [3.0]])
    train = Split(inputs, torch.tensor([0, 1, 0]), 2)
    found = outputs.margins(network(inputs.double()).detach(), train)
    value = margins.normalised_layer_margin(found, margins.margin_gradients(network, train))
    spread = float(inputs.double().std(correction=0))
    assert value == pytest.approx(math.log(2 / spread), rel=1e-10)
    with pytest.raises(Undefined, match="median margin"):
        margins.normalised_layer_margin(-found, margins.margin_gradients(network, train))


def test_the_median_of_an_even_number_is_half_way() -> None:
    """Distances 1, 2, 3, 9 have the median 2.5; the lower middle one is 2."""
    gradient = margins.MarginGradient(torch.ones(4, dtype=torch.float64), 1.0)
    found = torch.tensor([3.0, 1.0, 9.0, 2.0], dtype=torch.float64)
    assert margins.normalised_layer_margin(found, (gradient,)) == pytest.approx(math.log(2.5), rel=1e-12)
    assert float(found.median()) == 2.0


def test_outputs_and_layers_that_do_not_vary_are_undefined() -> None:
    constant = torch.tensor([[2.0, 1.0]] * 4, dtype=torch.float64)
    ones = torch.ones(4, dtype=torch.float64)
    with pytest.raises(Undefined, match="outputs are the same"):
        margins.margin_quantile_signature(ones, 1.0, constant)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    network[0].bias.data.fill_(-1e3)
    inputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    train = Split(inputs, network(inputs.double()).argmax(dim=1), 2)
    found = outputs.margins(network(inputs.double()).detach(), train)
    with pytest.raises(Undefined, match="weight layer 1 of 2 does not move the margins"):
        margins.normalised_layer_margin(found, margins.margin_gradients(network, train))
    alive = margins.MarginGradient(ones, 1.0)
    with pytest.raises(Undefined, match="weight layer 2 of 2 does not vary"):
        margins.normalised_layer_margin(ones, (alive, margins.MarginGradient(ones, 0.0)))
    assert margins.normalised_layer_margin(ones, (alive, alive)) == 0.0


def test_entropy_and_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=torch.float64)
    assert margins.negative_entropy(logits) == pytest.approx(-math.log(2) / 2, rel=1e-12)
    assert margins.train_cross_entropy(torch.tensor([0.2, 0.4], dtype=torch.float64)) == pytest.approx(0.3)


def test_mixup_margin_is_the_mean_over_draws_and_examples() -> None:
    """Two draws, 1 and 3 for one example, 5 and 5 for the other: mean 3.5, standard error √((2 + 0)/2)/2."""
    found = margins.mixup_margin(torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64))
    assert (found.value, found.standard_error) == pytest.approx((3.5, 0.5), rel=1e-12)


def test_augment_margin_is_against_the_training_labels() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [0.0, 5.0]]], dtype=torch.float64)
    inputs = torch.zeros(3, 1)
    right = Split(inputs, torch.tensor([0, 1, 0]), 2)
    assert margins.augment_margin(logits, right).value == pytest.approx((2 + 3 + 1 + 5) / 4, rel=1e-12)
    wrong = Split(inputs, torch.tensor([1, 0, 0]), 2)
    assert margins.augment_margin(logits, wrong).value == pytest.approx(-(2 + 3 + 1 + 5) / 4, rel=1e-12)


def test_inputs_that_are_all_the_same_do_not_vary() -> None:
    """E[x²] less the squared mean leaves a rounding error, now above and now below 0."""
    for seed in range(40):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
        train = Split(torch.randn(1, 5).repeat(12, 1), torch.arange(12) % 3, 3)
        for gradient in margins.margin_gradients(network, train):
            assert gradient.total_variation == 0.0
