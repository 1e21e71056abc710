"""The cells of a phenomenon on disk: finished ones are never worked again, whatever interrupts the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapbench.evaluate import files
from gapbench.evaluate.phenomena.phenomenon import Phenomenon, Row, settings_record
from gapbench.measures.digests import digest


@dataclass(frozen=True)
class Cells:
    """``cells.jsonl`` in a folder: a header that says what was asked, then a line a finished cell.

    ``header``: phenomenon, revision, settings and seed. Cells under another header are replaced, never mixed.
    """

    path: Path
    header: Mapping[str, Any]

    def finished(self) -> dict[str, dict[str, Any]]:
        """The stored cells by key; none where the file is missing or was begun with another header.

        Raises: Damaged where a line is damaged.
        """
        lines = files.read_lines(self.path)
        if not lines or lines[0] != self.header:
            return {}
        return {line["cell"]: line for line in lines[1:]}

    def begin(self, *, again: bool = False) -> bool:
        """Make the file ready to append to; True where cells of another header, or all ``again``, were thrown away."""
        lines = files.read_lines(self.path)
        if lines and lines[0] == self.header and not again:
            return False
        files.make_folder(self.path.parent)
        files.write_file(self.path, (json.dumps(self.header) + "\n").encode())
        return len(lines) > 1

    def append(self, key: str, rows: Iterable[Row], seconds: float, code: str) -> None:
        """Store a finished cell with its processor seconds and the digest of the code that made it."""
        clean = [{name: _finite(value) for name, value in row.items()} for row in rows]
        line = json.dumps({"cell": key, "seconds": round(seconds, 4), "code": code, "rows": clean}, allow_nan=False)
        files.append_lines(self.path, [line])


def header(phenomenon: Phenomenon, settings_name: str, seed: int) -> dict[str, Any]:
    """What decides the rows of a phenomenon: its name and revision, the settings and the seed."""
    return {
        "phenomenon": phenomenon.name,
        "revision": phenomenon.revision,
        # As JSON gives it back, so that a stored header equals a new one.
        "settings": json.loads(json.dumps(settings_record(phenomenon.settings(settings_name)))),
        "seed": seed,
    }


def code(phenomenon: Phenomenon) -> str:
    """A digest of the code that makes a phenomenon's rows."""
    return digest([phenomenon.run])


def _finite(value: Any) -> Any:
    # Neither NaN nor infinity enters the table: what has no value is missing.
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
