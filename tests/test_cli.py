"""The command line as a user meets it: the three jobs, wrong input, exit statuses."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from click.testing import CliRunner, Result

import gapbench
from gapbench import completion, result_commands, zoo_commands
from gapbench.cli import main
from gapbench.datasets.errors import InputError
from gapbench.evaluate import progress
from gapbench.measures import MEASURES
from gapbench.names import keys_of
from gapbench.reports.scores import SORTABLE

GRID = """
name = "tiny"
seeds = [0]
[data]
name = "digits"
train_size = 24
[run]
architecture = "mlp"
depth = 1
learning_rate = 0.05
batch_size = 8
max_epochs = 400
[axes]
width = [8, 16]
weight_decay = [0.0, 1e-3]
label_noise = [0.0, 0.5]
"""

OWN = '''
from gapbench.measures import measure

@measure(source="unpublished", sign=+1)
def my_norm(parameters) -> float:
    """The largest parameter."""
    return float(parameters.abs().max())
'''


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a small stored zoo, tiny, that was read with cheap measures and one of the user's own."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "tiny.toml").write_text(GRID)
    (folder / "mine.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        only = ("--only", "num_params", "--only", "path_*", "--only", "inverse_margin", "--only", "coin")
        result = invoke("run", "tiny.toml", *only, "--jobs", "1")
        assert result.exit_code == 0, result.output
        assert "12" in result.output
        result = invoke("run", "tiny.toml", "--measures", "mine.py", "--only", "my_norm", "--jobs", "1")
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_run_again_does_nothing(user: Path) -> None:
    summary = gapbench.run("tiny.toml", only=["num_params", "path_norm"], jobs=1, progress=False)
    assert (summary.runs, summary.trained, summary.read) == (12, 0, 0)
    assert summary.exit_status == 0


def test_plan_says_what_is_left(user: Path) -> None:
    result = invoke("plan", "tiny.toml", "--only", "l2")
    assert result.exit_code == 0, result.output
    assert "runs: 12, of which trained: 12, to train: 0" in result.output
    assert "to do: 12" in result.output


def test_leaderboard_shows_the_users_measure_and_formats_agree(user: Path) -> None:
    text = invoke("leaderboard", "tiny", "--resamples", "50")
    assert text.exit_code == 0, text.output
    assert "my_norm" in text.output
    written = invoke("leaderboard", "tiny", "--resamples", "50", "--format", "csv", "--out", "board.csv")
    assert written.exit_code == 0, written.output
    table = pandas.read_csv("board.csv", index_col=0)
    frame = gapbench.leaderboard("tiny", resamples=50, permutations=50)
    assert list(table.index) == list(frame.index)
    assert table.loc["num_params", "randomisation_auc"] == frame.loc["num_params", "randomisation_auc"] == 0.5
    assert table.loc["coin", "randomisation_auc"] == 0.5
    assert "my_norm" in invoke("leaderboard", "tiny", "--resamples", "50", "--format", "markdown").output
    top = invoke("leaderboard", "tiny", "--resamples", "50", "--top", "1", "--format", "csv").output
    assert len(top.strip().splitlines()) == 2


def test_leaderboard_of_a_part_along_an_axis(user: Path) -> None:
    part = ["leaderboard", "tiny", "--resamples", "50", "--within", "label_noise=0"]
    text = invoke(*part, "--axis", "width", "--all")
    assert text.exit_code == 0, text.output
    assert "4 runs with label_noise=0: 4 recipes, 1 label noise (0)" in text.output
    assert "τ along width" in text.output
    written = invoke(*part, "--axis", "width", "--format", "csv").output
    frame = pandas.read_csv(io.StringIO(written), index_col="measure")
    assert list(frame["psi_width"].dropna()) == sorted(frame["psi_width"].dropna(), reverse=True)
    assert frame["n"].max() == 4
    whole = gapbench.leaderboard("tiny", resamples=50, permutations=50)
    assert whole["n"].max() == 12, "the leaderboard of all runs is another"
    for wrong, said in (
        (["--within", "label_noise=7"], "its values are: 0, 0.5"),
        (["--within", "wdith=8"], "did you mean width"),
        (["--sort", "taub"], "did you mean tau_b"),
        (["--all", "--top", "3"], "exclude one another"),
    ):
        result = invoke("leaderboard", "tiny", "--resamples", "50", *wrong)
        assert result.exit_code == 2
        assert said in result.output


def test_the_scores_that_help_names_are_those_of_the_reports() -> None:
    assert result_commands.SORTABLE == SORTABLE


def test_report_is_one_page_with_the_users_measure(user: Path) -> None:
    result = invoke("report", "tiny", "--resamples", "50", "--out", "page/report.html")
    assert result.exit_code == 0, result.output
    page = Path("page/report.html").read_text(encoding="utf-8")
    assert "my_norm" in page
    assert "<html" in page


def test_measures_lists_filters_and_shows(user: Path) -> None:
    assert "path_norm" in invoke("measures", "path_*").output
    assert "path_norm" not in invoke("measures", "--family", "capacity").output
    assert "my_norm" in invoke("measures", "--measures", "mine.py", "my_*").output
    shown = invoke("show", "path_norm").output
    for part in ("Neyshabur et al. 2015", "rescaling", "path_sum_of_squares", "cost", "ok on 12 of 12 runs"):
        assert part in shown


def test_show_says_where_no_zoo_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "none under ./zoos has read it yet" in invoke("show", "path_norm").output


def test_catalog_writes_every_measure(user: Path) -> None:
    invoke("catalog", "--out", "measures.md")
    text = Path("measures.md").read_text(encoding="utf-8")
    for key in MEASURES:
        assert key in text


def test_check_counts_its_checks(user: Path) -> None:
    result = invoke("check", "mine.py")
    assert result.exit_code == 0, result.output
    assert "checks ran, 0 failed" in result.output


BREACHES = {
    "raises": ("raise ValueError('no such thing')", "my_norm raised ValueError: no such thing"),
    "nan": ("return float('nan')", "my_norm returned nan"),
    "mutates": ("next(network.parameters()).data.zero_(); return 1.0", "my_norm changed the network"),
    "global generator": ("return float(torch.rand(1))", "my_norm used the global random generator"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_fails_the_check_and_the_run_by_name(
    breach: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, message = BREACHES[breach]
    text = OWN.replace("parameters", "network").replace("return float(network.abs().max())", code)
    Path("mine.py").write_text("import torch\n" + text)
    result = invoke("check", "mine.py")
    assert result.exit_code == 1
    assert message in result.output
    Path("one.toml").write_text(GRID.replace("[8, 16]", "[8]").replace("[0.0, 1e-3]", "[0.0]"))
    result = invoke("run", "one.toml", "--measures", "mine.py", "--only", "my_norm", "--jobs", "1")
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tiny.toml", "--only", "path_nrm"], "unknown measure 'path_nrm'; did you mean path_norm"),
        (["run", "quik"], "unknown zoo 'quik'; did you mean quick"),
        (["run", "none.toml"], "none.toml"),
        (["run", "tiny.toml", "--measures", "none.py"], "no such file of measures: none.py"),
        (["run", "tiny.toml", "--shard", "4/3"], "4/3"),
        (["leaderboard", "none"], "no stored zoo 'none'; here are: tiny"),
        (["leaderboard", "tiny", "--only", "num_parms"], "did you mean num_params"),
        (["show", "path_nrm"], "did you mean path_norm"),
        (["check", "none.py"], "none.py"),
    ],
)
def test_wrong_input_is_named(user: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = [8, 16]", "widht = [8, 16]", "unknown axis 'widht'; did you mean width"),
        ("width = [8, 16]", "width = []", "width"),
        ("width = [8, 16]", 'width = ["8"]', "width"),
        ("width = [8, 16]", "width = [8, 16", "line"),
        ('name = "digits"', 'name = "digit"', "did you mean digits"),
        ('name = "digits"', 'name = "mnist"', "train-images-idx3-ubyte"),
        ('architecture = "mlp"', 'architecture = "mpl"', "did you mean mlp"),
        ("train_size = 24", "train_size = 5000", "1797"),
    ],
)
def test_a_wrong_grid_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPBENCH_DATA", str(tmp_path / "nowhere"))
    assert old in GRID
    Path("wrong.toml").write_text(GRID.replace(old, new))
    result = invoke("run", "wrong.toml", "--only", "num_params", "--jobs", "1")
    assert result.exit_code in (1, 2), result.output
    assert message in result.output.replace("1,797", "1797")
    assert "Traceback" not in result.output


def test_help_and_completion_answer_at_once() -> None:
    """Half a second is the promise on a quiet machine; torch alone takes longer, so its absence is what is tested."""
    environment = {
        **os.environ,
        "_GAPBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "gapbench show path_",
        "COMP_CWORD": "2",
    }
    times = []
    for _ in range(3):
        started = time.perf_counter()
        completed = subprocess.run(
            [sys.executable, "-P", "-c", "from gapbench.cli import main; main(prog_name='gapbench')"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        times.append(time.perf_counter() - started)
    assert "path_norm" in completed.stdout
    assert min(times) < 2.0  # half a second on an idle machine
    code = (
        "import sys; from gapbench.cli import main; main(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False).returncode == 0


def test_completion_knows_every_measure() -> None:
    assert completion.measure_names() == sorted({entry.name for entry in MEASURES.values()})


def test_completion_prints_its_line() -> None:
    assert "_GAPBENCH_COMPLETE=bash_source" in invoke("completion", "bash").output


def test_every_command_has_examples() -> None:
    for name, command in main.commands.items():
        assert f"gapbench {name}" in (command.help or ""), name


def test_read_returns_a_frame_and_takes_functions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapbench.datasets.load import load
    from gapbench.datasets.spec import DataSpec
    from gapbench.models.spec import RunSpec
    from gapbench.models.train import train

    @gapbench.measure(source="unpublished", sign=1)
    def largest(parameters: object) -> float:
        """The largest parameter."""
        return float(parameters.abs().max())

    spec = RunSpec(DataSpec("digits", 24), "mlp", width=8, depth=1, learning_rate=0.05, batch_size=8)
    trained = train(spec, load(spec.data))[0]
    frame = gapbench.read([largest, "num_params", "path_norm*"], trained)
    assert list(frame.index[:2]) == ["largest", "num_params"]
    assert frame.loc["num_params", "value"] == 64 * 8 + 8 + 8 * 10 + 10
    assert (frame["status"] == "ok").all()
    with pytest.raises(InputError, match="not declared"):
        gapbench.read([len], trained)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    capsys.readouterr()
    gapbench.read(["num_params", "path_norm"], trained)
    assert re.match(r"reading: measure 1/2, \d+ s left\n$", capsys.readouterr().err)
    gapbench.read(["num_params", "path_norm"], trained, progress=False)
    assert capsys.readouterr().err == ""
    terms = gapbench.read_layers(["param_norm", "num_params"], trained)
    assert terms.index.names == ["measure", "layer"]
    assert list(terms.index) == [("param_norm", "linear1"), ("param_norm", "output")]
    total = gapbench.read(["param_norm"], trained).loc["param_norm", "value"]
    assert terms["value"].sum() == pytest.approx(total, rel=1e-12)
    everything = gapbench.read_layers(None, trained).index.get_level_values("measure")
    assert {"param_norm", "frobenius_over_spectral"} <= set(everything)


@pytest.mark.parametrize(
    "command", [["report", "tiny"], ["leaderboard", "tiny", "--format", "csv"], ["catalog"]], ids=lambda c: c[0]
)
def test_a_place_that_cannot_be_written_is_named(user: Path, command: list[str]) -> None:
    Path("file").touch()
    result = invoke(*command, "--out", "file/below")
    assert result.exit_code == 2, result.output
    assert "cannot write file/below" in result.output


def test_an_interrupt_says_how_to_continue(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt("stopped; run the same command again to continue")

    monkeypatch.setattr("gapbench.api.run", interrupted)
    result = invoke("run", "tiny.toml")
    assert result.exit_code == 130
    assert "run the same command again to continue" in result.output


def test_costs_are_those_of_the_registry_and_choose(user: Path) -> None:
    from gapbench.measures import BUILT_IN
    from gapbench.measures.registry import COSTS

    assert zoo_commands.COSTS == COSTS
    cheap = keys_of((), (), "forward")
    assert cheap is not None
    assert "l2" in cheap
    assert "hessian_top" not in cheap
    assert len(cheap) < len(keys_of((), (), "second run") or ()) == len(BUILT_IN.measures)
    with pytest.raises(InputError, match="unknown cost 'forwards'"):
        keys_of((), (), "forwards")


NETWORK = """
import math
import gapbench
from torch import nn

@gapbench.architecture(width=6)
class Mine(nn.Sequential):
    def __init__(self, spec, input_shape, classes):
        units = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(units, spec.width), nn.ReLU(), nn.Linear(spec.width, classes))
"""


def test_networks_of_ones_own_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NETWORK)
    done = invoke("check", str(file))
    assert done.exit_code == 0, done.output
    assert "Mine: no measure fails" in done.output
    assert "13 checks ran, 0 failed" in done.output
    file.write_text("x = 1")
    assert "declares no measure and no network" in invoke("check", str(file)).output


def test_status_of_a_stored_zoo(user: Path) -> None:
    done = invoke("status", "tiny")
    assert done.exit_code == 0, done.output
    assert "nobody is at work" in done.output
    assert "done" in done.output
