"""References: the keys of references.bib that measures cite, as text and links."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """One entry of a bibliography; ``url`` is a DOI, arXiv or web address, or empty."""

    key: str
    authors: str
    title: str
    year: str
    venue: str
    url: str

    @property
    def short(self) -> str:
        """As cited in a sentence: "Jiang et al. 2020"."""
        return f"{self.authors} {self.year}".strip()


@dataclass(frozen=True)
class Citation:
    """A source as declared by a measure, resolved: ``text`` to show, ``title`` and ``url`` where they are known."""

    text: str
    title: str = ""
    url: str = ""


_ENTRY = re.compile(r"@(\w+)\s*\{\s*([^,\s}]+)\s*,")
_FIELD = re.compile(r"(\w+)\s*=\s*")
_ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "=": "\u0304", ".": "\u0307"}
_ACCENTS |= {"c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a"}
_LETTERS = {"o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ss": "ß", "aa": "å", "AA": "Å", "ae": "æ", "i": "i"}


@cache
def bundled() -> Mapping[str, Reference]:
    """The bibliography that comes with the built-in measures."""
    return parse(bundled_text())


def bundled_text() -> str:
    """The same, as the BibTeX text."""
    # find_spec does not import the package, which would import torch; importlib.resources would.
    package = find_spec("gapbench.measures")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "references.bib").read_text(encoding="utf-8")


def parse(text: str) -> dict[str, Reference]:
    """The entries of a BibTeX file by key; comments and @string entries are passed over."""
    found: dict[str, Reference] = {}
    for match in _ENTRY.finditer(text):
        if match[1].lower() not in ("comment", "string", "preamble"):
            found[match[2]] = _reference(match[2], _fields(text, match.end()))
    return found


def _fields(text: str, position: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    while position < len(text) and text[position] != "}":
        match = _FIELD.match(text, position)
        if match is None:
            position += 1
            continue
        value, position = _value(text, match.end())
        fields[match[1].lower()] = _clean(value)
    return fields


def _value(text: str, start: int) -> tuple[str, int]:
    depth, quoted = 0, start < len(text) and text[start] == '"'
    for position in range(start, len(text)):
        character = text[position]
        if quoted and character == '"' and depth == 0 and position > start:
            return text[start + 1 : position], position + 1
        if not quoted and depth == 0 and character in ",}\n":
            return text[start:position], position
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not quoted and depth == 0 and character == "}":
            return text[start + 1 : position], position + 1
    return text[start:], len(text)


def _clean(value: str) -> str:
    text = re.sub(r"\\(['`\"^~=.]|[cvuHkr](?=[\s{]))\s*\{?\\?([A-Za-z])\}?", lambda m: m[2] + _ACCENTS[m[1]], value)
    text = re.sub(r"\\(ss|aa|AA|ae|[oOlLi])(?![A-Za-z])\s*", lambda m: _LETTERS[m[1]], text)
    text = re.sub(r"\\([&%_#$])", r"\1", text).replace("---", "—").replace("--", "–").replace("~", " ")
    return unicodedata.normalize("NFC", " ".join(re.sub(r"[{}]", "", text).split()))


def _reference(key: str, fields: Mapping[str, str]) -> Reference:
    year = fields.get("year") or fields.get("date", "")[:4]
    venue = fields.get("journal") or fields.get("booktitle") or fields.get("publisher", "")
    return Reference(key, _authors(fields.get("author", key)), fields.get("title", ""), year, venue, _url(fields))


def _authors(text: str) -> str:
    surnames = [
        name.partition(",")[0].strip() if "," in name else name.split()[-1]
        for name in text.split(" and ")
        if name.strip()
    ]
    if len(surnames) > 2 or "others" in surnames:
        return f"{surnames[0]} et al."
    return " & ".join(surnames)


def _url(fields: Mapping[str, str]) -> str:
    if fields.get("doi"):
        return "https://doi.org/" + re.sub(r"^https?://(dx\.)?doi\.org/", "", fields["doi"])
    if fields.get("eprint") and fields.get("archiveprefix", "arxiv").lower() == "arxiv":
        return "https://arxiv.org/abs/" + fields["eprint"]
    noted = re.search(
        r"arXiv:\s*([\w.-]+(?:/\d+)?)", " ".join(fields.get(name, "") for name in ("note", "journal")), re.I
    )
    if noted:
        return "https://arxiv.org/abs/" + noted[1]
    url = fields.get("url", "")
    return url if re.match(r"https?://", url) else ""


def cite(source: str, references: Mapping[str, Reference]) -> list[Citation]:
    """What a measure's ``source`` cites, in order: references by key, "arXiv:…", "doi:…", anything else as it stands.

    Several sources are separated by semicolons; what follows the first comma says where ("jiang2020, eq. 33").
    """
    return [_cite(part.strip(), references) for part in source.split(";") if part.strip()]


def _cite(source: str, references: Mapping[str, Reference]) -> Citation:
    key, comma, where = source.partition(",")
    if key in references:
        entry = references[key]
        return Citation(f"{entry.short}{comma}{where}", entry.title, entry.url)
    kind, _, name = key.partition(":")
    if kind.lower() == "arxiv":
        return Citation(source, url=f"https://arxiv.org/abs/{name.strip()}")
    if kind.lower() == "doi":
        return Citation(source, url=f"https://doi.org/{name.strip()}")
    return Citation(source)
