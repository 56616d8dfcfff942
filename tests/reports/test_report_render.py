"""The formats: whole or not there, the same bytes for the same rows, and text that stays text."""

import base64
import csv
import hashlib
import io
import json
import math
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from circuit_claims.reports import page, render, wording
from circuit_claims.verdicts.rows import COLUMNS, HOLDS, REFUTED, VERDICTS, Row

NASTY = "<script>alert(1)</script> | a\nb `c` </svg></td> \"'> <img src=x onerror=alert(2)> {{ 7*7 }} \x1b[31m &amp; \u202e"
HEATMAP = {
    "kind": "heatmap",
    "title": "direct effect",
    "rows": ["L0", "L1"],
    "columns": ["H0", "H1", "H2"],
    "values": [[0.1, -2.0, 0.0], [1.5, None, 0.3]],
    "row_axis": "layer",
    "column_axis": "head",
    "unit": "logits",
    "marks": [[1, 0]],
}
META = {"subject": "mini", "versions": {"torch": "2.13.0"}, "pytest_args": ["claims"], "seed": 0}


def sample(claim_id: str = "ioi/chapter/io_outranks_s[L9H9]", **fields) -> dict:
    """One row, complete and unremarkable but for `fields`."""
    given = {"op": ">", "expected_low": 3.0, "observed": 3.5, "ci_low": 3.4, "ci_high": 3.6, "n": 64, "verdict": HOLDS}
    return Row(**{"claim_id": claim_id, "statement": "IO outranks S.", "chapter": "ioi", **given, **fields}).as_dict()


def nasty() -> dict:
    """A row whose every text tries to be markup."""
    counterexample = {"prompt": NASTY, "likeliest": [[NASTY, 0.5], [" Mary", 0.1]], NASTY: NASTY, "nested": {"a": [1, NASTY]}}
    texts = dict.fromkeys(("statement", "chapter", "kind", "subject", "quantity", "unit", "op", "reason", "source"), NASTY)
    figure = HEATMAP | {"title": NASTY, "rows": ["$x$", NASTY], "unit": NASTY, "row_axis": NASTY, "column_axis": NASTY}
    return sample(
        **texts, claim_id=NASTY, verdict=REFUTED, counterexample=counterexample, controls=[NASTY], figure=figure, profile=NASTY
    )


class Outline(HTMLParser):
    """The elements of a page, its text, and whether each that must be closed is."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def table_lines(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|")]


def test_text_from_outside_stays_text_in_html():
    outline = Outline(page.page(META | {"subject": NASTY, "warnings": [NASTY], "odd": NASTY}, [nasty()]))
    plain = Outline(page.page(META, [sample(verdict=REFUTED, figure=HEATMAP)]))
    assert outline.tags.count("script") == plain.tags.count("script") == 1
    assert outline.tags.count("svg") == plain.tags.count("svg") == 2
    assert "img" not in outline.tags and not outline.values("onerror")
    assert "alert(1)</script> | a\nb `c` </svg>" in outline.text
    assert "{{ 7*7 }}" in outline.text
    assert "\x1b" not in outline.text and "\u202e" not in outline.text


def test_the_page_needs_nothing_but_itself():
    html = page.page(META, [sample(figure=HEATMAP, source="https://example.org/a, arXiv:2211.00593.")])
    outline = Outline(html)
    assert not [value for value in outline.values("src")] and "link" not in outline.tags
    assert not re.search(r"@import|url\((?!#)", html)
    policy = next(value for value in outline.values("content") if "default-src" in value)
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and policy.endswith(f"script-src 'sha256-{script_hash}'")
    assert {"https://example.org/a", "https://arxiv.org/abs/2211.00593"} <= set(outline.values("href"))


def test_a_source_cannot_smuggle_a_link_of_another_kind():
    outline = Outline(page.page({}, [sample(source='javascript:alert(1) https://a.b/"onclick="alert(1) http://c.d')]))
    assert not outline.values("onclick")
    assert [href for href in outline.values("href") if not href.startswith("#")] == ["https://a.b/"]


def test_text_from_outside_stays_text_in_markdown():
    text = render.markdown(META, render.plain([nasty()]))
    assert len(table_lines(text)) == 3 and "\x1b" not in text and not re.search(r"&#\d", text)
    read = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    outline = Outline(read)
    assert not {"script", "img", "code", "em"} & set(outline.tags)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", read)]
    assert len(cells) == 11 and cells[1] == wording.one_line(NASTY)


@pytest.mark.parametrize(
    "text",
    [
        "a_b and _c_ or d__e__",
        r"\\ \| \* C:\dir\_x_",
        "*a* ~~b~~ ~c~",
        "[a](b) ![c](d)",
        "1 < 2 & 3 > 2 &amp; <b> $x$",
        "`a` ||",
    ],
)
def test_markdown_says_what_was_meant(text):
    read = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"| a |\n| - |\n| {render.markdown_text(text)} |")
    assert unescape(re.findall(r"<td[^>]*>(.*?)</td>", read)[0]) == text


def test_markdown_leaves_alone_what_is_no_markup():
    assert render.markdown_text("the card's value name_mover_share_left < 0.5 & more") == (
        "the card's value name_mover_share_left < 0.5 & more"
    )


@pytest.mark.parametrize("verdict", [*VERDICTS, "a word of tomorrow", ""])
def test_every_verdict_is_shown_in_every_format(verdict, tmp_path):
    render.render(META, [sample(verdict=verdict)], tmp_path)
    said = verdict or "no verdict"
    assert f"| {said} " in "\n".join(table_lines((tmp_path / "report.md").read_text()))
    cell = re.search(r'<td[^>]*data-key="verdict".*?</td>', (tmp_path / "report.html").read_text())
    assert cell and f"</span>{said}</td>" in cell[0]
    assert json.loads((tmp_path / "claims.json").read_text())["rows"][0]["verdict"] == verdict


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [sample(figure=HEATMAP), nasty(), sample()]
    for folder in ("one", "two"):
        render.render(META, rows, tmp_path / folder)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert first == second
    assert set(first) == {"report.md", "report.html", "claims.csv", "claims.json"}


def test_rows_survive_json_and_csv(tmp_path):
    row = nasty() | {"seed": 0, "prepend_bos": False, "margin": math.nan, "ci_low": math.inf, "n": 64}
    render.render(META, [row, sample()], tmp_path)
    kept = json.loads((tmp_path / "claims.json").read_text(), parse_constant=pytest.fail)
    wanted = row | {"margin": None, "ci_low": None}
    assert kept == {"meta": META, "rows": [wanted, sample()]}
    cells = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(), newline="")))
    assert tuple(cells[0]) == (*COLUMNS, "holm") and len(cells) == 2
    assert cells[0]["statement"] == NASTY
    assert json.loads(cells[0]["counterexample"]) == row["counterexample"]
    assert (cells[0]["seed"], cells[0]["n"], cells[0]["prepend_bos"], cells[0]["margin"]) == ("0", "64", "False", "")


@pytest.mark.parametrize("row", [dict.fromkeys(COLUMNS), {}, {"column_of_tomorrow": [1]}])
def test_an_empty_row_is_reported_too(row, tmp_path):
    render.render({}, [row], tmp_path)
    assert "unnamed claim" in (tmp_path / "report.html").read_text()
    assert "None" not in (tmp_path / "report.html").read_text()
    assert len(table_lines((tmp_path / "report.md").read_text())) == 3
    assert len((tmp_path / "claims.csv").read_text().splitlines()) == 2


def test_a_report_without_rows_is_whole(tmp_path):
    render.render({}, [], tmp_path)
    Outline((tmp_path / "report.html").read_text())
    assert json.loads((tmp_path / "claims.json").read_text()) == {"meta": {}, "rows": []}


def test_a_lone_surrogate_does_not_cost_the_report(tmp_path):
    row = sample(verdict=REFUTED, counterexample={"prompt": "\ud800", "likeliest": [["\udfff", 1.0]]})
    render.render(META, [row], tmp_path)
    assert "\\ud800" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "claims.json").read_text())["rows"][0]["counterexample"]["prompt"] == "\ud800"


@pytest.mark.parametrize(
    "figure",
    [
        HEATMAP | {"values": [[1.0], [1.0, 2.0]]},
        HEATMAP | {"values": []},
        HEATMAP | {"rows": ["one"]},
        HEATMAP | {"values": [["a"]]},
        HEATMAP | {"kind": "hologram"},
    ],
)
def test_a_figure_that_cannot_be_drawn_costs_only_itself(figure):
    html = page.page(META, [sample(figure=figure)])
    assert "could not be drawn" in html or "cannot draw" in html
    assert "io outranks s · L9H9" in html


def test_anchors_and_ids_are_unique():
    rows = [sample(figure=HEATMAP), sample(figure=HEATMAP), sample(claim_id="other", figure=HEATMAP | {"kind": "heatmap"})]
    ids = Outline(page.page(META, rows)).values("id")
    assert len(ids) > 20 and len(ids) == len(set(ids))


def test_an_earlier_report_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    render.render(META, [sample()], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(self, data):
        if "report.html" in self.name:
            raise OSError("disk full")
        return len(data)

    monkeypatch.setattr("pathlib.Path.write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        render.render(META, [sample(verdict=REFUTED)], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("kind", "opened"), [("universal", 1), ("magnitude", 0)])
def test_only_the_counterexample_of_a_universal_claim_lies_open(kind, opened):
    html = page.page(META, [sample(kind=kind, verdict=REFUTED, counterexample={"prompt": "p"})])
    assert html.count("<details open>") == opened


def test_a_chapter_holds_its_claims_together():
    rows = [sample("a", chapter="one"), sample("b", chapter="two"), sample("c", chapter="one")]
    html = page.page(META, rows)
    assert html.count("<h2>One") == 1
    assert html.index('id="a"') < html.index('id="c"') < html.index("<h2>Two") < html.index('id="b"')


def test_claims_that_read_one_sweep_share_its_figure():
    rows = [sample(claim_id="a/b/one", figure=HEATMAP), sample(claim_id="a/b/two", figure=HEATMAP)]
    rows.append(sample(claim_id="a/b/three", figure=HEATMAP | {"title": "another sweep"}))
    html = page.page(META, rows)
    assert html.count("<figure ") == 2
    caption = html[html.index("<figcaption>") : html.index("</figcaption>")]
    assert "one" in caption and "two" in caption and "three" not in caption


def test_markdown_shows_the_counterexample_as_text():
    example = {"prompt": "a | b\n<script>", "population": "all templates", "value": -1.5, "top_tokens": [[" Mary", 0.5]]}
    text = render.markdown(META, render.plain([sample(verdict=REFUTED, counterexample=example)]))
    section = text[text.index("## Counterexamples") :]
    assert "all templates" in section and "-1.5" in section.replace("−", "-") and "Mary" in section
    assert "<script>" not in MarkdownIt("commonmark").render(section)
    assert "## Counterexamples" not in render.markdown(META, render.plain([sample()]))
