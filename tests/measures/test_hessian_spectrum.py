from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.measures.curvature import mean_loss_terms
from gapbench.measures.gauss_newton import spectral_entropy
from gapbench.measures.hessian_spectrum import estimated_entropy, hessian_spectral_entropy
from gapbench.measures.registry import Undefined


def matrix(size: int = 400) -> torch.Tensor:
    """A few outliers of either sign above a bulk near zero, in a random basis."""
    draws = generator(0, "matrix")
    values = 0.01 * torch.randn(size, dtype=torch.float64, generator=draws)
    values[:8] = torch.tensor([5.0, 3.0, 2.0, 2.0, 1.5, 1.0, -1.0, 0.5])
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=draws)).Q
    return basis @ values.diag() @ basis.T


def exact(dense: torch.Tensor) -> float:
    return spectral_entropy(torch.linalg.eigvalsh(dense).square())


def test_the_estimate_is_within_its_error_and_has_the_spread_it_reports() -> None:
    dense = matrix()
    found = [estimated_entropy(lambda v: dense @ v, len(dense), generator(seed, "probes")) for seed in range(12)]
    values = torch.tensor([one.value for one in found])
    error = sum(one.standard_error for one in found) / 12
    assert 0.4 < float(values.std()) / error < 2
    assert abs(float(values.mean()) - exact(dense)) < 4 * error / math.sqrt(12) + 0.02
    assert abs(float(values.mean()) - math.log(8)) > 4 * error / math.sqrt(12)


def test_many_probes_find_the_exact_entropy() -> None:
    dense = matrix()
    found = estimated_entropy(lambda v: dense @ v, len(dense), generator(0, "probes"), probes=400)
    assert abs(found.value - exact(dense)) < 3.5 * found.standard_error
    assert found.standard_error < 0.04


def test_a_multiple_of_the_identity_has_full_entropy_without_error() -> None:
    found = estimated_entropy(lambda v: -3 * v, 50, generator(0, "probes"))
    assert found.value == pytest.approx(math.log(50), rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-7)
    with pytest.raises(Undefined, match="zero"):
        estimated_entropy(lambda v: 0 * v, 50, generator(0, "probes"))


def test_few_parameters_are_exact_and_many_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = generator(0, "network")
    net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
    train = Split(torch.randn(80, 4, generator=draws), torch.randint(3, (80,), generator=draws), 3)
    flat = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
    (term,) = mean_loss_terms(net, Split(train.inputs[:64], train.labels[:64], 3))
    expected = exact(torch.autograd.functional.hessian(term, flat))
    single = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)).eval()
    single.load_state_dict(net.state_dict())
    found = hessian_spectral_entropy(net, single, flat, train, generator(0, "probes"))
    assert (found.standard_error, found.value) == (0, pytest.approx(expected, rel=1e-9))
    monkeypatch.setattr("gapbench.measures.hessian_spectrum.MOST_EXACT_PARAMETERS", 10)
    estimate = hessian_spectral_entropy(net, single, flat, train, generator(0, "probes"))
    assert 0 < abs(estimate.value - expected) < 3.5 * estimate.standard_error + 0.02
