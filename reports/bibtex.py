"""The BibTeX entries behind some measures, ready for a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def bibtex(sources: Mapping[str, str], bibliography: str) -> str:
    """The entries of a bibliography (a BibTeX text) that measures cite, as they stand there, sorted by key.

    ``sources``: measure -> its declared source ("jiang2020, eq. 33; dziugaite2017"). What is cited and has no entry is
    named in a comment at the top, with the measures that cite it.
    """
    known = entries(bibliography)
    cited: dict[str, list[str]] = {}
    for measure, source in sources.items():
        for part in source.split(";"):
            key = part.partition(",")[0].strip()
            if key:
                cited.setdefault(key, []).append(measure)
    lines = [f"% {key}: no entry; cited by {_names(cited[key])}" for key in sorted(set(cited) - set(known))]
    return (
        "\n\n".join([*(["\n".join(lines)] if lines else []), *(known[key] for key in sorted(set(cited) & set(known)))])
        + "\n"
    )


def _names(measures: Iterable[str]) -> str:
    return ", ".join(sorted(set(measures)))


def entries(text: str) -> dict[str, str]:
    """The text of each entry of a BibTeX file by its key; comments and @string entries are passed over."""
    found = {}
    for match in re.finditer(r"^[ \t]*@(\w+)\s*\{\s*([^,\s}]+)\s*,", text, flags=re.MULTILINE):
        if match[1].lower() in ("comment", "string", "preamble"):
            continue
        depth = 0
        for at in range(text.index("{", match.start()), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                found[match[2]] = text[match.start() : at + 1].strip()
                break
    return found
