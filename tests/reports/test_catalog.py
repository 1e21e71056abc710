from __future__ import annotations

import re
from typing import Any

import pytest

from gapbench.datasets.errors import InputError
from gapbench.measures.registry import Registry, build, entries, measure, quantity, variants
from gapbench.reports.catalog import catalog, knobs, listing, show


@quantity(large=True)
def jacobian(network: Any) -> Any:
    """The Jacobian of the outputs."""


@quantity
def norms(network: Any, jacobian: Any) -> Any:
    """Norms of the layers."""


@measure(source="jiang2020, eq. 33", sign=1, bound=True, invariances=("rescaling",))
def path_size(norms: Any) -> float:
    """Size of the paths | of a network.

    Formula: sum of squares.
    """
    raise AssertionError


@measure(source="unpublished", sign=-1)
def sharp(norms: Any, rng: Any, *, radius: float = 0.1, steps: int = 20) -> float:
    """Sharpness in a ball."""
    raise AssertionError


@measure(source="unpublished", sign=1, control=True)
def coin(rng: Any) -> float:
    """A coin."""
    raise AssertionError


variants(sharp, radius=(0.05, 0.2))


@pytest.fixture
def registry() -> Registry:
    families = {path_size: "paths", sharp: "sharpness", coin: "controls", jacobian: "", norms: ""}
    return build(item for function, family in families.items() for item in entries(function, family))


def test_catalog_has_an_entry_a_measure(registry: Registry, references: Any) -> None:
    text = catalog(registry, references)
    assert "3 measures in 3 families, 5 rows with their variants, from 2 shared quantities" in text
    assert re.findall(r"^## (.*)$", text, re.M) == ["controls", "paths", "sharpness", "Quantities", "References"]
    assert re.findall(r"^### (.*)$", text, re.M) == ["coin", "path_size", "sharp"]
    entry = text[text.index("### path_size") : text.index("## sharpness")]
    for expected in (
        "Formula: sum of squares.",
        "* source: [Jiang et al. 2020, eq. 33](https://arxiv.org/abs/1912.02178)",
        "* sign: + (a larger value predicts a larger gap)",
        "* bound: yes, of the error gap",
        "* needs: norms (through them: jacobian, network)",
        "* invariances: rescaling",
    ):
        assert expected in entry
    assert "* variants: `sharp[radius=0.05]`, `sharp[radius=0.2]`" in text
    assert "* knobs: radius=0.1, steps=20" in text
    assert "* Jiang et al. (2020). [Fantastic Generalization Measures](https://arxiv.org/abs/1912.02178)." in text


def test_catalog_tables_are_whole(registry: Registry, references: Any) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", catalog(registry, references), re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_catalog_links_resolve(registry: Registry, references: Any) -> None:
    text = catalog(registry, references)
    headings = {heading.lower() for heading in re.findall(r"^#+ (.*)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


def test_catalog_is_the_same_every_time(registry: Registry, references: Any) -> None:
    assert catalog(registry, references) == catalog(registry, references)


def test_show(registry: Registry, references: Any) -> None:
    text = show(registry.measures["sharp[radius=0.2]"], registry, references)
    assert text.startswith("sharp[radius=0.2]  (sharpness)\n\nSharpness in a ball.")
    assert re.search(r"sign +− \(a smaller value predicts a larger gap\)", text)
    assert re.search(r"knobs +radius=0.2, steps=20", text)
    assert re.search(r"variants +sharp, sharp\[radius=0.05\]", text)
    text = show(registry.measures["path_size"], registry, references)
    assert "Jiang et al. 2020, eq. 33. Fantastic Generalization Measures. https://arxiv.org/abs/1912.02178" in text
    assert re.search(r"cost +weights\n", text)
    assert "stored zoos" not in text


def test_show_says_how_a_measure_did(registry: Registry, references: Any) -> None:
    entry = registry.measures["path_size"]
    assert re.search(
        r"on quick +place 3 of 86", show(entry, registry, references, standings={"quick": "place 3 of 86"})
    )
    assert re.search(r"stored zoos +none", show(entry, registry, references, standings={}))


def test_knobs(registry: Registry) -> None:
    assert knobs(registry.measures["sharp"]) == {"radius": 0.1, "steps": 20}
    assert knobs(registry.measures["sharp[radius=0.05]"]) == {"radius": 0.05, "steps": 20}


def test_listing(registry: Registry) -> None:
    lines = listing(registry).splitlines()
    assert [line.split()[1] for line in lines] == [
        "coin",
        "path_size",
        "sharp",
        "sharp[radius=0.05]",
        "sharp[radius=0.2]",
    ]
    assert "(control) A coin." in lines[0]
    assert "(bound) Size of the paths" in lines[1]
    assert lines[2].startswith("− sharp ")
    assert len(listing(registry, family="sharpness").splitlines()) == 3
    assert len(listing(registry, glob="sharp[radius=0.05]").splitlines()) == 1
    assert len(listing(registry, family="sharpness", glob="*0.2*").splitlines()) == 1


def test_listing_refuses_what_matches_nothing(registry: Registry) -> None:
    with pytest.raises(InputError, match="unknown family 'sharpnes'; did you mean sharpness"):
        listing(registry, family="sharpnes")
    with pytest.raises(InputError, match="no measure matches 'size'"):
        listing(registry, glob="size")
