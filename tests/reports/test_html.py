from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.assessment import adjusted_p, assessment
from gapbench.reports import html, scores, sections
from gapbench.reports.findings import answer, plain
from gapbench.reports.scores import rows, score_text
from gapbench.reports.text import csv

VOID = {"meta", "link", "input", "wbr", "br", "hr", "img"}
PROVENANCE = {
    "versions": {"gapbench": "0.1.0", "torch": "2.15"},
    "seeds": {"root_seed": 17},
    "command": "gapbench run quick",
}


class Page(HTMLParser):
    """Checks nesting while it reads; keeps elements, texts by element, and the board's cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def written(table: Any, boards: Callable[..., Any], references: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    tmp_path, frame = tmp_path_factory.mktemp("report"), boards(table)
    out = html.report(table, frame, provenance=PROVENANCE, out=tmp_path / "new" / "report.html", references=references)
    assert out == tmp_path / "new" / "report.html"
    return out.read_text(encoding="utf-8")


def test_page_is_well_formed(written: str) -> None:
    page = Page(written)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"] for attrs in page.all("a") if (attrs.get("href") or "").startswith("#")}
    assert len(targets) > 40
    assert targets <= {f"#{name}" for name in ids}
    assert "nan" not in page.words.lower().split()


def test_the_checker_sees_bad_nesting() -> None:
    with pytest.raises(AssertionError, match="closes"):
        Page("<p><b></p></b>")


def test_page_asks_nothing_of_the_network(written: str) -> None:
    page = Page(written)
    policy = next(
        attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert (policy or "").startswith("default-src 'none'")
    for tag, attrs in page.elements:
        assert not {"src", "srcset", "data", "poster", "action", "background"} & attrs.keys(), (tag, attrs)
        link = attrs.get("href") or attrs.get("xlink:href") or ""
        if tag == "image":
            assert link.startswith("data:image/png;base64,")
        elif tag == "use":
            assert link.startswith("#")
        elif link and tag != "a":
            assert (tag, link) == ("link", "data:,")
    hosts = {(attrs.get("href") or "").split("/")[2] for attrs in page.all("a") if "//" in (attrs.get("href") or "")}
    assert hosts == {"arxiv.org"}, "citations are links, and nothing else is"
    code = "".join(re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", written, re.S))
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", code)


def test_answer_stands_first_and_comes_from_the_numbers(written: str, frame: pd.DataFrame) -> None:
    words = Page(written).words
    places = [words.index(plain(sentence).replace("τ_b", "τ b").replace("τ b", "τb")) for sentence in answer(frame)]
    assert places == sorted(places)
    assert places[-1] < words.index("Best first, by Kendall")


def test_answer_changes_with_the_numbers(small: Any, boards: Callable[..., Any], references: Any) -> None:
    table, frame = small, boards(small)
    changed = frame.copy()
    changed.attrs = frame.attrs
    last = frame.index[~frame["control"].to_numpy() & frame["tau_b"].notna().to_numpy()][-1]
    changed.loc[last, ["within_noise_tau", "within_noise_tau_low", "within_noise_tau_high"]] = (0.99, 0.98, 1.0)
    words = Page(html.page(table, changed, {}, references)).words
    assert f"{last} orders the error gap best: τb = .99 [.98, 1.00]" in words
    assert f"{last} orders the error gap best" not in Page(html.page(table, frame, {}, references)).words


def test_kinds_are_named_and_features_are_nowhere(small: Any, boards: Callable[..., Any], references: Any) -> None:
    frame = boards(small)
    predictor, feature = frame.index[1], frame.index[2]
    frame.loc[predictor, "kind"] = "predictor"
    changed = frame.drop(index=feature)
    changed.attrs = frame.attrs
    page = html.page(small, changed, {}, references)
    assert f'class="control" data-measure="{predictor}"' in page
    assert "predictor, not ranked" in Page(page).words
    assert feature not in page
    whole = html.page(small, frame, {}, references)
    assert feature in whole
    assert f'class="control" data-measure="{feature}"' not in whole


def cells(text: str) -> dict[str, list[str]]:
    """The data-v of every cell of the leaderboard, by measure."""
    board = text[text.index('<table id="board"') : text.index("</table>", text.index('<table id="board"'))]
    rows = re.findall(r'<tr[^>]*data-measure="([^"]*)"[^>]*>(.*?)</tr>', board, re.S)
    return {key: re.findall(r'<td[^>]*data-v="([^"]*)"', row) for key, row in rows}


def test_values_of_the_page_are_those_of_the_csv(written: str, frame: pd.DataFrame) -> None:
    found = cells(written)
    assert list(found) == [*frame.index[frame["kind"] == "measure"], *frame.index[frame["kind"] == "control"]]
    whole = frame.join(adjusted_p(frame, ("within_noise_tau",)))
    columns = ["within_noise_tau", "within_noise_tau_p", "within_noise_tau_holm", "granulated_tau", "tau_b"]
    columns += ["randomisation_auc"]
    for key, values in found.items():
        numbers = [float(value) if value else math.nan for value in [*values[2:8], values[9]]]
        np.testing.assert_array_equal(numbers, whole.loc[key, [*columns, "seconds"]].to_numpy(dtype=float))
        assert int(values[8]) == frame.loc[key, "ok"]
    embedded = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]*)"', written)
    assert embedded is not None
    assert base64.b64decode(embedded[1]).decode() == csv(frame)
    words = Page(written).words
    for row in rows(frame):
        assert score_text(row, "within_noise_tau") in words


@pytest.fixture(scope="module")
def assessed(small: Any, boards: Callable[..., Any], references: Any) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """A page with its assessment and leaderboard, in which one measure repeats another."""
    frame, found = boards(small), assessment(small, permutations=20, mixed=False)
    repeated, parent = "measure_03", "measure_00"
    frame.loc[repeated, "same_as"] = parent
    return html.page(small, frame, PROVENANCE, references, found), found, frame


def test_the_assessment_is_on_the_page_as_in_its_csv(assessed: Any) -> None:
    text, found, _ = assessed
    section = text[text.index('<section id="statistics">') : text.index('<section id="provenance">')]
    rows = re.findall(r'<tr[^>]*><td class="name" data-v="([^"]*)">.*?</tr>', section, re.S)
    assert set(rows) == set(found.index) - {"measure_03"}
    shown = {
        key: re.findall(r'<td class="num[^"]*" data-v="([^"]*)"', row)
        for key, row in re.findall(r'<tr[^>]*><td class="name" data-v="([^"]*)">(.*?)</tr>', section, re.S)
    }
    names = [
        "spearman", "conditional_mutual_information", "pgdl_score", "partial_correlation", "r2_increment",
        "affine_oracle",
    ]  # fmt: skip
    assert found["selection_regret"].isna().all(), "no two runs have the same training error"
    assert "selection regret" not in section
    for key, values in shown.items():
        numbers = [float(value) if value else math.nan for value in values]
        np.testing.assert_array_equal(numbers, found.loc[key, names].to_numpy(dtype=float), err_msg=key)
    embedded = re.search(r'download="statistics.csv" href="data:text/csv;charset=utf-8;base64,([^"]*)"', section)
    assert embedded is not None
    assert base64.b64decode(embedded[1]).decode() == csv(found)
    words = Page(text).words
    assert f"The grid of converged runs is complete: {found.attrs['completeness']}." in words
    assert "found with 80 % power" in words


def test_what_repeats_a_ranking_is_folded_into_its_parent(assessed: Any) -> None:
    text, _, frame = assessed
    assert "measure_03" not in cells(text)
    assert set(cells(text)) == set(frame.index) - {"measure_03"}
    row = re.search(r'<tr data-measure="measure_00".*?</tr>', text, re.S)
    assert row is not None
    assert Page(row[0]).words.endswith("= measure_03") or "= measure_03" in Page(row[0]).words
    assert "1 row that orders the runs of this zoo exactly as another measure does" in Page(text).words
    card = re.search(rf'<div class="body" id="{html.anchor("measure_00")}">.*?</details>', text, re.S)
    assert card is not None
    assert f'id="{html.anchor("measure_03")}"' in card[0], "links to it lead to its parent's card"
    targets = {attrs["href"] for attrs in Page(text).all("a") if (attrs.get("href") or "").startswith("#")}
    assert targets <= {f"#{attrs['id']}" for _, attrs in Page(text).elements if "id" in attrs}
    ranks = [re.search(r'data-v="(\d+)"', row) for row in re.findall(r'<td class="num rank".*?</td>', text)]
    numbers = [int(match[1]) for match in ranks if match]
    assert numbers == list(range(1, len(numbers) + 1)), "ranks count rankings, without holes"


def test_bounds_say_what_they_bound(assessed: Any) -> None:
    text, found, _ = assessed
    section = text[text.index('<section id="bounds">') : text.index('<section id="absent">')]
    assert re.findall(r"<code>(measure_<wbr>04)</code>", section)
    held = found.loc["measure_04", "bound_held"]
    assert f"{100 * held:.0f} % [" in Page(section).words
    assert "pac_bayes" not in Page(section).words, "only where such a bound is shown"


def test_the_map_by_axes_has_the_scores_of_the_leaderboard(assessed: Any) -> None:
    text, _, frame = assessed
    section = text[text.index('<section id="maps">') : text.index('<section id="environments">')]
    rows = re.findall(r'<tr[^>]*><td class="name" data-v="([^"]*)">(.*?)</tr>', section, re.S)
    assert [key for key, _ in rows] == [key for key in frame.index if key != "measure_03"]
    for key, row in rows:
        numbers = [float(v) if v else math.nan for v in re.findall(r'<td class="cell[^"]*" data-v="([^"]*)"', row)]
        np.testing.assert_array_equal(numbers, frame.loc[key, ["psi_width", "randomisation_auc"]].to_numpy(dtype=float))


def test_reasons_are_shown(written: str) -> None:
    section = Page(written[written.index('<section id="absent">') : written.index('<section id="zoo">')]).words
    assert "layers are smaller than 50 x 50: no power law is fitted" in section
    assert "raised LinAlgError: SVD did not converge" in section
    assert "training margin is not positive" in section
    assert section.index("failed") < section.index("never")


def test_absences_count_and_group(table: Any) -> None:
    found = {(item["measure"], item["status"]): item for item in sections.absences(table.readings)}
    counts = table.readings[table.readings["status"] != "ok"].groupby(["measure", "status"]).size()
    assert {key: item["count"] for key, item in found.items()} == counts.to_dict()
    assert len(found["measure_05", "undefined"]["reasons"]) == 1, "reasons that differ in a number are one"
    remark = table.readings.assign(reason=np.where(table.readings["measure"] == "coin", "stopped at its cap", ""))
    assert [item["status"] for item in sections.absences(remark.assign(status="ok"))] == ["ok"]
    assert sections.absences(table.readings.assign(status="ok", reason="")) == []
    many = pd.DataFrame({"run": list("abcdefg"), "measure": "m", "status": "failed", "reason": list("uvvwwxy")})
    (item,) = sections.absences(many)
    assert item["reasons"] == [("v", 2), ("w", 2), ("u", 1)]
    assert item["more"] == 2


def test_zoo_and_provenance(written: str, table: Any) -> None:
    words = written[written.index('<section id="zoo">') :]
    for expected in (
        "learning_rate",
        "0.0005",
        "×96",
        "versions · torch",
        "2.15",
        "seeds · root_seed",
        "17",
    ):
        assert expected in words
    for row in sections.outcomes(table.runs, "error_gap"):
        kept = table.runs[(table.runs["label_noise"] == float(row["label_noise"])) & table.runs["converged"]]
        assert row["converged"] == len(kept)
        assert float(row["test_error"]) == pytest.approx(kept["test_error"].mean(), abs=5e-5)
        assert f"{row['converged']} / {row['runs']}" in words


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "a'b&c"])
def test_names_reasons_and_provenance_are_escaped(
    evil: str, small: Any, boards: Callable[..., Any], references: Any, renamed: Callable[..., Any]
) -> None:
    frame, made = boards(small), renamed("measure_00", evil)
    readings = made.readings.assign(
        reason=made.readings["reason"].replace("", "").mask(made.readings["status"] == "failed", evil)
    )
    named = frame.rename(index={"measure_00": evil}).assign(family=evil)
    named.attrs = frame.attrs
    text = html.page(replace(made, readings=readings), named, {evil: evil}, references)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any("onerror" in attrs for _, attrs in page.elements)
    assert evil in page.words
    assert evil in [attrs.get("data-measure") for attrs in page.all("tr")]


def test_anchors_are_unique_and_plain() -> None:
    keys = ["a[b=1]", "a[b=1", "a-b-1", "a_b", "a b", "ä"]
    assert len({html.anchor(key) for key in keys}) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", html.anchor(key)) for key in keys)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00012, "0.12 ms"), (0.019, "19 ms"), (0.45, "450 ms"), (0.9999, "1.0 s"), (75, "1.2 min"), (math.nan, "–")],
)
def test_seconds(value: float, shown: str) -> None:
    assert scores.seconds(value) == shown


def test_zoo_without_twins(tables: Callable[..., Any], boards: Callable[..., Any], references: Any) -> None:
    table = tables(12, levels=(0.0,))
    frame = boards(table)
    attrs = frame.attrs
    frame = frame.assign(**{c: np.nan for c in frame if c.startswith("randomisation_auc")})
    frame.attrs = {**attrs, "ceiling": {}}
    words = Page(html.page(table, frame, {}, references)).words
    assert "The randomisation test could not be made" in words
    assert "no two runs of this zoo differ in their labels alone" in words
    assert "Noise ceiling of τb: not known" in words


def test_zoo_where_nothing_converged(small: Any, boards: Callable[..., Any], references: Any) -> None:
    table, frame = small, boards(small)
    runs = table.runs.assign(converged=False)
    Page(html.page(replace(table, runs=runs, axes=()), frame, {}, references))


def test_other_targets_carry_their_unit(small: Any, boards: Callable[..., Any], references: Any) -> None:
    table, frame = small, boards(small)
    frame.attrs["target"] = "loss_gap"
    words = Page(html.page(table, frame, {}, references)).words
    assert "loss gap (nats)" in words
    assert "error gap (fraction)" not in words


def test_sixty_measures_of_two_hundred_runs_are_small_and_quick(
    tables: Callable[..., Any], boards: Callable[..., Any], references: Any
) -> None:
    table = tables(60)
    frame = boards(table)
    started = time.process_time()
    text = html.page(table, frame, {}, references)
    assert time.process_time() - started < 10
    assert len(text.encode()) < 1_000_000


def test_a_hundred_and_twenty_measures_of_a_thousand_runs_fit_five_megabytes(
    tables: Callable[..., Any], boards: Callable[..., Any], references: Any
) -> None:
    table = tables(24, seeds=11)
    assert len(table.runs) == 1056
    assert len(html.page(table, boards(table), {}, references).encode()) < 5_000_000 / 5
