"""The sigma search of the code published with Dziugaite et al. (2020), `_pacbayes_sigma`, written anew.

Bisection on [0, 2], at most 15 steps, each with the mean accuracy under 10 fresh draws of noise on all weights of a
copy of the network, batch by batch; it stops where the accuracy has moved by .1 within .01. One change: the published
code passes the variance (plain noise), or the variance of magnitude-aware noise, where `torch.normal` takes a standard
deviation; here the deviation itself is passed, so that both searches seek the same number.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gapbench.datasets.spec import Split


@torch.no_grad()
def published_sigma(
    network: nn.Module, train: Split, seed: int, *, magnitude_floor: float | None = None, batch_size: int = 500
) -> tuple[float, int]:
    """The sigma found, and the number of accuracies evaluated."""
    loader = DataLoader(TensorDataset(train.inputs, train.labels), batch_size)
    accuracy = _accuracy(network, loader)
    draws = torch.Generator().manual_seed(10348628753 + seed)
    lower, upper, evaluations, sigma = 0.0, 2.0, 0, 1.0
    for _ in range(15):
        sigma = (lower + upper) / 2
        samples = []
        for _ in range(10):
            other = copy.deepcopy(network)
            for parameter in other.parameters():
                if magnitude_floor is None:
                    noise = torch.normal(0.0, sigma, parameter.shape, generator=draws)
                else:
                    noise = torch.normal(0.0, (sigma**2 * parameter**2 + magnitude_floor**2).sqrt(), generator=draws)
                parameter.add_(noise)
            samples.append(_accuracy(other, loader))
            evaluations += 1
        displacement = abs(sum(samples) / len(samples) - accuracy)
        if abs(displacement - 0.1) < 1e-2:
            break
        if displacement > 0.1:
            upper = sigma
        else:
            lower = sigma
    return sigma, evaluations


def _accuracy(network: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]) -> float:
    correct = 0
    for inputs, labels in loader:
        correct += int((network(inputs).argmax(dim=1) == labels).sum())
    return correct / len(loader.dataset)  # type: ignore[arg-type]
