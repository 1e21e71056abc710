"""A full or read-only disk: a message that names the path, a consistent store, and work that continues later."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gapbench.cli import main
from gapbench.evaluate.execute import Summary, run
from gapbench.evaluate.files import StorageError
from gapbench.evaluate.store import Store
from gapbench.evaluate.verify import verify
from gapbench.evaluate.zoo import Zoo, parse

Result = Callable[[Path], dict[str, Any]]
KEYS = ["weight_sum", "drawn", "distance_moved"]
CALLS = ("mkdir", "open", "fsync", "replace", "unlink", "ftruncate", "pwrite", "write")
REASONS = {
    errno.ENOSPC: "no space is left",
    errno.EIO: "the device reports an input/output error",
    errno.EROFS: "the file system is read-only",
}


@pytest.fixture
def one_run(tiny_zoo: Zoo) -> Zoo:
    """A zoo of a single run."""
    return parse("twins = false\n" + tiny_zoo.source_text.replace("[4, 6]", "[4]"), "tiny.toml")


def _run(zoo: Zoo, out: Path, file: Path) -> Summary:
    return run(zoo, out, KEYS, files=[file], progress=False)


def _refuse_at(patch: pytest.MonkeyPatch, zoo: Path, step: int, code: int) -> list[str]:
    """Make the step-th writing call on the zoo fail; what it returns grows by the name of every such call."""
    made: list[str] = []
    descriptors: set[int] = set()

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            target = arguments[0]
            reading = name == "open" and not arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            inside = target in descriptors if isinstance(target, int) else str(target).startswith(str(zoo))
            if inside and not reading:
                made.append(name)
                if len(made) == step:
                    raise OSError(code, os.strerror(code))
            answer = function(*arguments, **options)
            if name == "open" and inside:
                descriptors.add(answer)
            return answer

        return counted

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "x" not in mode or not str(path).startswith(str(zoo)):
            return open_path(path, mode, *arguments, **options)
        made.append("create")
        if len(made) == step:
            raise OSError(code, os.strerror(code))
        file = open_path(path, mode, *arguments, **options)
        write = file.write

        def torn(content: bytes) -> int:
            made.append("fill")
            if len(made) == step:
                write(content[: len(content) // 2])
                file.flush()
                raise OSError(code, os.strerror(code))
            return int(write(content))

        descriptors.add(file.fileno())
        # The methods of a buffered writer cannot be replaced.
        return _Torn(file, torn)

    open_path = Path.open
    patch.setattr(Path, "open", opened)
    for name in CALLS:
        patch.setattr(os, name, wrap(name, getattr(os, name)))
    return made


class _Torn:
    """A file whose ``write`` is another function."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _refusal(zoo: Zoo, out: Path, file: Path) -> str | None:
    try:
        _run(zoo, out, file)
    except StorageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("code", REASONS)
def test_refused_at_every_write(
    tmp_path: Path, one_run: Zoo, measure_file: Path, result: Result, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(one_run, tmp_path / "undisturbed", measure_file)
    expected = result(tmp_path / "undisturbed")
    step, refused = 0, True
    while refused:
        step += 1
        out = tmp_path / f"step{step}"
        with monkeypatch.context() as patch:
            made = _refuse_at(patch, out, step, code)
            if code == errno.EROFS and step % 5:
                # The code path is the same; a fifth of the steps is enough for a third reason.
                continue
            message = _refusal(one_run, out, measure_file)
        refused = message is not None
        if message is not None:
            assert str(out) in message
            assert REASONS[code] in message
            assert "run the same command again to continue" in message
            left = list(out.rglob("claim"))
            assert not left or made[step - 1] == "unlink", (step, made)
            for path in left:
                # Whose release was refused, loses its claim when its process ends; this one goes on.
                path.unlink()
            assert _run(one_run, out, measure_file).exit_status == 0, (step, made)
        assert result(out) == expected, (step, made)
        assert not list(out.rglob("*.tmp")), (step, made)
    assert step > 25


def test_only_the_refused_run_is_done_again(
    tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        made = _refuse_at(patch, tmp_path / "undisturbed", 10**9, errno.EIO)
        _run(tiny_zoo, tmp_path / "undisturbed", measure_file)
    for share in (0.3, 0.6, 0.9):
        out = tmp_path / f"{share}"
        with monkeypatch.context() as patch:
            _refuse_at(patch, out, int(share * len(made)), errno.EIO)
            assert "input/output error" in str(_refusal(tiny_zoo, out, measure_file))
        store = Store(out)
        finished = {name: store.trainings(name) for name in store.runs()}
        for path in out.rglob("claim"):
            path.unlink()
        assert _run(tiny_zoo, out, measure_file).trained == 4 - len(finished)
        assert finished
        # The run that was committed, and whose log of that was refused, has a line less.
        again = {name: store.trainings(name) for name in finished}
        assert {name: log.count("start") for name, log in again.items()} == dict.fromkeys(finished, 1)
        assert result(out) == result(tmp_path / "undisturbed")
        assert list(verify(store)) == []


def test_the_command_names_path_and_remedy_and_ends_with_status_2(
    tmp_path: Path, one_run: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, out = tmp_path / "tiny.toml", tmp_path / "zoo"
    grid.write_text(one_run.source_text)
    command = ["run", str(grid), "--out", str(out), "--only", "l2", "--jobs", "1"]
    with monkeypatch.context() as patch:
        _refuse_at(patch, out, 30, errno.EIO)
        refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert f"gapbench: cannot write {out}" in refused.output
    assert "input/output error; what was stored before is intact: mend this" in refused.output
    for path in out.rglob("claim"):
        path.unlink()
    assert CliRunner().invoke(main, command).exit_code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, or a skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("a small file system cannot be mounted without privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    tmp_path: Path, small_disk: Path, tiny_zoo: Zoo, measure_file: Path, result: Result
) -> None:
    out = small_disk / "zoo"
    with pytest.raises(StorageError, match=rf"cannot write {out}.*no space is left"):
        _run(tiny_zoo, out, measure_file)
    _remount(small_disk, "size=4m")
    assert _run(tiny_zoo, out, measure_file).exit_status == 0
    _run(tiny_zoo, tmp_path / "undisturbed", measure_file)
    assert result(out) == result(tmp_path / "undisturbed")


def test_a_disk_that_is_really_read_only(small_disk: Path, tiny_zoo: Zoo, one_run: Zoo, measure_file: Path) -> None:
    out = small_disk / "zoo"
    _remount(small_disk, "size=4m")
    _run(one_run, out, measure_file)
    _remount(small_disk, "ro")
    try:
        with pytest.raises(StorageError, match=rf"cannot write {out}.*read-only"):
            _run(tiny_zoo, out, measure_file)
        assert len(Store(out).runs()) == 1
    finally:
        _remount(small_disk, "rw")


def test_a_folder_without_permission(tmp_path: Path, tiny_zoo: Zoo, measure_file: Path, rooted: bool) -> None:
    if rooted:
        pytest.skip("for root no folder is read-only")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission denied"):
        _run(tiny_zoo, folder / "zoo", measure_file)
