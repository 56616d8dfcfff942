"""Distributions over prompts: what is drawn, what is gathered or left out, and that this is said."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from circuit_claims.reports import figures, page
from circuit_claims.reports.figures.distribution import Distribution
from circuit_claims.verdicts.rows import HOLDS, Row

SVG = "{http://www.w3.org/2000/svg}"
EVEN = [float(value) for value in range(1, 101)]  # quartiles 25.75, 50.5, 75.25


def figure(values: Any = None, **fields) -> dict:
    """One hundred even values with their mean, expected above 20."""
    values = EVEN if values is None else values
    given = {"kind": "distribution", "title": "share kept", "unit": "share", "values": values, "mean": 50.5}
    return {**given, "expected": [20.0, None], **fields}


def drawn_of(given: dict, prefix: str) -> str:
    found = figures.draw(given, prefix)
    assert found.svg and not found.failure
    return found.svg


def note_of(given: dict) -> str:
    return figures.draw(given, "a").note


def drawn(given: dict) -> ElementTree.Element:
    return ElementTree.fromstring(drawn_of(given, "a"))


def texts(given: dict) -> list[str]:
    return [element.text or "" for element in drawn(given).iter(f"{SVG}text")]


def sample(**fields) -> dict:
    given = {"op": ">", "expected_low": 20.0, "observed": 50.5, "n": 100, "verdict": HOLDS, "figure": figure()}
    return Row(**{"claim_id": "ioi/chapter/it_keeps_most", "statement": "", "chapter": "ioi", **given, **fields}).as_dict()


# What is drawn.


def test_the_marks_are_named_with_their_numbers():
    said = texts(figure())
    assert {"mean 50.5", "median 50.5", "middle half 25.8 … 75.2", "expected from 20", "share", "prompts"} <= set(said)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ([20.0, 80.0], "expected 20 … 80"),
        ([None, 80.0], "expected up to 80"),
        ([0.0, None], "expected from 0"),
        ([-5, 0.0], "expected −5 … 0"),
    ],
)
def test_the_expected_range_is_shaded_and_named(expected, said):
    given = figure(expected=expected)
    svg = drawn_of(given, "a")
    assert said in texts(given) and svg.count("fill: var(--band, #d5e3f2)") == 2, "in the plot and in its legend"


@pytest.mark.parametrize("expected", [[None, None], None, [math.nan, None]])
def test_without_an_expected_range_nothing_is_shaded(expected):
    svg = drawn_of(figure(expected=expected), "a")
    assert "var(--band" not in svg and "expected" not in svg


def test_a_mean_that_is_not_that_of_the_values_is_called_the_estimate():
    assert "estimate 60" in texts(figure(mean=60.0)) and "is not the mean" in note_of(figure(mean=60.0))
    rounded = figure([float(f"{value / 7:.5g}") for value in EVEN], mean=50.5 / 7)
    assert "mean 7.21" in texts(rounded) and "not the mean" not in note_of(rounded)


def test_an_outlier_does_not_let_an_estimate_pass_for_the_mean():
    given = figure([*EVEN, 1e9], mean=50.5)
    assert "estimate 50.5" in texts(given)


@pytest.mark.parametrize("mean", [None, math.nan])
def test_without_an_estimate_the_rest_is_drawn(mean):
    said = texts(figure(mean=mean))
    assert "median 50.5" in said and not [text for text in said if text.startswith(("mean", "estimate"))]


def test_every_value_is_in_a_bar():
    for values in (EVEN, [*EVEN, 1000.0, -900.0, 2000.0], [1.0] * 5, [0.0] * 10 + [1.0] * 90, [3.0]):
        spread = Distribution.read(figure(values))
        edges, counts = spread.bars()
        assert sum(counts) + spread.below + spread.above == len(values)
        assert len(edges) == len(counts) + 1 and len(counts) <= 40


# What is gathered, left out, or out of view, and that it is said.


def test_values_far_from_the_quartiles_are_gathered_at_the_edges_and_counted():
    given = figure([*EVEN, 1000.0, 2000.0, -900.0])
    note = note_of(given)
    assert note.startswith("103 prompts. Dotted, gathered at the edge: 1 below ") and " and 2 above " in note
    assert "more than 5 interquartile ranges from the quartiles" in note
    assert {"← 1", "2 →"} <= set(texts(given))
    axis = [float(text.replace("−", "-")) for text in texts(given) if re.fullmatch(r"−?\d+", text)]
    assert max(axis) < 300, "the far values do not stretch the axis"
    assert drawn_of(given, "a").count("stroke-dasharray") > drawn_of(figure(), "a").count("stroke-dasharray")


def test_values_within_five_interquartile_ranges_are_drawn_in_their_place():
    assert note_of(figure()) == "100 prompts."
    middle_half = 75.25 - 25.75
    at_the_fence = [75.25 + 5 * middle_half * factor for factor in (0.9, 1.2)]
    notes = [note_of(figure([*EVEN * 10, value], mean=None)) for value in at_the_fence]
    assert ["gathered" in note for note in notes] == [False, True]


def test_where_half_of_the_values_are_equal_nothing_is_called_far():
    for values in ([0.0] * 10 + [1.0] * 90, [1.0, 1.0, 1.0 + 1e-15, 1.0, 7.0]):
        assert "gathered" not in note_of(figure(values, mean=None))


def test_what_is_no_number_is_left_out_and_said():
    given = figure([*EVEN, None, math.nan, math.inf])
    assert "3 prompts without a number left out." in note_of(given)
    assert note_of(given).startswith("100 prompts.")
    assert "1 prompt without" in note_of(figure([*EVEN, None]))


def test_marks_beyond_the_axis_are_named_instead():
    given = figure(mean=1e6, expected=[-1e9, 1e9])
    note = note_of(given)
    assert "Beyond the axis: the estimate 1,000,000, the lower bound −1e9, the upper bound 1e9." in note
    axis = [float(text.replace("−", "-")) for text in texts(given) if re.fullmatch(r"−?\d+", text)]
    assert max(axis) < 300
    assert "Beyond" not in note_of(figure(mean=130.0, expected=[20.0, 150.0]))


def test_a_screen_reader_hears_a_sentence():
    root = drawn(figure([*EVEN, None], expected=[20.0, 90.0]))
    summary = (
        "Distribution over 100 prompts, in share: mean 50.5; quartiles 25.8, 50.5, 75.2; smallest 1; largest 100; "
        "expected 20 … 90."
    )
    assert root.get("role") == "img" and root.get("class") == "distribution"
    assert root.get("aria-label") == f"share kept. {summary}" and root.findtext(f"{SVG}desc") == summary
    assert drawn(figure([2.0], mean=None, title=None, unit=None, expected=None)).get("aria-label") == (
        "distribution. Distribution over 1 prompt: quartiles 2, 2, 2; smallest 2; largest 2."
    )


# Inside a page.


def test_text_stays_text_and_ink_follows_the_page():
    given = figure(unit="</svg><script>$x$", title='<b>"')
    svg = drawn_of(given, "a")
    assert "</svg><script>$x$" in texts(given) and drawn(given).findtext(f"{SVG}title") == '<b>"'
    assert "<script" not in svg and "currentColor" in svg and "#010203" not in svg and "#010204" not in svg


def test_two_drawings_share_no_id_and_every_reference_finds_its_own():
    for prefix in ("one", "two"):
        svg = drawn_of(figure([*EVEN, 1e4]), prefix)
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        references = {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)}
        assert ids and all(name.startswith(f"{prefix}-") for name in ids)
        assert references and references <= ids


def test_the_same_figure_has_the_same_bytes():
    first = drawn_of(figure(), "a")
    assert first == drawn_of(figure(), "a")
    assert "metadata" not in first and "matplotlib.org" not in first and "<style" not in first


@pytest.mark.parametrize(
    "values",
    [[0.0], [0.0, 0.0], [-1.0, -1.0, -1.0], [1e300, -1e300, 1e-300], [1e-12, 2e-12, 3e-12], [1.0, 1.0 + 1e-15], [1, True, 2]],
)
@pytest.mark.parametrize("expected", [[None, 0.0], [0.0, None], [-1.0, 1.0], [1.0, -1.0]])
def test_odd_numbers_can_be_drawn(values, expected):
    drawn(figure(values, mean=0.0, expected=expected))


def test_the_page_draws_a_distribution_below_its_chapter_and_says_the_rest():
    html = page.page({}, [sample(figure=figure([*EVEN, 1000.0, None]))])
    drawing = html[html.index("<figure ") : html.index("</figure>")]
    caption = drawing[: drawing.index("</figcaption>")]
    assert 'class="distribution"' in drawing and "<b>share kept</b>" in caption and "it keeps most" in caption
    assert "gathered at the edge: 1 above" in caption and "1 prompt without a number left out." in caption
    assert "cannot draw" not in html and "Outlined" not in html


def test_a_page_holds_distributions_and_heatmaps_together():
    heatmap = {"kind": "heatmap", "title": "", "rows": ["a"], "columns": ["b"], "values": [[1.0]], "marks": [[0, 0]]}
    html = page.page({}, [sample(), sample(claim_id="a", figure=heatmap), sample(claim_id="b", figure=figure(title=""))])
    assert html.count("<figure ") == 3 and html.count("Outlined:") == 1
    assert "<b>Heatmap</b>" in html and "<b>Distribution</b>" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "given",
    [
        figure([]),
        figure([None, math.nan]),
        figure(["a"]),
        figure([[1.0]]),
        figure([10**400]),
        figure([1e308] * 3),
        figure([5e-324, 0.0]),
        figure({"a": 1}),
        figure(mean="x"),
        figure(expected=[1.0]),
        figure(expected=3),
        figure(expected=["a", "b"]),
    ],
)
def test_a_distribution_that_cannot_be_drawn_costs_only_itself(given):
    html = page.page({}, [sample() | {"figure": given}])
    assert "could not be drawn" in html and "it keeps most" in html and 'class="distribution"' not in html


def test_a_title_from_outside_stays_text_on_the_page():
    html = page.page({}, [sample(figure=figure(title="<script>alert(1)</script>", unit="<img src=x>"))])
    assert html.count("<script") == 1 and "<img" not in html
