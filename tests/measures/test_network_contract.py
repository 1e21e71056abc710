"""The contract on networks: a sound one keeps it, and each of its checks fails on one that breaks it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gapbench
from gapbench.datasets.errors import InputError
from gapbench.measures import network_contract
from gapbench.models.network_contract import check_network
from gapbench.models.plugins import load_architectures, own_architectures
from gapbench.models.spec import RunSpec


class Sound(nn.Module):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(math.prod(input_shape), spec.width), nn.Linear(spec.width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return logits


class WrongShape(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :2]


class NotFinite(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class NotSeeded(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        fresh = torch.Generator()
        fresh.seed()
        with torch.no_grad():
            self.first.weight.normal_(generator=fresh)


class Constant(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.1)


class BatchDependent(Sound):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits - logits.mean(dim=0)


class HiddenState(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        self.secret = torch.randn(classes)  # no buffer

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.secret


class Idle(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        self.idle = nn.Linear(2, 2)


class Double(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double())


class Picky(Sound):
    def __init__(self, spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(spec, input_shape, classes)
        raise InputError("never")


def failures(network: type[nn.Module]) -> list[str]:
    return [one.what for one in check_network("mine", network, {})[0] if not one.passed]


@pytest.mark.parametrize(
    ("network", "broken"),
    [
        (WrongShape, "outputs are (n, classes)"),
        (NotFinite, "outputs are finite"),
        (NotSeeded, "one seed, the same values twice"),
        (Constant, "another seed, other values"),
        (BatchDependent, "in evaluation, examples do not influence one another"),
        (HiddenState, "the state dict decides the function"),
        (Idle, "training moves every parameter"),
        (Double, "parameters are float32"),
        (Picky, "takes inputs of at least one shape"),
    ],
)
def test_each_check_fails_on_what_breaks_it(network: type[nn.Module], broken: str) -> None:
    found = failures(network)
    assert broken in found or "runs through every check" in found, found
    if network is not WrongShape:
        assert broken in found


def test_a_sound_network_passes_and_every_measure_reads_it() -> None:
    checks = network_contract.check("mine", Sound)
    assert [one.what for one in checks if not one.passed] == []
    assert len(checks) == 13
    assert "0 failed" in checks[-1].seen


FILE = """
import gapbench
from torch import nn

class Helper(nn.Linear):
    pass

@gapbench.architecture(width=4)
def first(spec, input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

@gapbench.architecture()
class Second(nn.Flatten):
    pass
"""


def test_a_file_declares_what_is_marked_and_names_are_unique(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    assert set(own_architectures(file)) == {"first", "Second"}
    assert {"mlp", "first", "Second"} <= set(load_architectures([file]))
    for text, message in (
        (FILE.replace("first", "mlp"), "declares the network 'mlp', and there is one"),
        ("x = 1", "declares no network"),
        ("import", "line 1"),
        ("raise ValueError(3)", "ValueError: 3"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load_architectures([file])
    with pytest.raises(InputError, match="no such file of networks"):
        load_architectures([tmp_path / "none.py"])


def test_a_mark_without_brackets_or_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(InputError, match="no field widht"):
        network_contract.check("mine", gapbench.architecture(widht=3)(type("Marked", (Sound,), {})))
    with pytest.raises(TypeError):
        gapbench.architecture(Sound)  # type: ignore[call-arg, arg-type]
