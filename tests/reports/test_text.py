from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from gapbench.datasets.errors import InputError
from gapbench.reports import text
from gapbench.reports.scores import (
    SCORES,
    counts_text,
    decimal,
    interval,
    place,
    psi_text,
    rank_interval,
    rank_labels,
    rows,
)


def printed(
    frame: pd.DataFrame, top: int | None = None, width: int = 100, color: str | None = None, **options: str
) -> str:
    buffer = io.StringIO()
    console = Console(width=width, file=buffer, force_terminal=color is not None, color_system=color)  # type: ignore[arg-type]
    console.print(text.terminal(frame, top, **options))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.617, ".62"),
        (-0.0701, "−.07"),
        (-0.001, ".00"),
        (1.0, "1.00"),
        (0.999, "1.00"),
        (-1.0, "−1.00"),
        (math.nan, "–"),
    ],
)
def test_decimal(value: float, shown: str) -> None:
    assert decimal(value) == shown


def test_interval() -> None:
    assert interval(0.617, 0.484, 0.732) == ".62 [.48, .73]"
    assert interval(0.617, math.nan, math.nan) == ".62"
    assert interval(math.nan, 0.1, 0.2) == "–"


def test_terminal_fits_100_columns(frame: pd.DataFrame) -> None:
    lines = printed(frame).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("[" in line for line in lines if re.match(r"\s*\d+ ", line)) == len(
        [r for r in rank_labels(frame) if r.isdigit()]
    )
    assert "…" not in printed(frame), "a name or a number was cut"


def test_terminal_cuts_nothing_from_long_names(frames: Callable[..., pd.DataFrame]) -> None:
    name = "worst_case_adaptive_sharpness_normalised[norm=linf,radius=0.05]"
    lines = printed(frames({name: {"within_noise_tau": -0.5, "tau_b": -0.5, "granulated_tau": -0.4}})).splitlines()
    start = next(i for i, line in enumerate(lines) if "worst_case" in line)
    assert max(map(len, lines)) <= 100
    assert "".join(line.split()[1 if i == 0 else 0] for i, line in enumerate(lines[start : start + 3])).startswith(name)


def test_terminal_states_counts_and_ceiling_above_the_table(frame: pd.DataFrame) -> None:
    above = " ".join(printed(frame).split("within-noise τ_b")[0].split())
    assert (
        "192 runs: 32 recipes, 3 label noises (0, 0.5, 1), 2 seeds; 8 more did not converge and are not ranked" in above
    )
    assert "noise ceiling of τ_b: .85 [.86, .94] (by label noise 0: .90, 1: .80)" in above
    assert "error gap (fraction)" in above


def test_terminal_marks_scores_inside_their_null_band(frames: Callable[..., pd.DataFrame]) -> None:
    frame = frames({"good": {"within_noise_tau": 0.6}, "idle": {"within_noise_tau": 0.1}})
    by_name = {line.split()[1]: line for line in printed(frame).splitlines() if re.match(r"\s*\d+ ", line)}
    assert "○  .10 [.02, .18]" in by_name["idle"]
    assert "○  .60" not in by_name["good"]
    assert " .60 [.52, .68]" in by_name["good"]


@pytest.mark.parametrize("kind", ["control", "predictor", "uses test inputs"])
def test_every_kind_but_measures_is_named_and_not_ranked(frames: Callable[..., pd.DataFrame], kind: str) -> None:
    rows = {"first": {"within_noise_tau": 0.5}, "second": {"within_noise_tau": 0.1}}
    frame = frames({**rows, "other": {"within_noise_tau": 0.3, "kind": kind}})
    shown = [line for line in printed(frame).splitlines() if "other" in line]
    assert len(shown) == 1
    assert re.match(rf"\s+other \({kind.split()[0]}", shown[0])
    lines = {line.split(" | ")[2]: line for line in text.markdown(frame).splitlines() if line.startswith("| ")}
    assert lines["`other`"].startswith("|  | ")
    assert f"({kind})" in lines["`other`"]
    assert lines["`second`"].startswith("| 2 | ")
    assert lines["`first`"].startswith("| 1 | ")
    assert "(measure)" not in lines["`first`"]


def test_terminal_ranks_no_control_and_greys_it(frames: Callable[..., pd.DataFrame]) -> None:
    planted = {
        "a": {"within_noise_tau": 0.6},
        "coin": {"within_noise_tau": 0.3, "control": True},
        "b": {"within_noise_tau": 0.2},
    }
    assert rank_labels(frames(planted)) == ["1", "", "2"]
    line = next(line for line in printed(frames(planted), color="standard").splitlines() if "coin" in line)
    assert "\x1b[2m" in line


def test_terminal_top_counts_ranked_measures(frame: pd.DataFrame) -> None:
    shown = printed(frame, top=3)
    ranks = [line.split()[0] for line in shown.splitlines() if re.match(r"\s*\d+ +\w+", line) and "[" in line]
    assert ranks == ["1", "2", "3"]
    assert f"… {(~frame['control']).sum() - 3} more measures: --all shows them" in shown
    for control in ("coin", "epochs_trained"):
        assert f"{control} (control)" in shown, "controls stay, however far down"


def shown_names(shown: str) -> list[str]:
    return [line.split()[1] for line in shown.splitlines() if re.match(r"\s*\d+ +[a-z]", line) and "[" in line]


def test_terminal_sorts_by_what_is_asked_for(frame: pd.DataFrame) -> None:
    measures = frame[(frame["kind"] == "measure")]
    for score in SCORES:
        best = measures[score].dropna().sort_values(ascending=False, kind="stable").index[:5]
        assert shown_names(printed(frame, 5, sort=score)) == list(best)
        assert SCORES[score].title in printed(frame, 5, sort=score)
    cheap = measures[measures["within_noise_tau"].notna()]["seconds"].sort_values(kind="stable").index[:5]
    assert shown_names(printed(frame, 5, sort="seconds")) == list(cheap)
    assert "cost a run" in printed(frame, 5, sort="seconds")
    assert shown_names(printed(frame, 5, sort="measure")) == sorted(measures["tau_b"].dropna().index)[:5]
    with pytest.raises(InputError, match="unknown score 'taub'; did you mean tau_b"):
        text.terminal(frame, sort="taub")


def test_terminal_shows_and_sorts_by_an_axis(frames: Callable[..., pd.DataFrame]) -> None:
    rows = {f"m{at}": {"within_noise_tau": 0.9 - 0.1 * at, "psi_width": 0.1 * at} for at in range(5)}
    shown = printed(frames(rows), axis="width")
    assert shown_names(shown) == ["m4", "m3", "m2", "m1", "m0"]
    assert "τ along width" in shown
    assert shown_names(printed(frames(rows), axis="width", sort="within_noise_tau")) == ["m0", "m1", "m2", "m3", "m4"]
    with pytest.raises(InputError, match="unknown axis 'widht'; did you mean width"):
        text.terminal(frames(rows), axis="widht")
    assert max(map(len, shown.splitlines())) <= 100


def test_terminal_folds_what_ranks_alike(frames: Callable[..., pd.DataFrame]) -> None:
    rows = {
        "norm": {"within_noise_tau": 0.5},
        "norm_per_sample": {"within_noise_tau": 0.5, "same_as": "norm"},
        "other": {"within_noise_tau": 0.3},
    }
    frame = frames(rows)
    shown = printed(frame)
    assert shown_names(shown) == ["norm", "other"]
    assert "norm =\N{NO-BREAK SPACE}…_per_sample" in shown
    assert "ranks these runs exactly alike" in shown
    assert rank_labels(frame) == ["1", "=", "2"]
    assert "norm_per_sample" in text.csv(frame)
    assert "ranks these runs exactly alike" not in printed(frames({"norm": {}}))


def test_terminal_shows_coverage(frame: pd.DataFrame) -> None:
    row = rows(frame)[0]
    assert f"{row['ok']}/{row['undefined']}/{row['failed']}" in printed(frame)
    assert "0/192/0" in printed(frame), "the measure that is never defined"


def test_csv_round_trips_exactly(frame: pd.DataFrame) -> None:
    header, *lines = csv.reader(io.StringIO(text.csv(frame)))
    assert header == ["measure", *frame.columns]
    assert [line[0] for line in lines] == list(frame.index)
    for position, column in enumerate(frame, start=1):
        shown = [line[position] for line in lines]
        if frame[column].dtype.kind == "f":
            np.testing.assert_array_equal([float(value) if value else np.nan for value in shown], frame[column])
        else:
            assert shown == [str(value) for value in frame[column]]


def test_markdown_round_trips_to_two_digits(frame: pd.DataFrame) -> None:
    lines = [line for line in text.markdown(frame).splitlines() if line.startswith("|")][2:]
    assert len(lines) == len(frame)
    for line, row in zip(lines, rows(frame)):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert cells[1] == "1–4"
        assert cells[2] == f"`{row['key']}`"
        for cell, score in zip(cells[4:8], ("within_noise_tau", "granulated_tau", "tau_b", "randomisation_auc")):
            if math.isnan(row[score]):
                assert cell == "–"
                continue
            numbers = [float(number) for number in re.findall(r"-?\d*\.\d+", cell)]
            expected = [row[score], row[f"{score}_low"], row[f"{score}_high"]]
            assert numbers == [pytest.approx(value, abs=0.005001) for value in expected]
        assert ("○" in cells[4]) == (place(row, "within_noise_tau") == "inside")


def test_markdown_escapes_a_bar_in_a_name(frames: Callable[..., pd.DataFrame]) -> None:
    lines = [line for line in text.markdown(frames({"a|b": {}, "c": {}})).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_latex_escapes_names(frames: Callable[..., pd.DataFrame]) -> None:
    shown = text.latex(frames({"path_norm": {"within_noise_tau": -0.5}}))
    assert r"\texttt{path\_norm}" in shown
    assert r"$-$.50 [$-$.58, $-$.42]" in shown
    assert {line.count("&") - line.count(r"\&") for line in shown.splitlines() if line.endswith(r"\\")} == {9}


def test_place_has_three_answers(frames: Callable[..., pd.DataFrame]) -> None:
    frame = frames({"a": {"tau_b": 0.5}, "b": {"tau_b": 0.15}, "c": {"tau_b": -0.2}, "d": {"tau_b": math.nan}})
    assert [place(row, "tau_b") for row in rows(frame)] == ["above", "inside", "below", ""]


def test_every_score_of_the_leaderboard_has_a_title(frame: pd.DataFrame) -> None:
    assert {column.removesuffix("_null_low") for column in frame if column.endswith("_null_low")} == set(SCORES)


def test_rank_and_axis_intervals(frames: Callable[..., pd.DataFrame]) -> None:
    (row,) = rows(frames({"a": {}}))
    assert rank_interval(row) == "1–4"
    assert rank_interval({"rank_low": math.nan, "rank_high": 3.0}) == rank_interval({}) == ""
    assert psi_text(row) == "width .31 [.05, .52]"
    assert psi_text({"tau_b": 0.5}) == ""


def test_counts_name_what_was_left_out(frames: Callable[..., pd.DataFrame]) -> None:
    shown = counts_text(frames({"a": {}}, excluded_not_converged=1, constant_gap=[1.0], runs=1))
    assert shown.startswith("1 run: 32 recipes")
    assert "1 more did not converge and is not ranked" in shown
    assert "the gap is constant at label noise 1, which within-noise scores leave out" in shown
    assert "too few recipes" not in shown
    few = counts_text(frames({"a": {}}, few_recipes=[0.25, 0.5]))
    assert few.endswith("; within-noise scores leave out label noise 0.25, 0.5, of too few recipes")
