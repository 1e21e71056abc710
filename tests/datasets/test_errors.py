from __future__ import annotations

from gapbench.datasets.errors import InputError, unknown


def test_unknown_names_the_closest() -> None:
    error = unknown("data set", "mnits", ["mnist", "teacher", "cifar10"])
    assert isinstance(error, InputError)
    assert str(error) == "unknown data set 'mnits'; did you mean mnist?"


def test_unknown_lists_all_where_none_is_close() -> None:
    assert str(unknown("data set", "zzz", ["b", "a"])) == "unknown data set 'zzz'; known: a, b"
