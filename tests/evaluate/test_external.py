"""Tables from elsewhere: what is a measure, what is missing, what is refused."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from gapbench.datasets.errors import InputError
from gapbench.evaluate.external import named, read_external

TEXT = """\
series,model,log norm, alpha,flag,size,target
VGG,a,1.5,3,True,10,10.1
VGG,b,2.5,-,False,20,12.3
None,c,2.0,,True,30,11.0
NA,d,0.1,1,,40,9.5
,e,1.25,7,True,50,
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "models.csv"
    path.write_text(TEXT)
    return path


def test_numeric_columns_without_a_part_are_measures(table):
    found = read_external(table, target="target", group="series", axes=["size"])
    assert list(found.measures) == ["log norm", " alpha"]
    np.testing.assert_array_equal(found.measures[" alpha"], [3, np.nan, np.nan, 1, 7])
    np.testing.assert_array_equal(found.target, [10.1, 12.3, 11.0, 9.5, np.nan])
    assert found.measures["log norm"][3] == 0.1  # to the last bit


def test_groups_keep_their_order_and_a_label_may_be_called_none(table):
    found = read_external(table, target="target", group="series")
    assert [(label, rows.tolist()) for label, rows in found.groups()] == [("VGG", [0, 1]), ("None", [2]), ("NA", [3])]
    assert [label for label, _ in read_external(table, target="target").groups()] == [None]


def test_numbers_and_truth_values_can_be_groups():
    frame = pd.DataFrame({"g": [2, 1, 2], "h": [True, False, True], "m": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]})
    assert [label for label, _ in read_external(frame, target="y", group="g").groups()] == [2, 1]
    assert [label for label, _ in read_external(frame, target="y", group="h").groups()] == [True, False]


def test_true_and_false_are_scored_where_they_are_named(table):
    found = read_external(table, target="target", measures=["flag", "alpha"])
    np.testing.assert_array_equal(found.measures["flag"], [1, 0, 1, np.nan, 1])
    assert list(found.measures) == ["flag", " alpha"]  # spaces around a name do not matter
    plain = pd.DataFrame({"flag": [True, False], "y": [1, 2]})
    np.testing.assert_array_equal(read_external(plain, target="y", measures=["flag"]).measures["flag"], [1, 0])


@pytest.mark.parametrize("value", ["inf", "-inf", "1e999", "Infinity"])
def test_an_infinite_value_is_refused_with_its_place_or_dropped(tmp_path, value):
    path = tmp_path / "t.csv"
    path.write_text(f"a,b,y\n1,2,3\n4,{value},6\n7,8,9\n")
    with pytest.raises(InputError, match=r"row 2, column 'b' is -?inf.*--drop-nonfinite"):
        read_external(path, target="y")
    found = read_external(path, target="y", drop_nonfinite=True)
    np.testing.assert_array_equal(found.measures["b"], [2, np.nan, 8])
    assert read_external(path, target="y", measures=["a"]).measures.keys() == {"a"}  # another column's is no matter
    with pytest.raises(InputError, match="column 'b'"):
        read_external(path, target="b")


def test_wrong_names_and_columns_are_explained(table, tmp_path):
    with pytest.raises(InputError, match="unknown column 'log_norm'; did you mean log norm"):
        read_external(table, target="target", measures=["log_norm"])
    with pytest.raises(InputError, match="column 'model' is not numeric: row 1 holds 'a'"):
        read_external(table, target="target", measures=["model"])
    with pytest.raises(InputError, match=r"a \.csv, \.tsv or \.parquet"):
        read_external(tmp_path / "t.xlsx", target="y")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="cannot be read"):
        read_external(tmp_path / "empty.csv", target="y")
    (tmp_path / "words.csv").write_text("a,y\nx,1\n")
    with pytest.raises(InputError, match="no measure"):
        read_external(tmp_path / "words.csv", target="y")


def test_formats_agree(tmp_path):
    frame = pd.DataFrame({"g": ["a", "b"], "n": pd.array([1, None], "Int64"), "m": [0.1, 0.2], "y": [1.5, 2.5]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv")  # with its index, which is no measure
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    for name in ("t.parquet", "t.csv", "t.tsv"):
        found = read_external(tmp_path / name, target="y", group="g")
        assert list(found.measures) == ["n", "m"]
        np.testing.assert_array_equal(found.measures["n"], [1, np.nan])
        assert [label for label, _ in found.groups()] == ["a", "b"]


def test_decimals_are_read_to_the_last_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal(2000) * 10.0 ** np.arange(-10, 10).repeat(100)
    path = tmp_path / "t.csv"
    path.write_text("m,y\n" + "".join(f"{float(value)!r},1\n" for value in values))
    np.testing.assert_array_equal(read_external(path, target="y").measures["m"], values)


def test_axes_and_seed_make_configurations():
    frame = pd.DataFrame(
        {"width": [1, 1, 2, 2], "label_noise": [0, 0, 0, 0], "seed": [0, 1, 0, 1], "m": range(4), "y": range(4)}
    )
    found = read_external(frame, target="y", axes=["width", "label_noise"], seed="seed", measures=["m"])
    design = found.design(np.arange(4))
    assert (design.axes, design.recipes, design.seed.tolist()) == (("width", "label_noise"), 2, [0, 1, 0, 1])
    assert read_external(frame, target="y").design(np.arange(4)).recipes == 4
    frame["seed"] = 0
    with pytest.raises(InputError, match="equal in every axis"):
        read_external(frame, target="y", axes=["width"], seed="seed").design(np.arange(4))


def test_names_are_divided_at_commas():
    assert named('a, "b, c",d e') == ["a", "b, c", "d e"]
    assert named(None) == named("") == []


def test_numbers_in_every_storage_are_measures(tmp_path):
    frame = pd.DataFrame({"text": ["1.5", None, "-2e3", "inf"], "whole": pd.array([1, 2, None, 4], "Int32")})
    frame["decimal"] = [Decimal("0.1"), None, Decimal("3"), Decimal("4.25")]
    frame["category"] = pd.Categorical([3.5, 1.0, None, 3.5])
    frame["day"], frame["name"] = pd.date_range("2020-01-01", periods=4), list("abcd")
    frame["flag"], frame["truth"] = [True, False, True, None], [True, False, True, False]
    frame["y"] = range(4)
    frame.to_parquet(tmp_path / "t.parquet")
    for table in (frame, tmp_path / "t.parquet"):
        with pytest.raises(InputError, match="row 4, column 'text' is inf"):
            read_external(table, target="y")
        found = read_external(table, target="y", drop_nonfinite=True)
        assert list(found.measures) == ["text", "whole", "decimal", "category"]
        np.testing.assert_array_equal(found.measures["text"], [1.5, np.nan, -2000, np.nan])
        np.testing.assert_array_equal(found.measures["decimal"], [0.1, np.nan, 3, 4.25])
        np.testing.assert_array_equal(found.measures["category"], [3.5, 1, np.nan, 3.5])
        assert found.notes == ()


def test_a_column_of_numbers_and_words_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,name,y\n1,2,x,3\n4,5.1*,7,6\n7,8,z,9\n")
    found = read_external(tmp_path / "t.csv", target="y")
    assert list(found.measures) == ["a"]
    assert found.notes == ("column 'b' is left out: row 2 holds '5.1*', which is no number",)
    assert read_external(tmp_path / "t.csv", target="y", measures=["a"]).notes == ()


def test_semicolons_divide_fields_where_the_header_has_no_comma(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffseries;a;y\nx, one;1.5;3\nz;;6\n")
    found = read_external(tmp_path / "t.csv", target="y", group="series")
    np.testing.assert_array_equal(found.measures["a"], [1.5, np.nan])
    assert [label for label, _ in found.groups()] == ["x, one", "z"]


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,a,y\n1,2,3,4\n")
    with pytest.raises(InputError, match="column 'a' stands twice"):
        read_external(tmp_path / "t.csv", target="y")
    with pytest.raises(InputError, match="column 'a' stands twice"):
        read_external(pd.DataFrame([[1, 2, 3]], columns=["a", "a", "y"]), target="y")
