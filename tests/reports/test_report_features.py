"""The feature page: what stands on it, text of a model that stays text, when it is written and removed, malformed figures."""

import json
import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from circuit_claims.reports import figures, page, render
from circuit_claims.reports.__main__ import main
from circuit_claims.reports.feature_page import feature_page
from circuit_claims.reports.features import with_dashboard
from circuit_claims.verdicts.rows import HOLDS, REFUTED, Row

META = {"subject": "mini"}
SVG = "{http://www.w3.org/2000/svg}"
NASTY = '</span><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}\x1b\u202e'
SAE = {"sae": "mini-sae", "source": "embedded", "sha256": "ab" * 32, "hook": "blocks.2.hook_resid_pre", "features": 64}


def dashboard(**fields) -> dict:
    context = {"tokens": ["went", " to", " Oslo", "\n"], "values": [0.0, 1.0, 4.0, None], "at": 2, "meant": True}
    given: dict[str, Any] = {
        "kind": "feature",
        "title": "Feature 17: a place",
        "feature": 17,
        "meaning": "a place",
        "threshold": 0.5,
        "text": "held-out text",
        "rows": 12,
        "tokens": 1000,
        "density": 0.03,
        "histogram": {"edges": [0.0, 2.0, 4.0], "counts": [10, 20], "part": [1, 19], "silent": 0.97},
        "contexts": [context | {"from": "strongest"}, context | {"from": "middle", "meant": False, "values": [0, 2.0, 2, 0]}],
        "raised": [[" Oslo", 3.0], [" Rome", 1.5]],
        "lowered": [[" the", -1.0]],
    }
    return given | fields


def row(name: str = "a_feature_detects_what_it_means", **fields) -> dict:
    """A row about feature 17."""
    given: dict[str, Any] = {
        "claim_id": f"sae/features/{name}[mini-sae: a place]",
        "statement": "s",
        "chapter": "sae",
        "subject": "mini",
    }
    given |= {"op": ">", "expected_low": 0.5, "observed": 0.9, "ci_low": 0.8, "ci_high": 0.95, "n": 120, "verdict": HOLDS}
    given |= {"sae": SAE | {"feature": 17, "meaning": "a place"}}
    return Row(**given | fields).as_dict()


def rows() -> list[dict]:
    return [
        row("few_features_are_of_no_use", sae=SAE, figure=RATES),
        row(figure=dashboard()),
        row("without_a_feature", observed=0.2, verdict=REFUTED),
        row("steering_along_a_feature", observed=1.25),
        row("of_another", sae={}, chapter="ioi"),
    ]


RATES = {
    "kind": "histogram",
    "title": "How often features fire",
    "x_axis": "share",
    "of": "features",
    "scale": "log",
    "edges": [0.001, 0.01, 0.1, 1.0],
    "counts": [5, 7, 1],
    "apart": {"label": "never", "count": 3},
    "lines": [{"x": 0.1, "label": "dense above"}],
    "remark": "3 of 16 never fire.",
}
TRAINING = {
    "kind": "panels",
    "title": "Training",
    "x": [1e5, 2e6],
    "x_axis": "tokens",
    "panels": [
        {"y_axis": "share", "curves": [{"label": "explained variance", "values": [0.5, 0.9]}]},
        {"y_axis": "share of features", "curves": [{"label": "dead", "values": [None, 0.0]}]},
    ],
}


class Tags(HTMLParser):
    """The tags of a page, and the names of their attributes, as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.found, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def page_of(meta: dict, given: list[dict]) -> str:
    html = feature_page(meta, given)
    assert html is not None
    return html


def section(html: str, anchor: str) -> str:
    return html.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# The page


def test_all_claims_about_a_feature_stand_together_with_its_portrait():
    html = page_of(META, rows())
    whole, feature = section(html, "as_a_whole"), section(html, "feature_17")
    assert "few features are of no use" in whole and "without a feature" not in whole
    assert "3 of 16 never fire." in whole and 'class="histogram"' in whole
    for name, observed, verdict in (("detects what it means", "0.900", HOLDS), ("without a feature", "0.200", REFUTED)):
        line = next(line for line in feature.split("<tr>") if name in line)
        assert observed in line and verdict in line and "&gt; 0.5" in line
    assert "steering along a feature" in feature and "1.25" in feature
    assert 'class="feature"' in feature and "It fires on 3 % of 1,000 tokens" in feature
    assert "of another" not in text_of(html)


def test_the_index_has_a_line_a_feature_and_a_column_a_question():
    second = SAE | {"feature": 4, "meaning": "a name"}
    html = page_of(META, [*rows(), row("steering_along_a_feature", sae=second), row(sae=second, figure=dashboard(feature=4))])
    lines = section(html, "index").split("<tr>")[1:]
    assert [text_of(line) for line in lines] == [
        "Feature Meaning Fires on a feature detects what it means without a feature steering along a feature",
        "17 a place 3 % holds: 0.900 refuted: 0.200 holds: 1.25",
        "4 a name 3 % holds: 0.900 holds: 0.900",
    ]
    assert 'href="#feature_4"' in lines[2] and 'id="feature_4"' in html


def test_one_feature_with_two_meanings_has_two_portraits():
    other = row(sae=SAE | {"feature": 17, "meaning": "a city"}, figure=dashboard(meaning="a city"))
    found = with_dashboard([*rows(), other])
    assert [(one.number, one.meaning, one.anchor) for one in found] == [
        ("17", "a place", "feature_17"),
        ("17", "a city", "feature_17--2"),
    ]
    assert len(found[0].rows) == 3 and found[1].rows == [other]


def test_a_portrait_without_an_SAE_in_its_row_is_shown_under_its_own_number():
    assert with_dashboard([row(sae={}, figure=dashboard(sae="some SAE"))])[0].number == "17"


def test_report_and_page_link_to_each_other_and_no_link_is_broken(tmp_path):
    render.render(META, rows(), tmp_path)
    report, features = ((tmp_path / name).read_text() for name in ("report.html", "features.html"))
    ids = {
        name: set(re.findall(r'\bid="([^"]+)"', html)) for name, html in (("report.html", report), ("features.html", features))
    }
    for name, html in (("report.html", report), ("features.html", features)):
        for href in re.findall(r'href="([^"]+)"', html):
            if href.startswith("http"):
                continue
            file, _, anchor = href.partition("#")
            assert not anchor or anchor in ids[file or name], href
    assert report.count('href="features.html#feature_17"') == 3 and 'href="features.html"' in report
    assert features.count('href="report.html#') == 4 and 'href="report.html"' in features
    # The dashboard stands on the feature page alone; the figures of the whole stand on both.
    assert 'class="contexts"' not in report and 'class="contexts"' in features
    assert 'class="histogram"' in report and 'class="histogram"' in features


def test_the_page_is_one_file_that_fetches_nothing_and_runs_nothing():
    html = page_of(META, rows())
    assert "<script" not in html and "script-src" not in html and "default-src 'none'" in html
    assert not re.search(r"\bsrc=|<link|@import|url\((?!#)", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_same_rows_give_the_same_bytes():
    assert page_of(META, rows()) == page_of(deepcopy(META), deepcopy(rows()))


@pytest.mark.parametrize("given", [[], [row("of_another", sae={})], [row("without_its_portrait")]])
def test_there_is_no_page_without_a_portrait_and_an_old_one_goes(given, tmp_path):
    render.render(META, rows(), tmp_path)
    assert (tmp_path / "features.html").exists()
    render.render(META, given, tmp_path)
    assert not (tmp_path / "features.html").exists()
    assert "features.html" not in (tmp_path / "report.html").read_text()


def test_a_journal_is_rendered_with_its_feature_page(tmp_path, capsys):
    journal = tmp_path / "claims.jsonl"
    lines = [{"meta": META}, *({"row": one, "index": place} for place, one in enumerate(rows()))]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["render", str(journal)]) == 0, capsys.readouterr().err
    assert "Feature 17" in (tmp_path / "features.html").read_text()


# Text of a model


def test_tokens_meanings_and_names_stay_text():
    context = {"tokens": [NASTY, NASTY], "values": [1.0, 2.0], "at": 1, "meant": True, "from": NASTY}
    figure = dashboard(title=NASTY, meaning=NASTY, text=NASTY, contexts=[context], raised=[[NASTY, 1.0]], lowered=[[NASTY, -1]])
    sae = {"sae": NASTY, "source": NASTY, "hook": NASTY, "feature": NASTY, "meaning": NASTY}
    given = [row(NASTY, statement=NASTY, figure=figure, sae=sae), row(figure=RATES | {"remark": NASTY, "of": NASTY}, sae=SAE)]
    for html in (page_of({"subject": NASTY}, given), page.page({"subject": NASTY}, given)):
        assert "<script>alert" not in html and "<img" not in html and "onerror=&#34;" in html.replace("&quot;", "&#34;")
        assert "\x1b" not in html and "\u202e" not in html
        assert "{{ 7 * 7 }}" in html and 'href="javascript' not in html
        tags = Tags()
        tags.feed(html)
        assert {"h1", "svg"} <= tags.found and "img" not in tags.found and "onerror" not in tags.attributes


def test_blanks_stay_in_running_text_and_are_shown_in_lists():
    html = figures.draw(dashboard(), "a").html
    assert "<code>␣Oslo</code>" in html
    assert 'went <span style="--a:0.150" title="1">to</span> <mark style="--a:0.600" title="4">Oslo</mark>↵' in html
    blank = {"tokens": ["a", "  "], "values": [0.0, 1.0], "at": 1, "meant": True, "from": "strongest"}
    assert '<mark style="--a:0.600" title="1">  </mark>' in figures.draw(dashboard(contexts=[blank]), "a").html


# Shades


def test_a_token_is_shaded_by_its_share_of_the_strongest_and_none_where_it_is_silent():
    html = figures.draw(dashboard(), "a").html
    strongest, middle = re.findall(r'<span class="context">(.*?)</li>', html)
    assert strongest.startswith("went <span") and re.findall(r"--a:([\d.]+)", strongest) == ["0.150", "0.600"]
    assert re.findall(r"--a:([\d.]+)", middle) == ["0.300", "0.300"]
    assert html.count("<mark") == 2 and html.count("✓") == html.count("✗") == 1


def test_bars_of_logit_weights_share_a_scale():
    widths = re.findall(r'class="bar (\w+)" style="width:([\d.]+)%"', figures.draw(dashboard(), "a").html)
    assert widths == [("up", "100.0"), ("up", "50.0"), ("down", "33.3")]


def test_a_screen_reader_hears_where_it_fires_and_what_it_raises():
    said = ElementTree.fromstring(figures.draw(dashboard(), "a").svg).findtext(f"{SVG}desc", "")
    for part in (
        "Fires on 3 % of 1,000 tokens",
        "where its meaning holds: 20",
        "Strongest on ␣Oslo",
        "Raises ␣Oslo, ␣Rome most",
    ):
        assert part in said, said
    assert "threshold at 0.5" in said


# Malformed figures


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"feature": None}, "the feature has no number"),
        ({"density": 1.5}, "how often the feature fires"),
        ({"density": "often"}, "could not be drawn"),
        ({"histogram": None}, "the dashboard has no histogram"),
        ({"histogram": {"edges": [0, 1], "counts": [1], "part": [2]}}, "part is larger than the whole"),
        ({"histogram": {"edges": [1, 0], "counts": [1], "part": [0]}}, "not at least two numbers that rise"),
        ({"histogram": {"edges": [0, 1], "counts": [1.5], "part": [0]}}, "not all whole numbers"),
        ({"contexts": [{"tokens": ["a"], "values": [], "at": 0}]}, "1 tokens and 0 values"),
        ({"contexts": [{"tokens": ["a"], "values": [None], "at": 0}]}, "no token with an activation at its place"),
        ({"contexts": [{"tokens": ["a"], "values": [1.0], "at": 1}]}, "no token with an activation at its place"),
        ({"contexts": "abc"}, "are no list"),
        ({"raised": [["a"]]}, "are not all tokens with a number"),
        ({"lowered": [["a", None]]}, "are not all tokens with a number"),
    ],
)
def test_a_malformed_portrait_costs_only_itself(fields, said):
    drawing = figures.draw(dashboard(**fields), "a")
    assert said in drawing.failure and not drawing.svg and not drawing.html
    html = page_of(META, [row(figure=dashboard(**fields))])
    assert said in html and "a feature detects what it means" in html


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (RATES | {"edges": [0.0, 0.1, 0.2, 0.3]}, "edges that are not above zero"),
        (RATES | {"counts": [1, 2]}, "2 counts for 3 bars"),
        (RATES | {"lines": [{"x": 0}]}, "no place on its axis"),
        (RATES | {"apart": 3}, "not labelled"),
        (TRAINING | {"x": [2, 1]}, "not numbers that rise"),
        (TRAINING | {"panels": []}, "not between one and 6 panels"),
        (TRAINING | {"panels": [{"y_axis": "share", "curves": []}]}, "(share) has no number"),
        (TRAINING | {"panels": [{"curves": [{"label": "a", "values": [1]}]}]}, "1 values for 2 places"),
    ],
)
def test_malformed_panels_say_so(figure, said):
    assert said in figures.draw(figure, "a").failure


# Histograms and panels


def test_bars_are_as_high_as_their_counts():
    svg = figures.draw(RATES, "a").svg
    said = ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"never 3", "dense above 0.1", "features", "0.001", "0.01"} <= set(said)
    heights = []
    for path in re.findall(r'<path d="([^"]+)"[^>]*style="fill: currentColor; opacity: 0\.3', svg):
        y = [float(number) for number in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", path)]
        heights.append(max(y) - min(y))
    assert [height / heights[0] for height in heights] == pytest.approx([1, 7 / 5, 1 / 5], rel=1e-3)


def test_panels_have_their_own_scales_and_say_where_they_begin_and_end():
    svg = figures.draw(TRAINING, "a").svg
    root = ElementTree.fromstring(svg)
    said = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert {"explained variance", "dead", "share", "share of features", "tokens"} <= set(said)
    assert any(text.endswith("M") for text in said)
    assert "explained variance: from 0.5 at 100k to 0.9 at 2M" in root.findtext(f"{SVG}desc", "")
    assert not [text for text in said if text.startswith("−")]  # no axis below zero for a curve that stays above it
