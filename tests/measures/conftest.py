"""Small trained networks of many architectures, for the tests that any network must pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import Split
from gapbench.models.trained import History, Trained, Trajectory

EXAMPLES, CLASSES = 24, 3
VECTOR, IMAGE, TOKENS = (6,), (2, 8, 8), (4, 6)


class ResidualMLP(nn.Module):
    """Residual blocks with functional activations."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, CLASSES)
        self.into, self.out = nn.Linear(8, 10), nn.Linear(10, 8)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.out(self.activation(self.into(x)))
        logits: Tensor = self.last(self.activation(x))
        return logits


class BasicBlock(nn.Module):
    """ResNet's: two convolutions with batch norm, a projected shortcut, an addition in place."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        rectified: Tensor = self.relu(out)
        return rectified


class InvertedResidual(nn.Module):
    """MobileNetV2's: expand, depthwise convolution, project; clipped ReLU; a plain shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.body = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.body(x)
        return added


class DenseBlock(nn.Module):
    """DenseNet's: norm before activation before convolution, outputs concatenated; its batch norm cannot be folded."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width + growth * k) for k in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width + growth * k, growth, 3, padding=1) for k in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = torch.cat([x, convolution(functional.relu(norm(x), inplace=True))], dim=1)
        return x


class Transformer(nn.Module):
    """A classifier of token sequences: class token, positional embedding, encoder layers, a head on the class token."""

    def __init__(self, *, norm_first: bool, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Linear(6, 8)
        self.token, self.place = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, "gelu", batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], dim=1) + self.place
        x = self.encoder(x) if self.batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)
        logits: Tensor = self.head(x[:, 0])
        return logits


class OwnAttention(nn.Module):
    """Pre-norm attention written with one packed linear layer and the fused function, and a scale on its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.packed, self.out = nn.LayerNorm(6), nn.Linear(6, 18), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.packed(self.norm(x)).unflatten(2, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        logits: Tensor = self.head((x + self.scale * self.out(attended)).mean(dim=1))
        return logits


class Tied(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = functional.relu(self.again(functional.relu(self.again(x))))
        logits: Tensor = self.last(x)
        return logits


class Unused(nn.Module):
    """A layer and a vector that the forward pass never touches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.idle = nn.Linear(6, 8), nn.Linear(8, CLASSES), nn.Linear(3, 3)
        self.spare = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(functional.relu(self.first(x)))
        return logits


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


# fmt: off
ARCHITECTURES: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, CLASSES)), VECTOR),
    "layer norm": (lambda: nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.Linear(8, CLASSES)), VECTOR),
    "residual": (lambda: ResidualMLP(functional.relu), VECTOR),
    "tanh": (lambda: ResidualMLP(torch.tanh), VECTOR),
    "batch norm": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding="same"), nn.BatchNorm2d(6), nn.ReLU(), *_head(6)), IMAGE),
    "basic block": (lambda: nn.Sequential(BasicBlock(2, 4, 1), BasicBlock(4, 6, 2), *_head(6)), IMAGE),
    "pre-activation": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), *_head(6)), IMAGE),
    "grouped": (lambda: nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=2, dilation=2, groups=2), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1, groups=3, bias=False),
        nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.ReLU(), *_head(6)), IMAGE),
    "one-dimensional": (lambda: nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Conv1d(6, 6, 3, 2, groups=2), nn.PReLU(),
        nn.Flatten(), nn.Linear(12, CLASSES)), TOKENS),
    "inverted residual": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), InvertedResidual(4), *_head(4)), IMAGE),
    "dense block": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), DenseBlock(4, 2), nn.ReLU(), *_head(8)), IMAGE),
    "transformer": (lambda: Transformer(norm_first=False), TOKENS),
    "pre-norm, tokens first": (lambda: Transformer(norm_first=True, batch_first=False), TOKENS),
    "own attention": (OwnAttention, TOKENS),
    "tied": (Tied, VECTOR),
    "unused": (Unused, VECTOR),
    "weight norm": (lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, CLASSES)), VECTOR),
}
# fmt: on


@dataclass(frozen=True)
class Architecture:
    """A small trained network and its name."""

    name: str
    trained: Trained


@cache
def trained_architecture(name: str) -> Architecture:
    make, shape = ARCHITECTURES[name]
    return Architecture(name, fitted(make, shape, EXAMPLES, CLASSES))


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    """Each of the architectures in turn."""
    return trained_architecture(request.param)


@pytest.fixture
def architecture_named() -> Callable[[str], Architecture]:
    """The architecture of a name."""
    return trained_architecture


@pytest.fixture
def fit() -> Callable[..., Trained]:
    """The function that trains a small network of any kind."""
    return fitted


def fitted(
    make: Callable[[], nn.Module], shape: tuple[int, ...], examples: int, classes: int, steps: int = 30
) -> Trained:
    """A network trained by Adam on random inputs whose labels show in their first entries."""
    inputs = torch.randn(examples, *shape, generator=generator(0, "architectures"))
    labels = torch.arange(examples) % classes
    inputs.view(examples, -1)[torch.arange(examples), labels] += 3.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make().train()
        initial = copy.deepcopy(network.state_dict())
        parameters = list(network.parameters())
        squares = [torch.zeros_like(parameter) for parameter in parameters]
        losses, states = [], {}
        for step in range(steps):
            loss = functional.cross_entropy(network(inputs), labels)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            with torch.no_grad():  # RMSprop by hand: the import of torch.optim takes seconds
                for parameter, gradient, square in zip(parameters, gradients, squares, strict=True):
                    square.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
                    parameter.addcdiv_(gradient, square.sqrt() + 1e-8, value=-0.02)
            losses.append(float(loss.detach()))
            if step == 0:
                states[1] = copy.deepcopy(network.state_dict())
    curve = torch.tensor(losses, dtype=torch.float64)
    history = History(torch.arange(steps).double(), curve, torch.zeros(steps, dtype=torch.float64))
    return Trained(network.eval(), initial, Split(inputs, labels, classes), history, Trajectory(states))


@pytest.fixture
def trained() -> Trained:
    """A small network with batch norm and its sample."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = torch.randn(6, 3, generator=generator)
    return Trained(network, initial, Split(inputs, torch.tensor([0, 1, 0, 1, 0, 1]), 2))


@pytest.fixture
def with_twins(trained: Trained) -> Trained:
    """It, with two second runs and test inputs."""
    twin = copy.deepcopy(trained)
    other = replace(copy.deepcopy(trained), train=trained.train)
    return replace(trained, seed_twins=(other,), random_label_twin=twin, unlabelled_test_inputs=torch.ones(4, 3))
