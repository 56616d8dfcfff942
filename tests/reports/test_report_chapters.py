"""Chapters: claims of one folder together, under a title in words, with a table of contents where there are several."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from circuit_claims.reports import chapters, page, render
from circuit_claims.reports.contested import disputes, set_up_of
from circuit_claims.reports.document import TEMPLATES, document
from circuit_claims.verdicts.rows import HOLDS, REFUTED, UNTESTED, Row

FIGURE = {"kind": "scatter", "title": "heads", "points": [{"label": "L0H1", "x": 1.0, "y": 2.0}], "r": None}


def sample(name: str, folder: str, verdict: str = HOLDS, **fields) -> dict:
    given = {"op": ">", "expected_low": 1.0, "observed": 2.0, "ci_low": 1.5, "ci_high": 2.5, "n": 64, "verdict": verdict}
    return Row(**{"claim_id": f"{folder}/file/{name}", "statement": "", "chapter": folder, **given, **fields}).as_dict()


ROWS = [
    sample("a", "ioi"),
    sample("b", "a_folder_nobody_named", REFUTED),
    sample("c", "ioi", UNTESTED, figure=FIGURE),
    sample("d", "sae", figure=FIGURE),
]


class Links(HTMLParser):
    """Ids and inner links of a page, and the text of each cell of its table of contents."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.lines: list[list[str]] = []
        self.whole: list[bool] = []
        self._contents = self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"][1:]] if given.get("href", "").startswith("#") else []
        if tag == "details" and given.get("class") == "whole":
            self.whole.append("open" in given)
        if tag == "table":
            self._contents = given.get("class") == "contents"
        elif self._contents and tag == "tr":
            self.lines.append([])
        elif self._contents and tag in ("td", "th"):
            self._cell = True
            self.lines[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")
        self._contents = self._contents and tag != "table"

    def handle_data(self, data):
        if self._cell:
            self.lines[-1][-1] += data


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("ioi", "Indirect object identification"),
        ("sae", "Sparse autoencoder"),
        ("a_new_folder", "A new folder"),
        ("", "Other claims"),
        ("x\x1b", "X\\x1b"),
    ],
)
def test_a_chapter_has_a_title_in_words(folder, title):
    assert chapters.title(folder) == title


def test_several_chapters_have_a_table_of_contents_with_their_counts():
    found = Links(page.page({}, ROWS))
    assert found.lines == [
        ["Chapter", "Claims", "holds", "refuted", "untested"],
        ["Indirect object identification", "2", "1", "", "1"],
        ["Sparse autoencoder", "1", "1", "", ""],
        ["A folder nobody named", "1", "", "1", ""],
    ]
    assert found.whole == [True] * 3, "each can be closed, and lies open for those who search the page"
    markdown = render.markdown({}, render.plain(ROWS))
    assert re.search(r"\| Indirect object identification +\| 2 +\| 1 +\| +\| 1 +\|", markdown)
    assert markdown.index("## Chapters") < markdown.index("## Indirect object") < markdown.index("## A folder nobody named")


def test_one_chapter_needs_neither_contents_nor_folding():
    rows = [row for row in ROWS if row["chapter"] == "ioi"]
    found = Links(page.page({}, rows))
    assert found.lines == [] and found.whole == []
    assert "## Chapters" not in render.markdown({}, render.plain(rows))


def test_every_link_within_the_page_has_its_place_and_no_id_is_there_twice():
    rows = [*ROWS, sample("a", "sae_"), sample("a", "SAE"), sample("a", "sae", readings=[{"value": 1.0}]), sample("a", "Ωmega")]
    found = Links(page.page({}, rows))
    assert len(found.ids) == len(set(found.ids)) and set(found.links) <= set(found.ids)
    assert len({link for link in found.links if link.startswith("chapter_")}) == 6
    assert [link for link in found.links if link.startswith("figure_")] == ["figure_ioi-file-c", "figure_sae-file-d"]


def test_a_figure_says_which_claims_it_goes_with():
    html = page.page({}, [sample("a", "ioi", figure=FIGURE), sample("b", "ioi", "known false", figure=FIGURE), *ROWS])
    assert re.findall(r'<figure id="[^"]+" data-claims="([^"]*)"', html) == ["ioi-file-a ioi-file-b ioi-file-c", "sae-file-d"]


# Contested numbers.


def reading(value: float, setup: str = "a") -> dict:
    return {"value": value, "setup": setup, "source": "b"}


def test_rows_that_share_a_reading_are_one_dispute_and_each_reading_is_said_once():
    rows = [
        sample("a", "ioi", quantity="logit difference", readings=[reading(2.0), reading(3.0)]),
        sample("b", "ioi", quantity="another matter", readings=[reading(9.0)]),
        sample("c", "ioi", quantity="on their prompts", readings=[reading(3.0), reading(2.2)], prepend_bos=True, n=1),
        sample("d", "ioi"),
    ]
    first, second = disputes(rows)
    assert [row["claim_id"][-1] for row in first.rows] == ["a", "c"] and first.quantity == "logit difference; on their prompts"
    assert [(said.value, place) for said, place in first.readings] == [
        ("2", "inside 1, 2"),
        ("3", "outside 1, 2"),
        ("2.2", "inside 1, 2"),
    ]
    assert [(said.value, place) for said, place in second.readings] == [("9", "outside")]
    assert set_up_of(rows[2]) == "1 prompt, with BOS" and set_up_of({}) == ""
    joined = disputes([*rows, sample("e", "ioi", readings=[reading(9.0), reading(2.2)])])
    assert [len(dispute.rows) for dispute in joined] == [4], "what links two disputes makes them one"


def test_where_the_intervals_differ_it_is_said_row_by_row():
    readings = [reading(2.0), reading(3.0)]
    rows = [
        sample("a", "ioi", readings=readings),
        sample("b", "ioi", readings=readings, observed=3.0, ci_low=2.9, ci_high=3.1),
        sample("c", "ioi", UNTESTED, readings=readings, observed=None, ci_low=None, ci_high=None),
    ]
    (dispute,) = disputes(rows)
    assert [place for _, place in dispute.readings] == ["inside 1; outside 2", "inside 2; outside 1"]
    (unmeasured,) = disputes(rows[2:])
    assert [place for _, place in unmeasured.readings] == ["—", "—"]


@pytest.mark.parametrize(("observed", "place"), [(3.551949, "inside"), (3.55185, "inside"), (3.5520, "outside")])
def test_an_exact_number_bears_out_a_reading_to_the_digits_that_it_has(observed, place):
    row = sample("a", "ioi", observed=observed, ci_low=observed, ci_high=observed, exact=True, readings=[reading(3.5519)])
    assert [said for _, said in disputes([row])[0].readings] == [place]
    sampled = disputes([row | {"exact": False}])[0].readings
    assert [said for _, said in sampled] == ["outside"], "an interval that happens to have no width is no exactness"


def test_the_page_lays_them_side_by_side_on_one_scale():
    readings = [reading(2.0), reading(4.0, "<b>")]
    rows = [sample("a", "ioi", readings=readings), sample("b", "ioi", readings=readings, observed=3.0, ci_low=2.9, ci_high=3.1)]
    html = page.page({}, rows)
    section = html[html.index('id="contested_numbers"') : html.index('class="filters"')]
    assert html.index('id="contested_numbers"') < html.index("<thead"), "before the claims"
    assert section.count("<table") == 1 and section.count("<svg") == 4 and "<b>" not in section
    at = [float(x) for x in re.findall(r'<circle class="dot(?: hollow)?" cx="([\d.]+)"', section)]
    # Observed 2 and 3, published 2 and 4: equal numbers at equal places, and the middle in the middle.
    assert at[0] == at[2] and at[1] == pytest.approx((at[2] + at[3]) / 2, abs=0.02)
    assert section.count("hollow") == 2 and section.count('class="band"') == 4
    assert "contested_numbers" not in page.page({}, ROWS)


@pytest.mark.parametrize("readings", [[None], ["odd"], [{"value": "x"}], [{"value": 1e308}, {"value": -1e308}], [{}], [3]])
def test_odd_readings_cost_nothing(readings, tmp_path):
    rows = [sample("a", "ioi", readings=readings), sample("b", "ioi", UNTESTED, readings=readings, observed=None)]
    render.render({}, rows, tmp_path)
    assert "Contested numbers" in (tmp_path / "report.html").read_text()


# Exactness.


def test_exact_rows_say_so_in_every_format(tmp_path):
    rows = [sample("a", "ioi", observed=2.0, ci_low=2.0, ci_high=2.0, exact=True), sample("b", "ioi")]
    render.render({}, rows, tmp_path)
    assert "2.00 exact" in (tmp_path / "report.md").read_text()
    html = (tmp_path / "report.html").read_text()
    assert html.count('<span class="interval">exact</span>') == 1
    lines = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(), newline="")))
    assert [line["exact"] for line in lines] == ["True", "False"]


# Pages of another kind.


def test_another_page_has_the_reports_style_and_needs_only_its_blocks(tmp_path, monkeypatch):
    (tmp_path / "mine.html.j2").write_text('{% extends "base.html.j2" %}{% block main %}<h2>{{ said }}</h2>{% endblock %}')
    for name in ("base.html.j2", "report.css", "report.js"):
        (tmp_path / name).write_text((TEMPLATES / name).read_text())
    monkeypatch.setattr("circuit_claims.reports.document.TEMPLATES", tmp_path)
    html = document("mine.html.j2", said="<features>")
    assert "<h2>&lt;features&gt;</h2>" in html and "--holds" in html
    assert "<script" not in html and "script-src" not in html, "what has no script allows none"
    assert "script-src 'sha256-" in document("mine.html.j2", scripted=True, said="")


def test_the_main_story_comes_first_and_unknown_folders_last():
    folders = ["mine", "weights", "attribution", "ioi"]
    assert list(chapters.by_chapter({"chapter": folder} for folder in folders)) == ["ioi", "attribution", "weights", "mine"]
