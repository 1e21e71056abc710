from __future__ import annotations

import pytest

from gapbench.reports.references import Citation, bundled, cite, parse

BIB = r"""
% a comment
@article{jiang2020,
  title   = {Fantastic Generalization Measures and {W}here to Find Them},
  author  = {Yiding Jiang and Behnam Neyshabur and Hossein Mobahi},
  journal = {ICLR}, year = {2020}, eprint = {1912.02178}, archivePrefix = {arXiv},
}
@inproceedings{ two , author="M{\"u}ller, Klaus and Rousseau, Fran\c{c}ois",
  title = "Rates -- {O(1/n)} \& more", year=2017,
  doi = {https://doi.org/10.1000/182}}
@book{vapnik1998, author = {Vladimir N. Vapnik}, title = {Statistical Learning Theory},
  publisher = {Wiley}, year = 1998}
@misc{bad, author = {A. Bad and others}, title = {Link}, year = {2001}, url = {javascript:alert(1)}}
@string{x = "y"}
"""


def test_parse() -> None:
    found = parse(BIB)
    assert list(found) == ["jiang2020", "two", "vapnik1998", "bad"]
    jiang = found["jiang2020"]
    assert (jiang.short, jiang.title) == (
        "Jiang et al. 2020",
        "Fantastic Generalization Measures and Where to Find Them",
    )
    assert (jiang.venue, jiang.url) == ("ICLR", "https://arxiv.org/abs/1912.02178")
    assert (found["two"].short, found["two"].title) == ("Müller & Rousseau 2017", "Rates – O(1/n) & more")
    assert found["two"].url == "https://doi.org/10.1000/182"
    assert found["vapnik1998"].short == "Vapnik 1998"


def test_only_web_addresses_become_links() -> None:
    assert parse(BIB)["bad"].url == ""
    assert parse(BIB)["bad"].short == "Bad et al. 2001"


@pytest.mark.parametrize(
    ("source", "texts", "urls"),
    [
        ("jiang2020, eq. 33", ["Jiang et al. 2020, eq. 33"], ["https://arxiv.org/abs/1912.02178"]),
        ("jiang2020; two, th. 1", ["Jiang et al. 2020", "Müller & Rousseau 2017, th. 1"], None),
        ("arXiv:1706.08947, eq. 2", ["arXiv:1706.08947, eq. 2"], ["https://arxiv.org/abs/1706.08947"]),
        ("doi:10.1/x", ["doi:10.1/x"], ["https://doi.org/10.1/x"]),
        ("unpublished", ["unpublished"], [""]),
        ("nobody1999, p. 3", ["nobody1999, p. 3"], [""]),
    ],
)
def test_cite(source: str, texts: list[str], urls: list[str] | None) -> None:
    found = cite(source, parse(BIB))
    assert [citation.text for citation in found] == texts
    assert urls is None or [citation.url for citation in found] == urls
    assert all(isinstance(citation, Citation) for citation in found)


def test_the_bundled_bibliography_is_sound() -> None:
    """Every entry by itself: closed, with an author, a title and a year, no title twice, in order of the keys."""
    import re
    from importlib.resources import files

    text = files("gapbench.measures").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=@)", text.strip())
    keys = [re.match(r"@\w+\{([^,\s]+),\n", entry) for entry in entries]
    assert all(key is not None for key in keys)
    assert [key[1] for key in keys if key] == sorted(bundled())
    for entry in entries:
        assert entry.count("{") == entry.count("}"), entry
        assert entry.rstrip().endswith("\n}"), entry
        for field in ("author", "title", "year"):
            assert len(re.findall(rf"^  {field} = ", entry, flags=re.MULTILINE)) == 1, entry
    titles = [reference.title.lower() for reference in bundled().values()]
    assert sorted(titles) == sorted(set(titles))
