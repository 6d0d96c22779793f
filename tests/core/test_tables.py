"""Tables: aligned, escaped, with a plain-text twin that says the same."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from labsupport.core.tables import Table


def test_the_plain_twin_aligns_numbers_right_and_words_left():
    table = Table(["format", "bits", "error"], [["NF4", 4.127, "9.1 %"], ["int8", 8, None]], "Two formats")
    assert repr(table).splitlines() == [
        "Two formats",
        "format  bits  error",
        "------  ----  -----",
        "NF4     4.13  9.1 %",
        "int8       8      –",
    ]


def test_html_has_caption_scopes_and_the_same_cells():
    rows = [["a<b>", 1.5, "yes"], ["<script>", np.float32(2.25), "no & no"]]
    table = Table(["name", "size, GiB", "fits"], rows, "What fits & what not")
    root = ElementTree.fromstring(table._repr_html_())
    assert root.find("caption").text == "What fits & what not"
    assert [cell.get("scope") for cell in root.iter("th")] == ["col"] * 3 + ["row"] * 2
    assert ["".join(row.itertext()) for row in root.find("tbody")] == ["a<b>1.5yes", "<script>2.25no & no"]
    cells = root.find("tbody")[0]
    assert [cell.get("align") for cell in cells] == ["left", "right", "left"]
    assert all(cell.get("style") == f"text-align: {cell.get('align')}" for cell in cells)


@pytest.mark.parametrize("caption, wide", [("Bits", "2em"), ("What a rank keeps, " * 9, "18em")])
def test_a_caption_is_not_squeezed_by_a_narrow_table_nor_wider_than_its_words(caption, wide):
    root = ElementTree.fromstring(Table(["n"], [[1]], caption)._repr_html_())
    assert root.find("caption").get("style").endswith(f"min-width: {wide}")


def test_an_empty_heading_is_no_header():
    root = ElementTree.fromstring(Table(["", "bits"], [["NF4", 4]])._repr_html_())
    assert root.find("thead")[0][0].tag == "td" and root.find("caption") is None


def test_ranges_and_signs_count_as_quantities():
    table = Table(["difference", "range"], [["+8.3 points", "[2, 7]"], ["-0.1", "~5 to 9"]])
    assert table.right == [True, True]
    assert Table(["a"], [["12 %"], ["none"]]).right == [False]
    assert Table(["a"], [["8 rows of the training set"], ["64 rows of the training set"]]).right == [False]


def test_no_rows_and_uneven_rows():
    assert repr(Table(["a", "b"], [])) == "a  b\n-  -"
    with pytest.raises(ValueError, match="2 headings"):
        Table(["a", "b"], [["only one"]])
