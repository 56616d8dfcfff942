"""Figures of the other kinds: expected beside observed, curves, scatters, attention; what they draw, say, refuse and share."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from circuit_claims.reports import figures, page
from circuit_claims.reports.figures.attention import Attention
from circuit_claims.reports.figures.canvas import PALETTE
from circuit_claims.reports.figures.curves import Curves
from circuit_claims.reports.figures.heatmap import Heatmap
from circuit_claims.reports.figures.scatter import Scatter
from circuit_claims.verdicts.rows import HOLDS, Row

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</svg><script>alert(1)</script>$x$ & \x1b"
HEADS = {"rows": [f"L{layer}" for layer in range(3)], "columns": [f"H{head}" for head in range(4)]}
PUBLISHED = [[0.1, 0.2, 0.3, 0.4], [0.0, -0.5, 0.1, 0.0], [0.9, 0.0, -0.1, 0.2]]
FOUND = [[0.1, 0.2, 0.3, 0.4], [0.0, -0.5, 0.1, 0.0], [0.2, 0.0, -0.1, 0.3]]


def compared(**fields) -> dict:
    given = {"kind": "heatmap", "title": "effect", "row_axis": "layer", "column_axis": "head", "unit": "logits", **HEADS}
    return {**given, "values": FOUND, "expected": PUBLISHED, "marks": [[2, 0]], **fields}


def curves(**fields) -> dict:
    lines = [
        {"label": "answer", "values": [0.0, 0.1, 0.9], "low": [0.0, 0.05, 0.8], "high": [0.1, 0.2, 1.0]},
        {"label": "distractor", "values": [0.3, None, 0.1], "low": None, "high": None},
    ]
    given = {"kind": "curves", "title": "lens", "x": ["0", "1", "2"], "x_axis": "layer", "y_axis": "probability"}
    return {**given, "curves": lines, "marks": [{"x": 1, "label": "name movers"}], **fields}


def scatter(**fields) -> dict:
    points = [{"label": f"L0H{head}", "x": head / 100, "y": -head / 100} for head in range(20)]
    points += [{"label": "L9H9", "x": 2.0, "y": 1.0}, {"label": "L10H7", "x": -1.0, "y": -3.0}]
    return {"kind": "scatter", "title": "heads", "x_axis": "DLA", "y_axis": "patching", "points": points, "r": 0.934, **fields}


def attention(**fields) -> dict:
    given = {"kind": "attention", "title": "L9H9", "tokens": ["When", " Mary", "\n", " to"], "values": [0.1, 0.6, 0.3, 0.0]}
    return {**given, "query": 3, "unit": "probability", **fields}


ALL = {"heatmap": compared, "curves": curves, "scatter": scatter, "attention": attention}


def svg(figure: dict, prefix: str = "a") -> str:
    drawing = figures.draw(figure, prefix)
    assert not drawing.failure, drawing.failure
    return drawing.svg


def texts(figure: dict) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg(figure)).iter(f"{SVG}text")]


def spoken(figure: dict) -> str:
    return ElementTree.fromstring(svg(figure)).findtext(f"{SVG}desc", "")


def tooltips(figure: dict) -> list[str]:
    root = ElementTree.fromstring(svg(figure))
    shapes = [shape for shape in root.iter() if shape.tag in (f"{SVG}rect", f"{SVG}circle")]
    return [shape.findtext(f"{SVG}title", "") for shape in shapes if shape.find(f"{SVG}title") is not None]


def fills(figure: dict) -> list[str]:
    return re.findall(r'<rect [^>]*fill="(#\w+|none)"><title>', svg(figure))


# All of them.


@pytest.mark.parametrize("kind", ALL)
def test_a_figure_is_whole_speaks_and_shares_nothing_with_its_neighbour(kind):
    for prefix in ("one", "two"):
        drawn = svg(ALL[kind](), prefix)
        root = ElementTree.fromstring(drawn)
        assert root.get("role") == "img" and root.get("class") == kind
        title, said = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc", "")
        assert root.get("aria-label") == f"{title}. {said}" and title == ALL[kind]()["title"] and len(said) > 40
        ids = re.findall(r'\bid="([^"]+)"', drawn)
        assert len(ids) == len(set(ids)) and all(name.startswith(f"{prefix}-") for name in ids)
        assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn)} <= set(ids)
        assert "currentColor" in drawn and "#010203" not in drawn and "<style" not in drawn and "metadata" not in drawn


@pytest.mark.parametrize("kind", ALL)
def test_the_same_figure_has_the_same_bytes_and_is_drawn_once(kind, monkeypatch):
    read = figures.KINDS[kind](ALL[kind](title="another title"))
    first = read.draw()
    assert figures.KINDS[kind](ALL[kind]()).draw() is first, "the title is no part of what is drawn"
    module = __import__(f"circuit_claims.reports.figures.{kind}", fromlist=["_drawn"])
    module._drawn.cache_clear()
    assert read.draw() == first and read.draw() is not first


@pytest.mark.parametrize(
    "figure",
    [
        compared(rows=[NASTY, "b", "c"], columns=[NASTY, *"bcd"], row_axis=NASTY, column_axis=NASTY, unit=NASTY, title=NASTY),
        curves(x=[NASTY, "b", "c"], x_axis=NASTY, y_axis=NASTY, marks=[{"x": 0, "label": NASTY}], title=NASTY)
        | {"curves": [{"label": NASTY, "values": [1, 2, 3]}, {"label": "b", "values": [1, 2, 3]}]},
        scatter(
            points=[{"label": NASTY, "x": 0, "y": 1}, {"label": "b", "x": 5, "y": 5}], x_axis=NASTY, y_axis=NASTY, title=NASTY
        ),
        attention(tokens=[NASTY, "b"], values=[1, 0], query=0, unit=NASTY, title=NASTY),
    ],
)
def test_text_from_outside_stays_text(figure):
    drawn = svg(figure)
    root = ElementTree.fromstring(drawn)  # raises where the markup is broken
    assert f"{SVG}script" not in {element.tag for element in root.iter()} and "\x1b" not in drawn
    assert any("</svg>" in said and "$x$" in said for said in texts(figure))
    html = page.page({}, [Row("a/b/c", "", "a", verdict=HOLDS, figure=figure).as_dict()])
    assert html.count("<script") == 1


@pytest.mark.parametrize(
    "figure",
    [
        compared(expected=[[1.0]]),
        compared(expected=[["a"] * 4] * 3),
        compared(expected="odd"),
        compared(marks=[[7, 0]]),
        compared(marks=[3]),
        compared(marks=[["a", "b"]]),
        compared(values={"a": 1}),
        curves(curves=[]),
        curves(curves=None),
        curves(curves=[3]),
        curves(x=[]),
        curves(x=None),
        curves(curves=[{"label": "a", "values": [1.0]}]),
        curves(curves=[{"label": "a", "values": [1.0, 2.0, 3.0], "low": [0.0, 0.0, 0.0]}]),
        curves(curves=[{"label": "a", "values": [None, None, None]}]),
        curves(curves=[{"label": "a", "values": ["x", 1, 2]}]),
        curves(marks=[{"x": 3, "label": "beyond"}]),
        curves(marks=[{"label": "nowhere"}]),
        curves(marks=["odd"]),
        scatter(points=[]),
        scatter(points=None),
        scatter(points=[{"label": "a", "x": None, "y": 1}]),
        scatter(points=["odd"]),
        scatter(points=[{"label": "a", "x": "b", "y": 1}]),
        scatter(r="odd"),
        attention(tokens=[], values=[]),
        attention(tokens=None),
        attention(values=[1.0]),
        attention(query=4),
        attention(query="odd"),
        attention(values=[[1.0]] * 4),
        {"kind": ["heatmap"]},
        {"kind": None, "title": "a"},
        ["no", "figure"],
        "odd",
    ],
)
def test_a_malformed_figure_is_a_sentence_and_costs_only_itself(figure):
    drawing = figures.draw(figure, "a")
    assert not drawing.svg and re.match(
        r"The figure could not be drawn: .+\.$|This report cannot draw a figure", drawing.failure
    )
    row = Row("ioi/chapter/stands", "It stands.", "ioi", verdict=HOLDS).as_dict() | {"figure": figure}
    html = page.page({}, [row, Row("ioi/chapter/drawn", "", "ioi", verdict=HOLDS, figure=curves()).as_dict()])
    assert "It stands." in html and 'class="curves"' in html and ("could not be drawn" in html or "cannot draw" in html)


# Expected beside observed.


def test_three_maps_stand_side_by_side_the_first_two_on_one_scale():
    assert {"expected", "observed", "difference", "difference,", "logits"} <= set(texts(compared()))
    colours = np.reshape(fills(compared()), (3, 3, 4))
    assert (colours[0][:2] == colours[1][:2]).all(), "equal numbers, equal colours"
    assert colours[0][2, 0] != colours[1][2, 0]
    assert colours[2][0, 0] == colours[2][1, 1] != colours[2][2, 0], "no difference, one colour"
    # The scale is that of both: an observation beyond everything expected makes the expected ones paler.
    wider = np.reshape(fills(compared(values=[[5.0, *FOUND[0][1:]], *FOUND[1:]])), (3, 3, 4))
    assert (wider[0] != colours[0]).any()


def test_the_comparison_is_pearsons_correlation_and_the_cell_that_is_furthest_off():
    r = np.corrcoef(np.ravel(PUBLISHED), np.ravel(FOUND))[0, 1]
    said = f"over 12 cells: correlation {r:.3f}; largest difference −0.7 logits at L2H0 (expected 0.9, observed 0.2)."
    assert said in figures.draw(compared(), "a").note and said in spoken(compared())
    assert "Outlined" in figures.draw(compared(), "a").note
    alone = figures.draw(compared(expected=None), "a")
    assert "Expected against" not in alone.note and "observed" not in texts(compared(expected=None))


def test_cells_without_both_numbers_are_no_part_of_the_comparison():
    published = [[None, *PUBLISHED[0][1:]], *PUBLISHED[1:]]
    found = [[9.0, *FOUND[0][1:]], [math.nan, *FOUND[1][1:]], FOUND[2]]
    note = Heatmap.read(compared(values=found, expected=published)).comparison()
    assert "over 10 cells" in note and "at L2H0" in note
    constant = Heatmap.read(compared(expected=[[1.0] * 4] * 3)).comparison()
    assert "want of variation" in constant and "nan" not in constant
    assert Heatmap.read(compared(expected=[[None] * 4] * 3)).comparison() == "No cell is both expected and observed."
    svg(compared(expected=[[None] * 4] * 3))
    svg(compared(values=[[1e300] * 4] * 3, expected=[[-1e300] * 4] * 3))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "L2H3"),
        ({"rows": ["0", "1", "9"], "columns": ["0", "1", "2", "9"]}, "L9H9"),
        ({"rows": ["0", "1", "9"], "columns": ["a", "b", "c", " Mary"], "column_axis": "token"}, "layer 9, ␣Mary"),
        ({"rows": ["0", "1", "9"], "columns": ["0", "1", "2", "7"], "column_axis": "position"}, "layer 9, position 7"),
        ({"rows": ["", "", ""], "columns": ["", "", "", ""]}, "an unnamed cell"),
    ],
)
def test_a_cell_goes_by_the_name_of_its_head(fields, name):
    assert Heatmap.read(compared(**fields)).name(2, 3) == name
    assert tooltips(compared(**fields))[11:12] == [f"{name}: expected 0.2"] and tooltips(compared(**fields))[35] == (
        f"{name}: difference 0.1"
    )


def test_the_cells_lie_where_the_axes_have_their_ticks():
    root = ElementTree.fromstring(svg(compared(expected=None)))
    rects = [
        (float(rect.get("x", "nan")), float(rect.get("width", "nan")))
        for rect in root.iter(f"{SVG}rect")
        if rect.find(f"{SVG}title") is not None
    ]
    ticks = {}
    for text in root.iter(f"{SVG}text"):
        found = re.search(r"translate\(([\d.]+)", text.get("transform", "")) or re.search(r"^([\d.]+)", text.get("x", ""))
        ticks["".join(text.itertext())] = float(found[1]) if found else None
    middles = [x + width / 2 for x, width in rects[:4]]
    assert middles == pytest.approx([ticks[f"H{head}"] for head in range(4)], abs=0.2)


@pytest.mark.parametrize("unit", ["share of the logit difference", "logits", "", "unbreakable" * 4])
def test_a_unit_longer_than_its_scale_is_whole(unit):
    figure = compared(unit=unit, expected=None, rows=["L0"], values=[[1.0, 0.0, 0.5, 0.2]], marks=[])
    lines = [said for said in texts(figure) if said and said in unit]
    assert "".join("".join(lines).split()) == "".join(unit.split())
    height = float(ElementTree.fromstring(svg(figure)).get("viewBox").split()[3])
    # It stands upright, 8.5 points a letter and a good half of that wide.
    assert height >= max((0.6 * 8.5 * len(line) for line in lines), default=0)


def test_too_many_cells_are_one_picture():
    values = np.zeros((70, 70)).tolist()
    drawn = svg(compared(values=values, expected=None, rows=None, columns=None, marks=[]))
    assert (
        drawn.count("<image") == 1 and tooltips(compared(values=values, expected=None, rows=None, columns=None, marks=[])) == []
    )
    assert len(drawn) < 60_000


# Curves.


def test_every_curve_has_its_name_its_band_and_its_gap():
    assert {"answer", "distractor", "layer", "probability", "name movers", "0", "1", "2"} <= set(texts(curves()))
    drawn = svg(curves())
    assert PALETTE[0] in drawn and PALETTE[1] in drawn
    assert drawn.count("fill-opacity: 0.18") == 1, "one of the two has intervals"
    assert figures.draw(curves(), "a").note == "Bands: the confidence intervals."
    plain = [{key: line[key] for key in ("label", "values")} for line in curves()["curves"]]
    assert figures.draw(curves(curves=plain), "a").note == "" and "fill-opacity: 0.18" not in svg(curves(curves=plain))
    assert "stroke-dasharray" in drawn and "stroke-dasharray" not in svg(curves(marks=[]))


def test_a_single_curve_is_in_the_pages_ink():
    drawn = svg(curves(curves=curves()["curves"][:1]))
    assert not any(colour in drawn for colour in PALETTE) and "stroke: currentColor" in drawn


def test_curves_are_said_from_end_to_end():
    assert spoken(curves()) == (
        "2 curves of probability by layer, 0 to 2. answer: from 0 at 0 to 0.9 at 2, largest 0.9 at 2, smallest 0 at 0; "
        "distractor: from 0.3 at 0 to 0.1 at 2, largest 0.3 at 0, smallest 0.1 at 2. Marked: name movers at 1."
    )


def test_a_long_axis_has_few_ticks_and_every_curve_its_own_look():
    x = [str(layer) for layer in range(49)]
    lines = [{"label": f"curve {number}", "values": [number] * 49} for number in range(1, 14)]
    figure = curves(x=x, curves=lines, marks=[])
    said = texts(figure)
    # The y axis has ticks of its own, up to 14.
    assert "48" in said and "16" in said and "17" not in said and all(line["label"] in said for line in lines)
    looks = re.findall(r'<path d="[^"]*" (?:clip-path="[^"]*" )?style="fill: none; (stroke[^"]*)"', svg(figure))
    assert len(set(looks)) >= 13


def test_marks_close_together_do_not_write_over_each_other():
    def heights(label: str) -> int:
        marks = [{"x": place, "label": label} for place in (0, 1, 2)]
        found = re.findall(r'<text style="font-size: 7px[^"]*" x="[\d.-]+" y="([\d.-]+)"', svg(curves(marks=marks)))
        assert len(found) == 3 and all(float(height) > 0 for height in found)
        return len(set(found))

    assert heights("short") == 1 and heights("a label of a third of the width") == 2


# Scatters.


def test_the_outermost_points_are_labelled_and_every_point_says_itself():
    said = texts(scatter())
    assert {"L9H9", "L10H7", "r = 0.93", "DLA", "patching"} <= set(said)
    assert 2 <= len([text for text in said if re.fullmatch(r"L\d+H\d+", text)]) <= 12
    assert len(tooltips(scatter())) == 22 and "L9H9 (2, 1)" in tooltips(scatter())
    assert [label for label, *_ in Scatter.read(scatter()).outermost(2)] == ["L10H7", "L9H9"]
    assert not [text for text in texts(scatter(r=None)) if text.startswith("r =")]


def test_labels_do_not_cover_each_other():
    points = [{"label": f"L{number}H{number}", "x": 1 + number * 1e-3, "y": 1.0} for number in range(10)]
    said = texts(scatter(points=[*points, {"label": "far", "x": 0.0, "y": 0.0}]))
    assert "far" in said and 1 <= len([text for text in said if re.fullmatch(r"L\d+H\d+", text)]) < 10


def test_a_scatter_names_its_extremes():
    assert spoken(scatter()) == (
        "Scatter of 22 points, DLA against patching. Correlation 0.93. largest DLA: L9H9 (2, 1); smallest DLA: L10H7 (−1, −3); "
        "largest patching: L9H9 (2, 1); smallest patching: L10H7 (−1, −3)."
    )
    points = [*scatter()["points"], {"label": "lost", "x": None, "y": 1.0}]
    assert figures.draw(scatter(points=points), "a").note == (
        "22 points; the outermost are labelled. 1 without two numbers left out."
    )


@pytest.mark.parametrize(
    "points", [[(0, 0)], [(1, 1), (1, 1)], [(0, 1), (0, 2)], [(1e300, -1e300), (-1e300, 1e300)], [(5e-324, 1)]]
)
def test_odd_points_can_be_drawn(points):
    ElementTree.fromstring(svg(scatter(points=[{"label": "a", "x": x, "y": y} for x, y in points], r=None)))


# Attention.


def test_tokens_show_their_blanks_and_their_attention():
    assert texts(attention()) == ["When", "␣Mary", "↵", "␣to", "0.10", "0.60", "0.30", "0"]
    assert tooltips(attention())[1] == "token 2, ␣Mary: 0.6"
    assert texts(attention(tokens=["", "\t", "\x00", "<|endoftext|>"]))[:4] == ["∅", "⇥", "\\x00", "<|endoftext|>"]


def boxes(figure: dict) -> list[dict[str, str]]:
    return [dict(rect.attrib) for rect in ElementTree.fromstring(svg(figure)).iter(f"{SVG}rect")]


def test_the_shade_goes_with_the_attention_and_the_query_is_outlined():
    shades = [float(box["fill-opacity"]) for box in boxes(attention())]
    assert shades == pytest.approx([0.55 / 6, 0.55, 0.275, 0.0], abs=1e-3)
    assert [box.get("stroke") for box in boxes(attention())] == [None, None, None, "currentColor"]
    assert [box.get("stroke") for box in boxes(attention(query=-4))] == ["currentColor", None, None, None]
    assert not [box for box in boxes(attention(query=None)) if "stroke" in box]
    signed = boxes(attention(values=[0.5, -0.5, None, 0.0]))
    assert signed[0]["fill"] != signed[1]["fill"] and signed[0]["fill-opacity"] == signed[1]["fill-opacity"]


@pytest.mark.parametrize("count", [1, 5, 60])
def test_tokens_wrap_and_stay_inside_the_drawing(count):
    figure = attention(tokens=[" word" * (1 + number % 3) for number in range(count)], values=[1.0] * count, query=0)
    width, height = (float(number) for number in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg(figure)).groups())
    placed = [tuple(float(box[key]) for key in ("x", "y", "width", "height")) for box in boxes(figure)]
    assert all(min(x, y) >= 0 and x + w <= width and y + h <= height for x, y, w, h in placed)
    for (x, y, w, _), (next_x, next_y, *_) in pairwise(placed):
        assert next_y > y or next_x >= x + w
    assert (len({y for _, y, *_ in placed}) > 1) == (count == 60)


def test_a_token_longer_than_a_line_is_cut_in_the_drawing_and_whole_in_its_tooltip():
    token = "x" * 300
    figure = attention(tokens=[token, "b", "c", "d"])
    assert texts(figure)[0].endswith("…") and token in tooltips(figure)[0]
    assert all(float(box["x"]) + float(box["width"]) <= 640 for box in boxes(figure))


def test_attention_is_said_by_its_largest():
    assert spoken(attention()) == (
        "Attention of ␣to (token 4) over 4 tokens, in probability. "
        "Most: ␣Mary (token 2) 0.6; ↵ (token 3) 0.3; When (token 1) 0.1; ␣to (token 4) 0."
    )
    assert Attention.read(attention(values=[None] * 4)).summary().endswith("Most: none.")
    assert Curves.read(curves()).marks == ((1, "name movers"),)
