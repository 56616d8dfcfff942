"""Figures: well-formed SVG that stands alone, lies beside others, and speaks to a screen reader."""

import math
import re
from xml.etree import ElementTree

import pytest

from circuit_claims.reports import figures

SVG = "{http://www.w3.org/2000/svg}"


def heatmap(n_rows: int = 2, n_columns: int = 3, **fields) -> dict:
    """A figure whose cells rise evenly from −1, the first, to 1, the last."""
    last = n_rows * n_columns - 1
    values = [[-1.0 + 2 * (row * n_columns + column) / last for column in range(n_columns)] for row in range(n_rows)]
    labels = {"rows": [f"L{row}" for row in range(n_rows)], "columns": [f"H{column}" for column in range(n_columns)]}
    return {"kind": "heatmap", "title": "effect", "values": values, "unit": "logits", "row_axis": "layer", **labels, **fields}


def drawn_of(figure: dict, prefix: str = "a") -> str:
    found = figures.draw(figure, prefix)
    assert found.svg and not found.failure
    return found.svg


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_text_is_text_and_small_tables_print_their_values():
    said = texts(drawn_of(heatmap(), "a"))
    assert {"L0", "L1", "H0", "H2", "layer", "logits", "−1.00", "1.00", "0.20"} <= set(said)
    printed = [len(texts(drawn_of(heatmap(12, columns), "a"))) > 144 for columns in (12, 13)]
    assert printed == [True, False]


def test_labels_are_neither_markup_nor_mathematics():
    labels = ["a$b$c", "</svg><script>", "x\x00\x1b\ny"]
    said = texts(drawn_of(heatmap(columns=labels, title="<b>", unit="$\\frac{1}$", row_axis="-->"), "a"))
    assert {"a$b$c", "</svg><script>", "x\\x00\\x1b↵y", "$\\frac{1}$", "-->"} <= set(said)


def test_a_screen_reader_hears_the_extremes():
    root = ElementTree.fromstring(drawn_of(heatmap(title="Effect of heads"), "a"))
    assert root.get("role") == "img" and root.get("aria-label", "").startswith("Effect of heads.")
    assert root.findtext(f"{SVG}title") == "Effect of heads"
    assert "Largest 1 logits at L1H2; smallest −1 logits at L0H0." in root.findtext(f"{SVG}desc", "")


def test_two_figures_share_no_id_and_every_reference_finds_its_own():
    for prefix in ("one", "two"):
        svg = drawn_of(heatmap(marks=[[0, 1]]), prefix)
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
        assert ids and all(name.startswith(f"{prefix}-") for name in ids)
        assert references and {a or b for a, b in references} <= ids


def test_the_same_figure_has_the_same_bytes_and_no_date():
    first = drawn_of(heatmap(), "a")
    assert first == drawn_of(heatmap(), "a")
    assert "metadata" not in first and "matplotlib.org" not in first and "<style" not in first


def test_the_map_is_centred_on_zero():
    # Equal and opposite values get colours from opposite ends, whatever the other end of the data is.
    fills, mirrored = (cells(drawn_of(heatmap(1, 3, values=[[0.0, 1.0, last]]))) for last in (4.0, -4.0))
    assert len(fills) == 3 and fills[:2] == mirrored[:2] and fills[2] != mirrored[2]


@pytest.mark.parametrize("values", [[[None, math.nan, math.inf]], [[0.0, 0.0, 0.0]], [[1e300, -1e300, 1e-300]]])
def test_odd_numbers_can_be_drawn(values):
    ElementTree.fromstring(drawn_of(heatmap(1, 3, values=values), "a"))


def test_marks_are_outlined():
    plain, marked = (drawn_of(heatmap(marks=marks), "a") for marks in ([], [[0, 0], [1, 2]]))
    assert marked.count("stroke-width: 1.6") - plain.count("stroke-width: 1.6") == 2


def cells(svg: str) -> list[str]:
    """The colours of the cells, in reading order, one map after the other."""
    return re.findall(r'<rect [^>]*fill="([^"]+)"><title>', svg)


def strip_parts(**row) -> dict[str, ElementTree.Element]:
    return {part.get("class", part.tag): part for part in ElementTree.fromstring(figures.strip(row))}


@pytest.mark.parametrize(
    ("row", "inside"),
    [
        ({"op": ">", "expected_low": 3.0, "observed": 3.5, "ci_low": 3.4, "ci_high": 3.6}, True),
        ({"op": ">", "expected_low": 3.0, "observed": 2.5}, False),
        ({"op": "<", "expected_high": -1.0, "observed": -2.0}, True),
        ({"op": "<", "expected_low": -1.0, "observed": 2.0}, False),
        ({"op": "within", "expected_low": 1.0, "expected_high": 2.0, "observed": 1.5}, True),
        ({"op": "within", "expected_low": 1.0, "expected_high": 2.0, "observed": 9.0}, False),
        ({"op": "top k", "expected_low": 1.0, "expected_high": 3.0, "observed": 2.0}, True),
        ({"op": "top k contains", "expected_high": 3, "observed": 4}, False),
        ({"op": "rate >=", "expected_low": 0.9, "observed": 0.9}, True),
    ],
)
def test_the_dot_lies_in_the_band_exactly_when_the_observation_is_as_expected(row, inside):
    parts = strip_parts(**row)
    left = float(parts["band"].get("x", "nan"))
    right = left + float(parts["band"].get("width", "nan"))
    dot = float(parts["dot"].get("cx", "nan"))
    assert (left - 0.02 <= dot <= right + 0.02) == inside
    assert 0 <= left < right <= 168 and 0 < dot < 168
    assert ("interval" in parts) == ("ci_low" in row)


def test_nothing_observed_draws_no_strip():
    assert figures.strip({"op": ">", "expected_low": 1.0}) == ""
    assert figures.strip({"observed": 1.0}) == ""


def test_a_strip_says_its_numbers():
    svg = figures.strip({"op": "<b>", "expected_low": 1.0, "observed": 2.0})
    assert ElementTree.fromstring(svg).get("aria-label") == "expected <b> ≥ 1; observed 2.00"


def test_a_billionth_is_nothing_in_a_cell():
    drawing = drawn_of(heatmap() | {"values": [[1e-9, -1e-9], [1.0, 0.5]], "rows": ["a", "b"], "columns": ["c", "d"]}, "a")
    assert texts(drawing).count("0.00") == 2 and not [said for said in texts(drawing) if "e−9" in said]
    assert "<title>a, c: 1e−9</title>" in drawing, "whoever asks for the cell gets its number"


def test_a_range_of_one_number_has_it_written_once():
    row = {"expected_low": 3.0, "expected_high": 3.0, "observed": 3.0, "ci_low": 3.0, "ci_high": 3.0, "op": "within"}
    assert figures.strip(row).count('class="end"') == 1
    assert figures.strip(row | {"expected_high": 4.0}).count('class="end"') == 2
