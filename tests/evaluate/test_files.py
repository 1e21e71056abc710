"""Files that survive: atomic replacement, appended lines, torn lines, digests, and a medium that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gapbench.evaluate import files


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_file(path, b"one")
    files.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_refused_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.json"
    files.write_file(path, b"old")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(files.StorageError, match=rf"cannot write {path}: no space is left"):
            files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_lines_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert files.read_lines(path) == []
    files.append_lines(path, ['{"a": 1}', '{"a": "\\n"}'])
    files.append_lines(path, ['{"a": 3}'])
    assert files.read_lines(path) == [{"a": 1}, {"a": "\n"}, {"a": 3}]


@pytest.mark.parametrize("torn", [b'{"a": 2', b'{"a": 2}', b"\0\0\0", b"\xff"])
def test_a_torn_last_line_is_ignored_and_trimmed(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    files.append_lines(path, ['{"a": 1}'])
    with path.open("ab") as file:
        file.write(torn)
    assert files.read_lines(path) == [{"a": 1}]
    files.append_lines(path, ['{"a": 3}'])
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}]
    assert torn not in path.read_bytes()


@pytest.mark.parametrize("torn", [b'{"a": 2', b"\0\0\0", b"\xff", b"", b"3", b'{"a": 1}, {"a": 2}', b'{"a": 1},'])
def test_a_torn_middle_line_is_an_error(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + torn + b'\n{"a": 3}\n')
    with pytest.raises(files.Damaged, match=rf"{path}, line 2, is damaged"):
        files.read_lines(path)


def test_two_torn_lines_that_make_one_record_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1\n"b": 2}\n')
    with pytest.raises(files.Damaged, match="line 1"):
        files.read_lines(path)


def test_a_partial_append_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    files.append_lines(path, ['{"a": 1}'])
    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda f, content, at: write(f, content[: len(content) // 2], at))
        with pytest.raises(files.StorageError, match="no space is left"):
            files.append_lines(path, ['{"a": 2}', '{"a": 3}'])
    assert path.read_bytes() == b'{"a": 1}\n'


def test_digests_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    expected = files.digest(b"content")
    assert files.read_checked(path, expected) == b"content"
    for damaged in (b"contenu", b"conten", b""):
        path.write_bytes(damaged)
        with pytest.raises(files.Damaged) as error:
            files.read_checked(path, expected)
        for part in (str(path), expected, files.digest(damaged), "delete the folder"):
            assert part in str(error.value)
    path.unlink()
    with pytest.raises(files.Damaged, match="is missing"):
        files.read_checked(path, expected)


def test_damaged_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert files.read_json(path) is None
    for damaged in ('{"a": ', "[1]", ""):
        path.write_text(damaged)
        with pytest.raises(files.Damaged, match=str(path)):
            files.read_json(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_refusals_name_the_path(tmp_path: Path, code: int) -> None:
    with pytest.raises(files.StorageError, match=str(tmp_path)), files.storing(tmp_path):
        raise OSError(code, os.strerror(code))
