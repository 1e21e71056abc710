from __future__ import annotations

import os
from pathlib import Path

import pytest

from gapbench.datasets.errors import InputError
from gapbench.datasets.files import locate, stamp


def test_the_first_name_that_exists_is_taken(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b").touch()
    assert locate(tmp_path, "set", ["a", "b"], "get it") == tmp_path / "set" / "b"
    (tmp_path / "set" / "a").touch()
    assert locate(tmp_path, "set", ["a", "b"], "get it") == tmp_path / "set" / "a"


def test_a_missing_file_is_named_with_where_it_was_sought_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        locate(tmp_path, "set", ["a", "b"], "ask Ann for it")
    for words in ("a or b", str(tmp_path / "set"), "ask Ann for it", "GAPBENCH_DATA", "--data-dir"):
        assert words in str(caught.value)


def test_a_stamp_changes_with_the_content_and_the_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    first = stamp(path)
    assert stamp(path) == first
    os.utime(path, ns=(1, 1))
    assert stamp(path) != first
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 1))
    assert stamp(path)[1] == 2
