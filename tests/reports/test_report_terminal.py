"""The closing table: it fits its width, and gives up the name before a number."""

import pytest
from rich.cells import cell_len

from circuit_claims.reports.terminal import shorten_name, table
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, REFUTED, UNTESTED, VERDICTS, Row

LONG = "name_movers_carry_most_of_the_answer_on_every_template_that_anybody_has_thought_of"


def rows() -> list[dict]:
    numbers = {
        "op": "within",
        "expected_low": 2.1,
        "expected_high": 2.9,
        "observed": 2.45,
        "ci_low": 2.3,
        "ci_high": 2.6,
        "n": 1024,
    }
    return [
        Row(f"ioi/c/{LONG}[L9H9]", "", "ioi", verdict=HOLDS, **numbers).as_dict(),
        Row(f"ioi/c/{LONG}[L10H0]", "", "ioi", verdict=REFUTED, reason="too low " * 40, **numbers).as_dict(),
        Row("induction/c/名前名前名前名前", "", "induction", verdict=INCONCLUSIVE, reason="two\nlines", **numbers).as_dict(),
        Row("ioi/c/late", "", "ioi", verdict=UNTESTED, reason="no such family").as_dict(),
    ]


@pytest.mark.parametrize("width", [72, 80, 100, 160])
def test_every_line_fits(width):
    lines = [str(line) for line in table(rows(), width)]
    assert max(cell_len(line) for line in lines) <= width
    assert sum("2.1 … 2.9" in line and "2.45 [2.30, 2.60]" in line and "1,024" in line for line in lines) == 3


@pytest.mark.parametrize("width", [1, 20, 40])
def test_numbers_are_whole_even_where_they_do_not_fit(width):
    text = "\n".join(str(line) for line in table(rows(), width))
    assert text.count("2.1 … 2.9") == text.count("2.45 [2.30, 2.60]") == 3
    assert all(verdict in text for verdict in (HOLDS, REFUTED, INCONCLUSIVE, UNTESTED))


def test_a_shortened_name_keeps_its_variant():
    text = "\n".join(str(line) for line in table(rows(), 100))
    assert "… · L9H9" in text and "… · L10H0" in text
    assert shorten_name("name movers carry it · L9H9", 20) == "name movers… · L9H9"
    assert shorten_name("short · L9H9", 20) == "short · L9H9"


def test_a_name_without_room_beside_the_numbers_stands_above_them():
    lines = [str(line) for line in table(rows(), 80)]
    above = next(i for i, line in enumerate(lines) if "on every template" in line)
    assert lines[above].rstrip().endswith("· L9H9") and "2.45 [2.30, 2.60]" in lines[above + 1]
    assert cell_len(lines[above]) <= 80


def test_columns_stand_under_each_other():
    lines = [str(line) for line in table(rows(), 100)]
    starts = {line.index("2.1 … 2.9") for line in lines if "2.1 … 2.9" in line and "名" not in line}
    assert len(starts) == 1 and lines[0].index("expected") in starts


def test_what_does_not_hold_gives_its_reason_on_one_line():
    lines = [str(line) for line in table(rows(), 80)]
    assert any(line.strip() == "two↵lines" for line in lines)
    assert any(line.strip().startswith("too low too low") and line.endswith("…") for line in lines)
    assert any(line.strip() == "no such family" for line in lines)


def test_circuits_are_together_and_the_counts_come_last():
    lines = [str(line) for line in table(rows(), 100)]
    ioi = lines.index("Indirect object identification: 1 holds · 1 refuted · 1 untested")
    induction = lines.index("Induction: 1 inconclusive")
    assert ioi < next(i for i, line in enumerate(lines) if "late" in line) < induction
    assert lines[-2] == "1 holds · 1 refuted · 1 inconclusive · 1 untested"
    assert lines[-1] == "at most 0.1 of these 2 verdicts are expected to be wrong at 95 %"


def test_one_chapter_alone_says_its_counts_once():
    lines = [str(line) for line in table([row for row in rows() if row["chapter"] == "ioi"], 100)]
    assert "Indirect object identification" in lines
    assert sum("1 holds · 1 refuted" in line for line in lines) == 1


def test_the_verdict_is_apart_so_that_it_can_be_coloured():
    shown = [line.verdict for line in table([{"verdict": verdict} for verdict in VERDICTS], 80) if line.verdict]
    assert shown == ["verdict", *VERDICTS]


def test_an_escape_sequence_does_not_reach_the_terminal():
    row = {"claim_id": "a\x1b[2J", "chapter": "b\x1b[2J", "verdict": "refuted\x1b[2J", "reason": "c\x1b[2J", "op": "\x1b[2J"}
    assert "\x1b" not in "\n".join(str(line) for line in table([row], 80))


def test_no_rows_no_table():
    assert table([], 80) == []


@pytest.mark.parametrize("width", [72, 100, 160])
def test_many_claims_that_are_untested_for_one_reason_are_one_line(width):
    why = "no card goes with my-model: find its own with `circuit-claims discover --subject my-model`"
    alike = [Row(f"ioi/c/needs_{n}", "", "ioi", verdict=UNTESTED, reason=why).as_dict() for n in range(6)]
    lines = [str(line) for line in table([*alike[:3], *rows(), *alike[3:]], width)]
    assert sum("needs" in line for line in lines) == 0 and sum(line.strip().startswith("late") for line in lines) == 1
    (said,) = [line for line in lines if "6 claims: " in line]
    assert said.startswith("  6 claims: no card goes with my-model: find its own") and said.endswith(f"    {UNTESTED}")
    assert max(cell_len(line) for line in lines) <= width
    assert "1 holds · 1 refuted · 1 inconclusive · 7 untested" in lines
    fewer = [str(line) for line in table([*rows(), *alike[1:]], width)]
    assert sum("needs" in line for line in fewer) == 5, "of five, each is named"


def wide() -> list[dict]:
    """Rows of which the numbers alone fill eighty columns."""
    numbers = {"op": "within", "expected_low": -12345.5, "expected_high": 12345.5, "observed": 1.0, "n": 99999}
    row = Row(f"ioi/c/{LONG}[L9H9]", "", "ioi", verdict="known false", **numbers)
    return [row.as_dict() | {"ci_low": -98765.4, "ci_high": 98765.4}, *rows()]


@pytest.mark.parametrize("width", [65, 66])
def test_where_numbers_and_verdict_have_no_room_beside_each_other_the_verdict_stands_above(width):
    lines = table(wide(), width)
    assert max(cell_len(str(line)) for line in lines) <= width
    header, numbers = lines[0], lines[1]
    assert header.text.split() == ["claim"] and header.verdict == "verdict"
    assert numbers.text.split() == ["expected", "observed", "n"] and not numbers.verdict
    first = next(i for i, line in enumerate(lines) if line.verdict == "known false")
    assert "· L9H9" in lines[first].text and "99,999" in lines[first + 1].text
    assert numbers.text.index("expected") == lines[first + 1].text.index("−")


def test_the_ends_of_a_universal_claim_are_a_range_and_no_interval():
    numbers = {"op": "always >", "expected_low": 0.0, "observed": 2.5, "ci_low": 2.5, "ci_high": 3.5, "n": 960}
    row = Row("ioi/c/always", "", "ioi", kind="universal", verdict=HOLDS, populations=32, **numbers).as_dict()
    lines = [str(line) for line in table([row], 100)]
    assert any("2.50 2.50 … 3.50" in line and "[" not in line for line in lines)
    assert any(line.strip() == "range over 32 populations" for line in lines)
