"""The circuit as a graph: families from early to late, paths with their effects, and the same as a table."""

import re
from xml.etree import ElementTree

import pytest

from circuit_claims.reports import page, render
from circuit_claims.reports.figures.graph import colours
from circuit_claims.reports.overview.circuit import Circuit, circuit_of, lines_of
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, REFUTED, UNTESTED, Row

NASTY = "<script>alert(1)</script> & \"'> \x1b[31m"
MOVERS, NEGATIVE = {"name mover": ["L9H9", "L10H0"]}, {"negative name mover": ["L10H7"]}
INHIBITION, INDUCTION = {"S-inhibition": ["L7H3", "L8H6"]}, {"induction": ["L5H5", "L6H9"]}
DUPLICATE, PREVIOUS, LOGITS = {"duplicate token": ["L0H1", "L3H0"]}, {"previous token": ["L2H2", "L4H11"]}, {"logits": []}


def row(sources, targets, into="", at="END", observed=0.5, verdict=HOLDS, corruption="ABC", **fields):
    edge = {"from": sources, "to": targets, "into": into, "at": at, "corruption": corruption}
    ends = {"observed": observed, "ci_low": observed - 0.05, "ci_high": observed + 0.05, "op": ">", "expected_low": 0.05}
    given = {"unit": "share of the logit difference", **ends, **fields}
    return Row("ioi/paths/a", "A path.", "ioi", verdict=verdict, edge=edge, **given).as_dict()


ROWS = [
    row(MOVERS, LOGITS, observed=0.9),
    row(NEGATIVE, LOGITS, observed=-0.4),
    row(INHIBITION, MOVERS, "q"),
    row(INHIBITION, NEGATIVE, "q", observed=-0.08, verdict=INCONCLUSIVE),
    row(DUPLICATE | INDUCTION, INHIBITION, "v", "S2", observed=0.93, corruption="S1-IO flip", unit="share of the effect"),
    row(DUPLICATE | INDUCTION, INHIBITION, "v", "S2", observed=0.6),
    row(PREVIOUS, INDUCTION, "k", "S1+1", observed=0.01, verdict=REFUTED),
]


def made(rows) -> Circuit:
    circuit = circuit_of(rows, "The circuit", "c")
    assert circuit is not None and not circuit.failure
    return circuit


def drawn(rows) -> ElementTree.Element:
    return ElementTree.fromstring(made(rows).svg)


def boxes(svg) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of every family's box."""
    found = {}
    for group in svg.findall("g"):
        node, name = group.find("rect[@class='node']"), group.find("text[@class='family']")
        if node is not None and name is not None:
            left, top, wide, high = (float(node.get(key)) for key in ("x", "y", "width", "height"))
            found[name.text] = (left, top, left + wide, top + high)
    return found


def curve_points(d: str) -> list[tuple[float, float]]:
    """Points along a path of cubic curves, by their definition."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", d)]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    along = []
    for start in range(0, len(points) - 1, 3):
        ends = points[start : start + 4]
        for step in range(21):
            t = step / 20
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            along.append(tuple(sum(w * p[axis] for w, p in zip(weights, ends, strict=True)) for axis in (0, 1)))
    return along


def test_every_path_leads_from_left_to_right_and_through_no_box():
    svg = drawn(ROWS)
    found = boxes(svg)
    assert set(found) == {*MOVERS, *NEGATIVE, *INHIBITION, *INDUCTION, *DUPLICATE, *PREVIOUS, "logits"}
    for line in ROWS:
        for source in line["edge"]["from"]:
            for target in line["edge"]["to"]:
                assert found[source][2] < found[target][0], (source, target)
    lines = svg.findall(".//path[@class='line']")
    assert len(lines) == 7, "one from each source of a joint path"
    for line in lines:
        for x, y in curve_points(line.get("d") or ""):
            inside = [name for name, box in found.items() if box[0] + 1 < x < box[2] - 1 and box[1] < y < box[3]]
            assert not inside, inside
    for one in found.values():
        over = [other for other in found.values() if other != one and one[0] < other[2] and other[0] < one[2]]
        assert all(one[3] < other[1] or other[3] < one[1] for other in over), "two boxes of a column overlap"


def test_a_family_that_hears_no_other_stands_among_its_layers():
    found = boxes(drawn([row(MOVERS, LOGITS), row(INHIBITION, NEGATIVE, "q"), row(NEGATIVE, LOGITS)]))
    assert found["name mover"][0] == found["negative name mover"][0] > found["S-inhibition"][2]


def test_a_path_shows_its_effect_and_how_it_stands():
    svg = drawn(ROWS)
    arrows = {group.find("title").text: group.get("class") for group in svg.findall("g") if "arrow" in group.get("class", "")}
    style = {title.partition(":")[0]: shown for title, shown in arrows.items()}
    assert style == {
        "name mover to logits": "arrow",
        "negative name mover to logits": "arrow",
        "S-inhibition to name mover": "arrow",
        "S-inhibition to negative name mover": "arrow undecided",
        "duplicate token and induction to S-inhibition": "arrow",
        "previous token to induction": "arrow refuted",
    }
    labels = ["|".join(text.text or "" for text in group) for group in svg.findall("g") if "label" in group.get("class", "")]
    assert labels[0] == "0.900 [0.850, 0.950]" and labels[1].startswith("−0.400")
    # Of two rows of one path, the paper's corruption is the one that is drawn.
    assert labels[4] == "0.600 [0.550, 0.650]|values at S2|1 more in the table"
    tiny = drawn([row(MOVERS, LOGITS) | {"observed": -6.88e-6, "ci_low": -9.47e-5, "ci_high": 9.04e-5}])
    said = ["|".join(text.text or "" for text in group) for group in tiny.findall("g") if "label" in group.get("class", "")]
    assert said == ["−6.88e−6|[−9.47e−5, 9.04e−5]"], "no line is longer than the gap between two columns"
    assert labels[5] == "0.010 [−0.040, 0.060]|keys at S1+1|refuted"
    widths = [float(re.sub(r"[^\d.]", "", line.get("style") or "")) for line in svg.findall(".//path[@class='line']")]
    assert widths[:2] == pytest.approx([1 + 3.5 * 0.9, 1 + 3.5 * 0.4]), "the more, the wider"
    assert svg.findtext("title") == "The circuit"
    assert "0.930 [0.880, 0.980] share of the effect, S1-IO flip" in (svg.findtext("desc") or "")


def test_the_table_has_every_row_and_stands_in_both_reports():
    circuit = circuit_of(ROWS, "", "")
    assert circuit is not None
    assert [line["effect"] for line in lines_of(circuit)][4] == "0.930 [0.880, 0.980] share of the effect, S1-IO flip"
    html, markdown = page.page({}, ROWS), render.markdown({}, render.plain(ROWS))
    assert html.count("<tr><td>") == 7 and html.count('class="graph"') == 1
    table = markdown.partition("## The circuit: Indirect object identification")[2].partition("##")[0]
    assert table.count("\n|") == 9 and "duplicate token and induction → S-inhibition" in table


def test_where_no_row_is_about_a_path_there_is_no_circuit():
    rows = [row(MOVERS, LOGITS) | {"edge": {}}, row(MOVERS, LOGITS, verdict=UNTESTED) | {"observed": None}]
    assert circuit_of(rows, "", "") is None
    assert 'class="graph"' not in page.page({}, rows) and "## The circuit" not in render.markdown({}, render.plain(rows))


@pytest.mark.parametrize("edge", [{"from": 1}, {"from": MOVERS, "to": MOVERS}, {"from": {}, "to": LOGITS}, [1], "x", None])
def test_an_edge_that_says_nothing_is_left_out(edge):
    good = row(MOVERS, LOGITS)
    assert [line["path"] for line in lines_of(made([good | {"edge": edge}, good]))] == ["name mover → logits"]


def test_a_circle_and_text_from_outside_cost_nothing():
    circle = [row({"a": ["L1H1"]}, {"b": ["L2H2"]}), row({"b": ["L2H2"]}, {"a": ["L1H1"]}, verdict=KNOWN_FALSE)]
    assert len(boxes(drawn(circle))) == 2
    html = page.page({}, [row({NASTY: [NASTY]}, {"": ["L1H1"]}, NASTY, NASTY, corruption=NASTY)])
    assert html.count("<script") == 1 and "\x1b" not in html and "heads of no family" in html


def test_families_keep_their_colours_and_no_two_share_one():
    whole = colours(["previous token", "relay", "name mover", "S-inhibition"])
    assert len(set(whole.values())) == 4
    assert colours(["name mover"])["name mover"] == whole["name mover"]


def test_many_heads_are_cut_and_counted():
    heads = [f"L{layer}H{head}" for layer in range(3) for head in range(8)]
    svg = drawn([row({"all": heads}, LOGITS)])
    said = " ".join(text.text or "" for text in svg.iter("text") if text.get("class") == "heads")
    shown = said.split()
    assert shown[-1] == f"+{24 - len(shown) + 1}" and shown[:-1] == heads[: len(shown) - 1]
