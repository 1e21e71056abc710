"""The documents: made from the registry where they can be, and true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gapbench.cli import main
from gapbench.measures import BUILT_IN, MEASURES
from gapbench.reports.catalog import catalog

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_catalog_is_current() -> None:
    stored = (ROOT / "docs/measures.md").read_text(encoding="utf-8")
    assert stored == catalog(BUILT_IN), "docs/measures.md is stale: gapbench catalog --out docs/measures.md"


def test_the_readme_names_commands_and_options_that_exist() -> None:
    commands = set(re.findall(r"(?:`|\$ |&& |/run )gapbench ([a-z]+)\b", README))
    assert len(commands) >= 7
    assert commands <= set(main.commands), commands - set(main.commands)
    known = {option for command in main.commands.values() for one in command.params for option in one.opts}
    known |= {"--help", "--torch-backend"}
    options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README))
    assert options <= known, options - known


def test_the_readmes_measures_exist() -> None:
    block = re.search(r"\n +#  measure.*?\n(.*?)```", README, flags=re.DOTALL)
    assert block is not None
    names = re.findall(r"^ *\d+ +([a-z_0-9]+)", block.group(1), flags=re.MULTILINE)
    assert len(names) >= 5
    for name in names:
        assert any(key.startswith(name) for key in MEASURES), name


def test_the_readmes_six_lines_register_a_measure(tmp_path: Path) -> None:
    from gapbench.measures.plugins import own_keys

    code = re.search(r"```python\n(from gapbench import measure\n.*?)```", README, flags=re.DOTALL)
    assert code is not None
    assert len([line for line in code.group(1).splitlines() if line]) <= 6
    file = tmp_path / "mine.py"
    file.write_text(code.group(1), encoding="utf-8")
    assert own_keys(file) == ["largest_weight"]


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_the_readmes_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_contributing_is_short_and_ends_with_adding_a_measure() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert [line for line in lines if line.startswith("## ")][-1] == "## Adding a measure"


def test_no_registry_and_no_machine_is_named() -> None:
    """The lock holds names, versions and hashes only."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "http" not in lock
    assert "--hash=sha256:" in lock
    assert not re.search(r"index-url|find-links|file:", lock)


def test_the_index_of_phenomena_is_current() -> None:
    from gapbench.evaluate.phenomena import PHENOMENA
    from gapbench.reports.phenomena_index import index

    stored = (ROOT / "docs/phenomena.md").read_text(encoding="utf-8")
    assert stored == index(PHENOMENA.values()), "docs/phenomena.md is stale: gapbench phenomenon --index"


def test_the_sources_of_phenomena_are_in_the_bibliography() -> None:
    from gapbench.evaluate.phenomena import PHENOMENA
    from gapbench.reports.references import bundled, cite

    for entry in PHENOMENA.values():
        assert all(citation.title or citation.url for citation in cite(entry.source, bundled())), entry.name
