"""Contested rows: what each source says, and whether it lies inside this run's interval, in every format."""

import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from circuit_claims.reports import page, render, terminal, wording
from circuit_claims.verdicts.rows import COLUMNS, HOLDS, REFUTED, Row

NASTY = "<script>alert(1)</script> | a\nb `c` </td></table> \"'> <img src=x onerror=alert(2)> {{ 7*7 }} \x1b[31m &amp; \u202e"
READINGS = [
    {"value": 3.5, "setup": "without BOS", "source": "a paper, arXiv:2211.00593"},
    {"value": 2.75, "setup": "with BOS", "source": "another paper"},
]


def sample(claim_id: str = "ioi/chapter/io_outranks_s", **fields) -> dict:
    """One row with an interval from 3.4 to 3.6, contested by two readings, of which the first is inside."""
    given = {"op": ">", "expected_low": 3.0, "observed": 3.5, "ci_low": 3.4, "ci_high": 3.6, "n": 64, "verdict": HOLDS}
    texts = {"statement": "IO outranks S.", "chapter": "ioi", "readings": READINGS, "quantity": "logit difference"}
    texts |= {"source": "a third paper", "prepend_bos": False}
    return Row(**{"claim_id": claim_id, **texts, **given, **fields}).as_dict()


class Cells(HTMLParser):
    """The rows of the tables of readings in a page, and all of the page's elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.lines: list[list[str]] = []
        self._inside = self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "table":
            self._inside = dict(attrs).get("class") == "readings"
        elif self._inside and tag == "tr":
            self.lines.append([])
        elif self._inside and tag in ("td", "th"):
            self._cell = True
            self.lines[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")
        self._inside = self._inside and tag != "table"

    def handle_data(self, data):
        if self._cell:
            self.lines[-1][-1] += data


# In words.


@pytest.mark.parametrize(
    ("value", "ci_low", "ci_high", "place"),
    [
        (3.5, 3.4, 3.6, "inside"),
        (3.4, 3.4, 3.6, "inside"),
        (3.6, 3.4, 3.6, "inside"),
        (3.61, 3.4, 3.6, "outside"),
        (-3.5, 3.4, 3.6, "outside"),
        (9.0, 3.4, None, "inside"),
        (3.3, 3.4, None, "outside"),
        (9.0, None, 3.6, "outside"),
        (3.5, None, None, "—"),
        (None, 3.4, 3.6, "—"),
        ("3.5", 3.4, 3.6, "—"),
    ],
)
def test_a_reading_is_held_against_the_interval_of_the_run(value, ci_low, ci_high, place):
    row = {"readings": [{"value": value}], "ci_low": ci_low, "ci_high": ci_high}
    assert wording.readings(row)[0].place == place


def test_a_reading_is_written_as_published_in_the_units_of_the_row():
    said = [
        wording.readings({**fields, "readings": [{"value": value, "setup": "a", "source": "b"}]})[0].value
        for value, fields in [
            (3.5519, {}),
            (0.993, {"unit": "rate"}),
            (3, {"op": "top k"}),
            (2, {"op": "bottom k"}),
            (-1.0, {}),
        ]
    ]
    assert said == ["3.5519", "99.3 %", "rank 3", "rank 2", "−1"]


@pytest.mark.parametrize("readings", [None, [], "odd", {"value": 1}, 3])
def test_a_row_without_a_list_of_readings_is_not_contested(readings):
    assert wording.readings({"readings": readings}) == []


@pytest.mark.parametrize("reading", [None, "odd", 3, [1], {}, {"value": {"a": 1}, "setup": 3, "source": None}])
def test_an_odd_reading_does_not_cost_the_report(reading, tmp_path):
    render.render({}, [sample(readings=[reading, *READINGS])], tmp_path)
    assert "another paper" in (tmp_path / "report.html").read_text()
    assert "another paper" in (tmp_path / "report.md").read_text()
    assert terminal.table([sample(readings=[reading])], 80)


def test_a_rank_from_below_is_a_rank():
    row = {"op": "bottom k", "expected_low": 1.0, "expected_high": 3.0, "observed": 2.0}
    assert (wording.expected(row), wording.observed(row)) == ("in the bottom 3", "rank 2")
    assert wording.expected(row | {"op": "top k"}) == "in the top 3"


# On the page.


def test_the_page_shows_each_reading_and_where_it_lies():
    html = page.page({}, [sample()])
    assert Cells(html).lines == [
        ["Value", "Set-up", "Source", "This run’s interval"],
        ["3.5", "without BOS", "a paper, arXiv:2211.00593", "inside"],
        ["2.75", "with BOS", "another paper", "outside"],
    ]
    details = html[html.index("<details") : html.index("</details>")]
    assert "<h3>Contested</h3>" in details and "[3.40, 3.60]" in details
    assert 'href="https://arxiv.org/abs/2211.00593"' in details


def test_the_line_of_a_contested_claim_is_marked_and_sorts_as_before():
    cell = re.search(r'<td[^>]*data-key="expected".*?</td>', page.page({}, [sample()]))
    assert cell and ">contested</span>" in cell[0] and 'data-value="3.0"' in cell[0]
    plain = page.page({}, [sample(readings=[])])
    assert "contested</span>" not in plain and "Contested" not in plain and Cells(plain).lines == []


def test_without_an_interval_the_page_says_so():
    html = page.page({}, [sample(ci_low=None, ci_high=None)])
    assert "no interval to hold them against" in html and [line[3] for line in Cells(html).lines[1:]] == ["—", "—"]


def test_headings_that_sort_are_those_of_the_claims_alone():
    # The page's style and script speak of every thead: a second one would be sized and sorted as the first.
    assert page.page({}, [sample(), sample("b")]).count("<thead") == 1


def test_readings_from_outside_stay_text():
    nasty = sample(readings=[{"value": 1.0, "setup": NASTY, "source": NASTY}, {"value": NASTY}])
    html = page.page({}, [nasty])
    tags, plain = Cells(html).tags, Cells(page.page({}, [sample()])).tags
    assert tags.count("script") == plain.count("script") == 1 and "img" not in tags
    assert "\x1b" not in html and "\u202e" not in html and "alert(1)</script> | a↵b" in Cells(html).lines[1][1]
    text = render.markdown({}, render.plain([nasty]))
    assert "\x1b" not in text
    read = MarkdownIt("commonmark").enable("table").render(text)
    line = next(line for line in read.split("<tr>") if "published" in line)
    assert "<script" not in read and "<code" not in read and line.count("<td") == 6 and "&lt;script&gt;" in line
    assert "\x1b" not in "\n".join(str(line) for line in terminal.table([nasty], 80))


# In brief.


def test_markdown_marks_the_line_and_lists_the_readings():
    text = render.markdown({}, render.plain([sample(), sample("a/b/plain", readings=[])]))
    section = text[text.index("## Contested numbers") : text.index("## Indirect object identification")]
    cells = [
        [unescape(cell.strip()) for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")
    ]
    assert cells[0] == ["quantity", "whose", "value", "set-up", "source", "against this run"]
    assert cells[2:] == [
        ["logit difference", "io outranks s", "3.50 [3.40, 3.60]", "64 prompts, without BOS", "a third paper", "holds"],
        ["", "published", "3.5", "without BOS", "a paper, arXiv:2211.00593", "inside"],
        ["", "published", "2.75", "with BOS", "another paper", "outside"],
    ]
    claims = [line for line in text[text.index("## Indirect") :].splitlines() if line.startswith("| ")][1:]
    assert ["(contested)" in line for line in claims] == [True, False]
    assert "ontested" not in render.markdown({}, render.plain([sample(readings=[])]))


def test_the_terminal_says_one_word_beside_the_reason():
    rows = [
        sample("a/b/good"),
        sample("a/b/bad", verdict=REFUTED, reason="too low"),
        sample("a/b/plain", readings=[], verdict=REFUTED, reason="too high"),
    ]
    for width in (60, 120):
        lines = [str(line).strip() for line in terminal.table(rows, width)]
        assert [line for line in lines if "ontested" in line] == ["contested", "contested · too low"]
        assert "too high" in lines
    assert [line.verdict for line in terminal.table(rows, 120) if line.verdict] == ["verdict", HOLDS, REFUTED, REFUTED]


def test_csv_and_json_carry_the_readings(tmp_path):
    render.render({}, [sample(), sample("b", readings=[])], tmp_path)
    cells = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(), newline="")))
    assert [json.loads(line["readings"]) for line in cells] == [READINGS, []]
    assert [row["readings"] for row in json.loads((tmp_path / "claims.json").read_text())["rows"]] == [READINGS, []]
    assert COLUMNS.index("readings") == COLUMNS.index("controls") + 1
