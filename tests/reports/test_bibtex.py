"""The BibTeX entries of exactly the measures that are shown."""

from __future__ import annotations

from gapbench.measures import MEASURES
from gapbench.reports.bibtex import bibtex, entries
from gapbench.reports.references import bundled, bundled_text

TEXT = """
@comment{nothing, here}
@article{one2020,
  title = {A {nested} title with a, comma},
  year = 2020
}
@string{x = "y"}
@book{two2021, title = {Two}}
"""


def test_entries_are_copied_whole_and_sorted():
    found = bibtex({"a": "two2021, eq. 3; one2020", "b": "two2021"}, TEXT)
    assert found.index("@article{one2020") < found.index("@book{two2021")
    assert found.count("@book") == 1
    assert "A {nested} title with a, comma},\n  year = 2020\n}" in found
    assert "@string" not in found


def test_only_what_is_cited_and_what_has_no_entry_is_named():
    found = bibtex({"a": "one2020", "b": "unpublished", "c": "unpublished"}, TEXT)
    assert "two2021" not in found
    assert found.startswith("% unpublished: no entry; cited by b, c\n")


def test_the_bundled_bibliography_covers_the_built_in_measures():
    assert set(entries(bundled_text())) == set(bundled())
    found = bibtex({key: entry.source for key, entry in MEASURES.items()}, bundled_text())
    assert len(entries(found)) > 5
    assert found.count("{") == found.count("}")
