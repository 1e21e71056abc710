"""The index of phenomena as Markdown: docs/phenomena.md is made by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gapbench.reports.references import bundled, cite

if TYPE_CHECKING:
    from gapbench.evaluate.phenomena import Phenomenon

_HEAD = """# Phenomena

{count} phenomena that every theory of generalization must explain, each made by one command. Made from the registry by
`gapbench phenomenon --index`; do not edit.

```console
$ gapbench phenomenon double_descent            # minutes: a record, a table, a figure, and whether it was seen
$ gapbench phenomenon grokking --full --plan    # larger settings, nearer the paper's: what they take
$ gapbench phenomena                            # all of them, and phenomena.html
```

Each says *seen* or *not seen* by a rule that stands in its file and was fixed before it was run; a condition that was
added after a look says so, and only makes the rule stricter. The exit status is 0
where it was seen, 1 where it was not, 2 where something is wrong.
"""


def index(phenomena: Iterable[Phenomenon]) -> str:
    """Title, source, claim and rule of each phenomenon."""
    entries = list(phenomena)
    lines = [_HEAD.format(count=len(entries)), "| name | what is to be seen |", "|:--|:--|"]
    lines += [f"| [`{entry.name}`](#{entry.name}) | {entry.title} |" for entry in entries]
    for entry in entries:
        lines += ["", f"## {entry.name}", "", f"{entry.title}.", "", f"**Source.** {_sources(entry.source)}", ""]
        for name in ("Claim", "Rule", "Tried"):
            text = entry.section(name)
            lines += [f"**{name}.** {text}", ""] if text else []
        quick, full = (len(entry.cells(settings)) for settings in (entry.quick, entry.full))
        times = entry.work(entry.full) / entry.work(entry.quick)
        lines.append(f"Quick: {quick:,} cells. Full: {full:,} cells, about {times:,.2g} times the work.")
    return "\n".join(lines) + "\n"


def _sources(source: str) -> str:
    found = cite(source, bundled())
    return "; ".join(f"[{one.text}]({one.url})" if one.url else one.text for one in found)
