"""What holds, counted by the basis of its expected value: the literature, the model's own card, another model's."""

import csv
import io
import json
import re
from html import unescape
from itertools import product

import pytest
from rich.cells import cell_len

from circuit_claims.cards.bases import (
    BASES,
    DEFINITION,
    MEASURED_ELSEWHERE,
    PUBLISHED,
    PUBLISHED_ELSEWHERE,
    RE_MEASURED,
)
from circuit_claims.reports import bases, compare, compare_page, figures, journal
from circuit_claims.reports.__main__ import render_journal
from circuit_claims.reports.render import render
from circuit_claims.reports.terminal import table
from circuit_claims.verdicts.rows import (
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    KNOWN_FALSE,
    NOW_TRUE,
    REFUTED,
    UNTESTED,
    VERDICTS,
    Row,
)
from tests.support.claim_projects import claimed

GPT2, MINI = "GPT-2 small", "mini, the embedded model"
CARDS = {PUBLISHED: GPT2, RE_MEASURED: MINI, PUBLISHED_ELSEWHERE: GPT2, MEASURED_ELSEWHERE: MINI}
BESIDE = {"value": 3.56, "low": 3.41, "high": 3.71, "model": GPT2, "source": "Wang et al. 2022, section 2"}
META = {"subject": "mini", "finished": "now"}


def row(basis: str, verdict: str = HOLDS, number: int = 0, **more) -> dict:
    """One row on a basis."""
    numbers = {"op": "within", "expected_low": 6.8, "expected_high": 8.3, "observed": 7.5, "ci_low": 7.1, "ci_high": 7.9}
    given = {**numbers, "n": 120, "basis": basis, "card": CARDS.get(basis, ""), "unit": "logits", **more}
    return Row(f"ioi/behaviour/claim_{number}", "It is so.", "ioi", verdict=verdict, **given).as_dict()


def rows_of(counts: dict[tuple[str, str], int]) -> list[dict]:
    """As many rows as are said of each basis and verdict."""
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    return [row(basis, verdict, number) for number, (basis, verdict) in enumerate(pairs)]


#: The example of the issue, 33 of 46 and 137 of 149, with what counts nowhere besides.
ISSUE = {
    (PUBLISHED, HOLDS): 19,
    (PUBLISHED, NOW_TRUE): 1,
    (PUBLISHED, REFUTED): 6,
    (PUBLISHED, INCONCLUSIVE): 4,
    (DEFINITION, HOLDS): 13,
    (DEFINITION, KNOWN_FALSE): 3,
    (RE_MEASURED, HOLDS): 137,
    (RE_MEASURED, INCONCLUSIVE): 12,
    (PUBLISHED, INVALID): 5,
    ("", UNTESTED): 60,
    (RE_MEASURED, UNTESTED): 3,
}


def test_each_basis_has_its_own_sentence():
    assert bases.sentences(rows_of(ISSUE)) == [
        "33 of 46 statements of the literature hold (20 of 30 published for this model, 13 of 16 by definition)",
        "137 of 149 own values reproduce on other prompts",
    ]
    assert bases.short(rows_of(ISSUE)) == "literature 33 of 46, own values 137 of 149"


def test_values_of_other_models_are_counted_by_model():
    counts = {(PUBLISHED_ELSEWHERE, HOLDS): 12, (PUBLISHED_ELSEWHERE, REFUTED): 8, (MEASURED_ELSEWHERE, HOLDS): 1}
    assert bases.sentences(rows_of(counts)) == [
        "12 of 20 values published for GPT-2 small hold here, too",
        "1 of 1 value measured on mini, the embedded model holds here, too",
    ]
    two = [row(PUBLISHED_ELSEWHERE), row(PUBLISHED_ELSEWHERE, card="another")]
    assert [(tally.model, tally.of) for tally in bases.tallies(two)] == [(GPT2, 1), ("another", 1)]


@pytest.mark.parametrize(("basis", "verdict"), product([*BASES, ""], VERDICTS))
def test_a_row_is_counted_once_or_where_nothing_was_said_nowhere(basis, verdict):
    """One more row of any kind changes the tally of its own basis by one at most, and no other."""
    before = rows_of(ISSUE | {(PUBLISHED_ELSEWHERE, HOLDS): 2, (MEASURED_ELSEWHERE, REFUTED): 2, ("", HOLDS): 2})
    old = {(it.basis, it.model): it for it in bases.tallies(before)}
    new = {(it.basis, it.model): it for it in bases.tallies([*before, row(basis, verdict)])}
    told = verdict not in (UNTESTED, INVALID)
    for key, tally in new.items():
        mine = key[0] == basis and told
        assert tally.of - old[key].of == mine
        assert tally.holding - old[key].holding == (mine and verdict in (HOLDS, NOW_TRUE))


def test_a_projects_own_claims_are_not_called_the_literature():
    own = row(DEFINITION) | {"chapter": "my_claims"}
    assert bases.sentences([own]) == ["1 of 1 statement holds"]
    assert bases.sentences([own, row(DEFINITION)]) == ["2 of 2 statements hold"]
    assert bases.sentences([own | {"verdict": UNTESTED}]) == []


@pytest.mark.parametrize("width", [40, 72, 120])
def test_the_terminal_ends_with_what_holds_by_basis(width):
    lines = [str(line) for line in table(rows_of(ISSUE), width)]
    end = " ".join(lines[lines.index("") :])
    assert all(said in end for said in bases.sentences(rows_of(ISSUE)))
    assert "verdicts on whatever basis: 169 hold" in end
    assert all(cell_len(line) <= width for line in lines[lines.index("") : -2])


def test_verdicts_about_the_literature_alone_need_no_such_word():
    lines = [str(line) for line in table(rows_of({(PUBLISHED, HOLDS): 2, (DEFINITION, REFUTED): 1}), 100)]
    assert "2 hold · 1 refuted" in lines
    assert "2 of 3 statements of the literature hold (2 of 2 published for this model, 0 of 1 by definition)" in lines


def test_the_terminal_sets_another_models_values_in_brackets():
    text = "\n".join(str(line) for line in table([row(PUBLISHED_ELSEWHERE), row(DEFINITION, number=1)], 100))
    assert text.count("(6.8 … 8.3)") == 1 and text.count("  6.8 … 8.3") == 1
    assert "in brackets: published for GPT-2 small, and not expected of this model" in text
    assert "in brackets" not in "\n".join(str(line) for line in table([row(RE_MEASURED)], 100))


def test_every_format_of_the_report_says_the_basis_and_what_is_beside(tmp_path):
    rows = [row(RE_MEASURED, beside=[BESIDE]), row(PUBLISHED_ELSEWHERE, number=1), row(DEFINITION, number=2)]
    render(META, rows, tmp_path)
    html, markdown = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for text in (unescape(html), markdown):
        assert "1 of 1 statement of the literature holds" in text and "1 of 1 own value reproduces on other prompts" in text
        assert "1 of 1 value published for GPT-2 small holds here, too" in text
        assert "published for GPT-2 small: 3.56" in text
        assert bases.MEANINGS[RE_MEASURED] in text and bases.MEANINGS[PUBLISHED] not in text
    assert "verdicts on whatever basis: 3 hold" in markdown
    assert re.findall(r'data-basis="([^"]*)"', html) == [RE_MEASURED, PUBLISHED_ELSEWHERE, DEFINITION]
    expected = [re.sub("<[^>]*>", " ", it).split() for it in re.findall(r'data-label="Expected">(.*?)</td>', html)]
    assert [" ".join(words) for words in expected] == [
        "6.8 … 8.3 re-measured published for GPT-2 small: 3.56",
        "published for GPT-2 small: 6.8 … 8.3",
        "6.8 … 8.3 definition",
    ]
    assert "not expected of this model: 3.56 (within 3.41 … 3.71); Wang et al. 2022, section 2." in html
    assert "| published for GPT-2 small: 6.8 … 8.3 |" in markdown
    flat = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(encoding="utf-8"))))
    assert [line["basis"] for line in flat] == [RE_MEASURED, PUBLISHED_ELSEWHERE, DEFINITION]
    assert [line["card"] for line in flat] == [MINI, GPT2, ""]
    assert json.loads(flat[0]["beside"]) == [BESIDE] and flat[1]["beside"] == "[]"
    assert json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))["rows"][0]["beside"] == [BESIDE]


def test_no_figure_calls_another_models_numbers_expected():
    for figure in (
        {"kind": "heatmap", "title": "t", "values": [[1, 2]], "expected": [[1, 3]]},
        {"kind": "distribution", "title": "t", "values": [1, 2, 3], "mean": 2, "expected": [1, None]},
    ):
        own, foreign = (figures.draw(figure | more, "a") for more in ({}, {"whose": "published for GPT-2 small"}))
        assert "xpected" in own.svg and "published for" not in own.svg + own.note
        assert "xpected" not in foreign.svg + foreign.note and "ublished for GPT-2 small" in foreign.svg
    assert "expected 6.8 … 8.3; observed" in figures.strip(row(RE_MEASURED))
    assert "published for GPT-2 small: 6.8 … 8.3; observed" in figures.strip(row(PUBLISHED_ELSEWHERE))


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (BESIDE, {}, ("3.56", "3.41 … 3.71")),
        (BESIDE | {"high": None}, {}, ("≥ 3.41", "")),
        (BESIDE | {"low": None}, {}, ("≤ 3.71", "")),
        (BESIDE | {"low": None, "high": None}, {}, ("3.56", "")),
        ({"value": 0.993, "low": 0.983, "high": 1.0, "model": GPT2}, {"unit": "rate"}, ("99.3 %", "98.3 % … 100 %")),
        ({"value": "three"}, {}, ("—", "")),
    ],
    ids=["both ends", "from below", "from above", "no end", "a rate", "no number"],
)
def test_what_is_beside_is_in_the_rows_units(given, more, said):
    (other,) = bases.beside(row(RE_MEASURED, beside=[given], **more))
    assert (other.value, other.within) == said


def test_a_cards_title_is_escaped(tmp_path):
    nasty = "<script>alert(1)</script>|*x*"
    rows = [
        row(PUBLISHED_ELSEWHERE, card=nasty),
        row(RE_MEASURED, number=1, beside=[BESIDE | {"model": nasty, "source": nasty}]),
    ]
    render(META, rows, tmp_path)
    html, markdown = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<script>alert" not in html and html.count("&lt;script&gt;alert") >= 4
    assert not re.search(r"(?<!\\)<script>", markdown) and "|*x*" not in markdown


def without_basis(rows: list[dict]) -> list[dict]:
    """The rows as an earlier version wrote them."""
    return [{key: value for key, value in it.items() if key not in ("basis", "card", "beside")} for it in rows]


def test_a_report_of_an_earlier_version_renders_and_its_claims_are_in_no_other_count(tmp_path):
    old = without_basis([row(PUBLISHED), row(RE_MEASURED, REFUTED, 1), row(RE_MEASURED, UNTESTED, 2)])
    path = tmp_path / "claims.jsonl"
    journal.start(path, META, "run")
    for place, one in enumerate(old):
        journal.append_row(path, one, place, "run")
    page = render_journal(path, tmp_path / "out").read_text(encoding="utf-8")
    assert "1 of 2 claims with no basis noted holds" in page and "of the literature" not in page
    mixed = bases.sentences([*old, row(PUBLISHED, number=3)])
    assert mixed == ["1 of 1 statement of the literature holds", "1 of 2 claims with no basis noted holds"]


def compared(tmp_path, base: list[dict], other: list[dict]) -> compare.Comparison:
    for name, rows in (("base", base), ("other", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "claims.json").write_text(json.dumps({"meta": META, "rows": rows}), encoding="utf-8")
    return compare.compare(compare.read(tmp_path / "base"), compare.read(tmp_path / "other"))


def test_a_comparison_counts_each_run_by_basis_and_says_what_fell(tmp_path):
    base = [row(RE_MEASURED), row(RE_MEASURED, number=1), row(DEFINITION, number=2)]
    other = [row(MEASURED_ELSEWHERE, REFUTED), row(MEASURED_ELSEWHERE, number=1), row(DEFINITION, REFUTED, 2)]
    found = compared(tmp_path, base, other)
    terminal = "\n".join(line.text for line in compare_page.lines(found, 100))
    html, markdown = compare_page.page(found), compare_page.markdown(found)
    for text in (terminal, html, markdown):
        assert "2 of 2 own values reproduce on other prompts" in text
        assert "1 of 2 values measured on mini, the embedded model holds here, too" in text
        assert "0 of 1 statement of the literature holds" in text
        assert "2 (1 measured on mini, the embedded model, 1 by definition)" in text
        assert "other basis: re-measured in base, measured on mini, the embedded model in other" in text
    assert "    measured on mini, the embedded model: 6.8 … 8.3" in terminal and "expected 6.8 … 8.3" in terminal
    data = compare_page.record(found)
    assert data["base"]["bases"] == [
        {"basis": DEFINITION, "model": "", "holding": 1, "of": 1},
        {"basis": RE_MEASURED, "model": "", "holding": 2, "of": 2},
    ]
    assert data["changes"][0]["other"]["basis"] == MEASURED_ELSEWHERE


def test_a_comparison_with_a_report_of_an_earlier_version_notes_no_change_of_basis(tmp_path):
    found = compared(
        tmp_path, without_basis([row(PUBLISHED), row(PUBLISHED, number=1)]), [row(PUBLISHED), row(DEFINITION, number=1)]
    )
    assert [one.notes for one in found.changes] == [(), ()]
    assert "2 of 2 claims with no basis noted hold" in compare_page.markdown(found)
    assert "what holds" in compare_page.page(found)


CLAIMS = '''
def test_stated(expect):
    """Twos lie above one."""
    expect(sizes(2, 2), "made up").above(1)

def test_of_the_card(expect, card):
    """The size is the published one."""
    expect(sizes(2, 2)).above(card["logit_difference"])

def test_asserted():
    """One is two."""
    assert 1 == 2
'''
VALUE = '\n[values.logit_difference]\nvalue = 4\nlow = 4\nunit = "units"\nsource = "me"\n'
CARD = 'title = "A model"\nmodels = [{models}]\nbasis = "{basis}"\n[shape]\nlayers = 4\nheads = 8\n' + VALUE
HELD = "so that its values are held against this one and not expected of it"


@pytest.mark.parametrize(
    ("models", "basis", "word", "header", "sentence", "reason"),
    [
        ('"mini"', "published", PUBLISHED, "published for this very model", "is the published one", "expected above 4"),
        (
            '"mini"',
            "measured",
            RE_MEASURED,
            "measured on this very model, on other prompts",
            "is the one on its card",
            "expected above 4",
        ),
        (
            '"b"',
            "published",
            PUBLISHED_ELSEWHERE,
            f"published for another model, {HELD}; models on it: b",
            "is the one published for A model",
            "where it is published for A model: above 4",
        ),
        (
            "",
            "measured",
            MEASURED_ELSEWHERE,
            f"measured on another model, {HELD}; models on it: none",
            "is the one on the card",
            "where it was measured on A model: above 4",
        ),
    ],
    ids=["published", "own", "published for another", "measured on another"],
)
def test_a_run_says_whose_numbers_its_card_has(project, models, basis, word, header, sentence, reason):
    (project.path / "mine.toml").write_text(CARD.format(models=models, basis=basis), encoding="utf-8")
    result, rows = claimed(project, CLAIMS, "--card=mine.toml")
    assert [(it["basis"], it["card"]) for it in rows] == [(DEFINITION, ""), (word, "A model"), (DEFINITION, "")]
    assert f"card: A model ({header})" in result.outlines
    assert rows[1]["statement"] == f"The size {sentence}." and rows[1]["reason"].endswith(reason)
    meta = json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))["meta"]
    assert (meta["card_title"], meta["card_basis"]) == ("A model", word)
    assert {"basis": DEFINITION, "model": "", "holding": 1, "of": 2} in meta["bases"]
    quiet, _ = claimed(project, CLAIMS, "--card=mine.toml", "-qq")
    assert any(line.startswith("1 of ") and "statements" in line for line in quiet.outlines)
