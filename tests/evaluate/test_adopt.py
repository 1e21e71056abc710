"""Adoption: networks trained elsewhere give the readings they would give here; whatever does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from gapbench.datasets.errors import InputError
from gapbench.datasets.load import load
from gapbench.datasets.spec import DataSpec
from gapbench.evaluate.adopt import adopt
from gapbench.evaluate.execute import run
from gapbench.evaluate.second_runs import second_runs
from gapbench.evaluate.store import Store
from gapbench.evaluate.table import table
from gapbench.evaluate.verify import verify
from gapbench.evaluate.zoo import load_zoo
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.models.spec import RunSpec, twin
from gapbench.models.train import train
from gapbench.models.trained import Outcome, Trained

SPEC = RunSpec(DataSpec("digits", 40), "mlp", width=6, depth=1, learning_rate=0.1, batch_size=8, max_epochs=100)
KEYS = ["l2", "l2_distance", "margin_mean"]
MANIFEST = """
name = "mine"
[data]
name = "digits"
train_size = 40
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.1
batch_size = 8
stop_loss_nats = 0.1
width = 6

[[networks]]
weights = "true.safetensors"
initial = "initial.safetensors"
train_error = {train_error}
test_error = {test_error}

[[networks]]
weights = "random.safetensors"
label_noise = 1.0
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Path, dict[str, Trained], Outcome]:
    folder = tmp_path / "theirs"
    folder.mkdir()
    trained, outcome, _ = train(SPEC, load(SPEC.data))
    random = train(twin(SPEC), load(twin(SPEC).data))[0]
    for name, state in (
        ("true", trained.network.state_dict()), ("random", random.network.state_dict()), ("initial", trained.initial)
    ):  # fmt: skip
        safetensors.torch.save_file(dict(state), folder / f"{name}.safetensors")
    text = MANIFEST.format(train_error=outcome.train_error, test_error=outcome.test_error)
    (folder / "manifest.toml").write_text(text)
    return folder, {"true": trained, "random": random}, outcome


def test_adopted_networks_read_as_where_they_were_trained(
    tmp_path: Path, elsewhere: tuple[Path, dict[str, Trained], Outcome]
) -> None:
    folder, trained, outcome = elsewhere
    out = tmp_path / "zoo"
    assert adopt(folder, out).taken == 2
    assert (adopt(folder, out).taken, adopt(folder, out).known) == (0, 2)
    assert list(verify(Store(out))) == []
    zoo = load_zoo(out / "zoo.toml")
    summary = run(zoo, out, KEYS, progress=False)
    assert (summary.trained, summary.readings_ok, summary.readings_undefined) == (0, 5, 1)
    found = table(out)
    true = found.runs["label_noise"] == 0
    assert float(found.runs[true]["test_error"].iloc[0]) == outcome.test_error
    for name, chosen in (("true", true), ("random", ~true)):
        here = {
            one.measure: one.value for one in read([BUILT_IN.measures[key] for key in KEYS], BUILT_IN, trained[name])
        }
        assert float(found.values[chosen]["l2"].iloc[0]) == here["l2"]
        assert float(found.values[chosen]["margin_mean"].iloc[0]) == here["margin_mean"]
    reasons = found.readings[found.readings["status"] == "undefined"]["reason"].tolist()
    assert reasons == ["the initial weights of this network are not known"]
    # They know their twins, and what their weights are is no axis.
    (one,) = (spec for spec in zoo.specs if spec.data.label_noise == 0.0)
    assert [other.data.label_noise for other in second_runs(zoo.specs)[summary_id(one)].random_label_twin] == [1.0]
    assert found.axes == ()


def summary_id(spec: RunSpec) -> str:
    from gapbench.models.spec import run_id

    return run_id(spec)


def test_what_was_trained_elsewhere_is_never_trained_here(
    tmp_path: Path, elsewhere: tuple[Path, dict[str, Trained], Outcome]
) -> None:
    out = tmp_path / "zoo"
    adopt(elsewhere[0], out)
    store = Store(out)
    lost = store.folder(store.runs()[0])
    for file in lost.iterdir():
        file.unlink()
    with pytest.raises(InputError, match="was trained elsewhere and cannot be trained here"):
        run(load_zoo(out / "zoo.toml"), out, ["l2"], progress=False)
    assert adopt(elsewhere[0], out).taken == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("true.safetensors", "lost.safetensors", r"network 1: there is no file .*lost\.safetensors"),
        ("width = 6", "width = 7", r"linear1\.weight has shape \(6, 64\), not \(7, 64\)"),
        ("depth = 1", "depth = 2", r"it lacks linear2\.bias, linear2\.weight, and has nothing"),
        ('architecture = "mlp"', 'architecture = "mlpp"', "did you mean mlp"),
        ("train_error = ", "train_error = 0.5 # ", "train_error is stated as 0.5, and on this data it is"),
        ("label_noise = 1.0", "label_noize = 1.0", "network 2: unknown field 'label_noize'"),
        ('weights = "random.safetensors"', "", "network 2: it has no weights"),
        ("[[networks]]", "[[nets]]", "unknown key 'nets'"),
        ("[data]", "[data", "is not TOML"),
        ("learning_rate = 0.1", "", "lacks learning_rate"),
        ('"random.safetensors"\nlabel_noise = 1.0', '"true.safetensors"', "same weights and seed"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, elsewhere: tuple[Path, dict[str, Trained], Outcome], old: str, new: str, message: str
) -> None:
    manifest = elsewhere[0] / "manifest.toml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        adopt(elsewhere[0], tmp_path / "zoo")


def test_files_of_another_kind_are_refused(tmp_path: Path, elsewhere: tuple[Path, dict[str, Trained], Outcome]) -> None:
    file = elsewhere[0] / "true.safetensors"
    content = file.read_bytes()
    for wrong in (content[:-8], b"\x80\x02}q\x00."):
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=r"true\.safetensors cannot be read as safetensors"):
            adopt(elsewhere[0], tmp_path / "zoo")
    torch.save({"x": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        adopt(elsewhere[0], tmp_path / "zoo")
    (elsewhere[0] / "manifest.toml").unlink()
    with pytest.raises(InputError, match=r"there is no .*manifest\.toml"):
        adopt(elsewhere[0], tmp_path / "zoo")


def test_a_zoo_of_networks_trained_here_takes_none_from_elsewhere(
    tmp_path: Path, tiny_zoo: Any, elsewhere: tuple[Path, dict[str, Trained], Outcome]
) -> None:
    run(tiny_zoo, tmp_path / "zoo", [], progress=False)
    with pytest.raises(InputError, match="runs that are not in this grid"):
        adopt(elsewhere[0], tmp_path / "zoo")
