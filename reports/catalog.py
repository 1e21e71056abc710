"""The registry as documentation: docs/measures.md, `gapbench show NAME` and `gapbench measures`."""

from __future__ import annotations

import fnmatch
import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gapbench.datasets.errors import InputError, unknown
from gapbench.measures.registry import COSTS, ROOTS, Measure, Registry
from gapbench.reports.references import Citation, Reference, bundled, cite

_SIGNS = {1: "+", -1: "−"}


def catalog(registry: Registry, references: Mapping[str, Reference] | None = None) -> str:
    """Every measure as Markdown: per family a table and an entry each, then the shared quantities and references.

    The same registry gives the same bytes. ``references``: the bibliography, by default the bundled one.
    """
    known = bundled() if references is None else references
    families = _families(registry.measures.values())
    count = len({entry.name for entry in registry.measures.values()})
    lines = [
        "# Measures",
        "",
        f"{count} measures in {len(families)} families, {len(registry.measures)} rows with their variants, from "
        f"{len(registry.quantities)} shared quantities. Made from the registry by `gapbench catalog`; do not edit.",
        "",
        "Sign + says that a larger value predicts a larger gap, − that a smaller one does; it was declared before any "
        "result was seen. A *bound* bounds the error gap; a *control* sets the scale and is not ranked.",
        "",
        f"What a reading costs, by its dearest part, cheapest first: {', '.join(COSTS)}.",
        "",
        *(f"* [{family}](#{family}): {len(_by_name(entries))} measures" for family, entries in families.items()),
        "* [Quantities](#quantities)",
        "* [References](#references)",
        "",
    ]
    for family, entries in families.items():
        lines += _family(family, entries, registry, known)
    return "\n".join([*lines, *_quantities(registry), *_references(registry, known)])


def _families(entries: Any) -> dict[str, list[Measure]]:
    ordered = sorted(entries, key=lambda entry: entry.family)
    return {family: list(part) for family, part in itertools.groupby(ordered, key=lambda entry: entry.family)}


def _by_name(entries: Sequence[Measure]) -> dict[str, list[Measure]]:
    names: dict[str, list[Measure]] = {}
    for entry in entries:
        names.setdefault(entry.name, []).append(entry)
    return names


def _family(family: str, entries: list[Measure], registry: Registry, known: Mapping[str, Reference]) -> list[str]:
    names = _by_name(entries)
    lines = [f"## {family}", "", "| measure | sign | summary | source |", "|:--|:-:|:--|:--|"]
    for name, rows in names.items():
        first = rows[0]
        cells = (f"[`{name}`](#{name.lower()})", _SIGNS[first.sign], first.summary, _link(first.source, known))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines.append("")
    for name, rows in names.items():
        first = rows[0]
        facts = [(label, text) for label, text in _facts(first, registry) if label != "source"]
        lines += [f"### {name}", "", _documentation(first.function), ""]
        lines += [f"* source: {_link(first.source, known)}", *(f"* {label}: {text}" for label, text in facts)]
        variants = [f"`{row.key}`" for row in rows if row.knobs]
        lines += [f"* variants: {', '.join(variants)}"] if variants else []
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _documentation(function: Callable[..., Any]) -> str:
    return inspect.getdoc(function) or "No documentation."


def _facts(entry: Measure, registry: Registry) -> list[tuple[str, str]]:
    """What the registry knows of a measure besides its docstring, as label and text; empty facts are left out."""
    direction = "larger" if entry.sign > 0 else "smaller"
    through = [name for name in registry.closure(entry) if name not in entry.needs]
    facts = [
        ("source", entry.source),
        ("sign", f"{_SIGNS[entry.sign]} (a {direction} value predicts a larger gap)"),
        ("bound", "yes, of the error gap" if entry.bound else ""),
        ("control", "yes, not ranked" if entry.control else ""),
        ("feature", "yes, an input of the predictors, not ranked" if entry.feature else ""),
        ("test inputs", "seen without their labels: listed apart" if entry.uses_unlabelled_test_inputs else ""),
        ("needs", ", ".join(entry.needs) + (f" (through them: {', '.join(through)})" if through else "")),
        ("cost", registry.cost(entry)),
        ("knobs", ", ".join(f"{name}={value!r}" for name, value in knobs(entry).items())),
        ("invariances", ", ".join(name.replace("_", " ") for name in entry.invariances)),
        ("requires", entry.requires or ""),
        ("revision", str(entry.revision)),
    ]
    return [(label, text) for label, text in facts if text]


def knobs(entry: Measure) -> dict[str, Any]:
    """The keyword-only parameters of a measure with the values it is read with."""
    parameters = inspect.signature(entry.function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return {**defaults, **entry.knobs}


def _link(source: str, known: Mapping[str, Reference]) -> str:
    return "; ".join(f"[{c.text}]({c.url})" if c.url else c.text for c in cite(source, known))


def _quantities(registry: Registry) -> list[str]:
    lines = ["## Quantities", "", "Computed once a network and shared by all measures that need them. "]
    lines[-1] += f"The roots are {', '.join(f'`{root}`' for root in ROOTS)}."
    lines += ["", "| quantity | summary | needs | large |", "|:--|:--|:--|:-:|"]
    for name, entry in sorted(registry.quantities.items()):
        summary = _documentation(entry.function).partition("\n")[0]
        needs = ", ".join(f"`{need}`" for need in entry.needs)
        lines.append(f"| `{name}` | {_cell(summary)} | {needs} | {'yes' if entry.large else ''} |")
    return [*lines, ""]


def _references(registry: Registry, known: Mapping[str, Reference]) -> list[str]:
    sources = ";".join(entry.source for entry in registry.measures.values())
    keys = {part.partition(",")[0].strip() for part in sources.split(";")} & set(known)
    lines = ["## References", ""]
    for entry in sorted((known[key] for key in keys), key=lambda e: (e.authors, e.year, e.title, e.key)):
        title = f"[{entry.title}]({entry.url})" if entry.url else entry.title
        lines.append(f"* {entry.authors} ({entry.year}). {title}.{f' {entry.venue}.' if entry.venue else ''}")
    return [*lines, ""]


def show(
    entry: Measure,
    registry: Registry,
    references: Mapping[str, Reference] | None = None,
    *,
    standings: Mapping[str, str] | None = None,
) -> str:
    """One measure in full, as plain text: its name, docstring, source and everything its registration declares.

    ``standings``: by stored zoo, how the measure did there (see `gapbench.reports.standing`).
    """
    known = bundled() if references is None else references
    variants = [row.key for row in registry.measures.values() if row.name == entry.name and row.key != entry.key]
    facts = dict(_facts(entry, registry))
    facts["source"] = "\n".join(_plain(citation) for citation in cite(entry.source, known))
    if variants:
        facts["variants"] = ", ".join(variants)
    if standings is not None and not standings:
        facts["stored zoos"] = "none under ./zoos has read it yet (gapbench run quick)"
    facts |= {f"on {zoo}": text for zoo, text in (standings or {}).items()}
    width = max(map(len, facts)) + 2
    lines = [f"{entry.key}  ({entry.family})", "", _documentation(entry.function), ""]
    for label, text in facts.items():
        first, *rest = text.splitlines()
        lines += [f"{label:<{width}}{first}", *(" " * width + line for line in rest)]
    return "\n".join(lines) + "\n"


def _plain(citation: Citation) -> str:
    return ". ".join(part for part in (citation.text, citation.title, citation.url) if part)


def listing(registry: Registry, family: str | None = None, glob: str | None = None) -> str:
    """The measures as plain text, a line each: sign, key, family and summary, by family in order of registration.

    ``glob``: a shell pattern for the key ("path_*"); the brackets of a variant stand for themselves.

    Raises: InputError where there is no such family, or nothing matches.
    """
    known = {entry.family for entry in registry.measures.values()}
    if family is not None and family not in known:
        raise unknown("family", family, known)
    pattern = re.sub(r"\[", "[[]", glob) if glob is not None else "*"
    entries = [
        entry
        for part in _families(registry.measures.values()).values()
        for entry in part
        if (family is None or entry.family == family) and fnmatch.fnmatchcase(entry.key, pattern)
    ]
    if not entries:
        raise InputError(f"no measure matches {glob!r}{f' in family {family}' if family else ''}; try '*{glob}*'")
    key = max(len(entry.key) for entry in entries)
    group = max(len(entry.family) for entry in entries)
    lines = [f"{_SIGNS[e.sign]} {e.key:<{key}}  {e.family:<{group}}  {_flags(e)}{e.summary}" for e in entries]
    return "\n".join(lines) + "\n"


def _flags(entry: Measure) -> str:
    flags = [name for name in ("bound", "control", "feature") if getattr(entry, name)]
    flags += ["test inputs"] * entry.uses_unlabelled_test_inputs
    return f"({', '.join(flags)}) " if flags else ""
