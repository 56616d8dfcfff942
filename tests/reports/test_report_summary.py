"""The report in words: what its rows show and no more."""

from html import unescape

import pytest

from circuit_claims.reports import page, render
from circuit_claims.reports.overview.roles import TOPICS, topic_of
from circuit_claims.reports.overview.summary import summary
from circuit_claims.reports.overview.untested import by_reason, short_reason
from circuit_claims.verdicts.rows import (
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    KNOWN_FALSE,
    NOW_TRUE,
    REFUTED,
    UNTESTED,
    Row,
)

PREFERS = "ioi/behaviour/IO_outranks_S_on_nearly_every_prompt"
DIFFERENCE = "ioi/behaviour/mean_logit_difference_is_as_published"
NO_VALUE = "the card 'mini' has no value 'x_y' (it is published for GPT-2 small): add [values.x_y] with its source"
NO_HEADS = "the card 'mini' names no 'duplicate token' heads: add [families.duplicate_token] to it to test this"
NOTHING = (
    "there is nothing to take a share of, since the model does not do the task: IO is preferred on 48.3% [40.0%, 57.0%] of 120 "
    "prompts, and what is shared out is 0.01 [-0.1, 0.2] logits, 0.02 of its spread"
)


def row(claim_id: str, verdict: str = HOLDS, basis: str = "", **fields):
    measured = {"op": ">", "expected_low": 0.5, "observed": 0.7, "ci_low": 0.6, "ci_high": 0.8, "n": 120}
    given = {"reason": NO_VALUE} if verdict == UNTESTED else measured
    return Row(claim_id, "", claim_id.split("/")[0], verdict=verdict).as_dict() | given | fields | {"basis": basis}


def said(rows) -> dict[str, str]:
    told = summary(rows)
    return dict(told.topics) | {title: sentence for _, title, sentence in told.chapters}


def rate(verdict: str = HOLDS, **fields):
    return row(
        PREFERS, verdict, op="rate >=", unit="rate", expected_low=0.983, observed=0.995, ci_low=0.99, ci_high=0.999, **fields
    )


def test_the_behaviour_comes_first_with_its_numbers():
    rows = [rate(), row(DIFFERENCE, observed=3.56, ci_low=3.4, ci_high=3.7)]
    assert summary(rows).lead == (
        "Indirect object identification is there: IO is preferred over S on 99.5 % [99.0, 99.9] of 120 prompts; "
        "the mean logit difference is 3.56 [3.40, 3.70] logits."
    )


@pytest.mark.parametrize(
    ("rows", "begins", "has"),
    [
        ([rate(REFUTED)], "Indirect object identification is not there as stated:", "(refuted: expected ≥ 98.3 %)"),
        ([rate(INCONCLUSIVE)], "Indirect object identification is not shown by these rows:", "(inconclusive: expected"),
        ([rate(UNTESTED) | {"observed": None}], "Indirect object identification is not shown by these rows.", ""),
        ([rate(basis="re-measured")], "Indirect object identification is there, as often on other prompts", "99.5 %"),
        (
            [row("ioi/name_movers/a", REFUTED, reason=NOTHING)],
            "Indirect object identification is not there:",
            "IO is preferred on 48.3% [40.0%, 57.0%] of 120 prompts.",
        ),
        ([row("ioi/name_movers/a")], "Indirect object identification is not shown by these rows.", ""),
        ([row("facts/recall/a")], "", ""),
    ],
)
def test_the_behaviour_is_claimed_only_where_its_row_holds(rows, begins, has):
    lead = summary(rows).lead
    assert lead.startswith(begins) and has in lead and (begins or not lead)
    assert ("is there" in begins) == ("is there" in lead)


def test_each_role_says_what_holds_what_is_refuted_with_its_number_and_what_is_untested_and_why():
    rows = [
        *(row(f"ioi/name_movers/a[L9H{head}]") for head in range(3)),
        row("ioi/name_movers/attends_to_IO", REFUTED, observed=0.31, ci_low=0.29, ci_high=0.33),
        row("ioi/S_inhibition/a", INCONCLUSIVE),
        row("ioi/S_inhibition/b", KNOWN_FALSE),
        row("ioi/S_inhibition/c", UNTESTED),
        row("ioi/S_inhibition/d", NOW_TRUE),
        row("ioi/S_inhibition/e", INVALID),
        row("ioi/early_heads/look[duplicate token]", UNTESTED, reason=NO_HEADS),
    ]
    assert said(rows) == {
        "Name movers": "3 of 4 statements hold; refuted: “attends to IO” (0.310 [0.290, 0.330], expected > 0.5).",
        "S-inhibition heads": "1 of 3 statements hold; 1 undecided; 1 false, as its card foretold; 1 true although its card "
        "calls it false; 1 not measured, since something went wrong; 1 untested (the card has no value for it).",
    }
    assert summary(rows).missing == "Not tested: duplicate-token heads (the card names no duplicate token heads)."


def test_what_was_measured_on_this_model_reproduces_and_is_not_confirmed():
    own = [row(f"ioi/name_movers/{name}", basis="re-measured") for name in "abc"]
    assert said(own)["Name movers"] == "3 of 3 of its own values reproduce on other prompts."
    mixed = [*own, row("ioi/name_movers/d", REFUTED, "published"), row("ioi/name_movers/e", basis="definition")]
    assert said(mixed)["Name movers"].startswith(
        "0 of 1 published statements hold, 1 of 1 statements by definition hold, "
        "3 of 3 of its own values reproduce on other prompts;"
    )
    assert "another basis" in said([row("ioi/name_movers/a", basis="another basis")])["Name movers"]


def test_what_falls_with_the_task_is_counted_and_not_listed():
    rows = [row(f"ioi/name_movers/{name}", REFUTED, reason=NOTHING) for name in "abcde"]
    assert said(rows)["Name movers"] == (
        "0 of 5 statements hold; 5 refuted since what they presuppose is not so "
        "(IO is preferred on 48.3% [40.0%, 57.0%] of 120 prompts)."
    )


def test_many_refuted_ones_are_named_in_part():
    rows = [row(f"ioi/name_movers/{name}", REFUTED) for name in "abcde"]
    assert "“a” (" in said(rows)["Name movers"] and said(rows)["Name movers"].endswith("), 3 more.")


def test_other_chapters_have_a_sentence_and_untested_ones_are_listed_at_the_end():
    rows = [row("facts/recall/a"), row("probing/p/a", UNTESTED), row("ioi/minimality/a[L1H1@END]")]
    told = summary(rows)
    assert told.chapters == (("facts", "Factual recall", "1 of 1 statements hold."),)
    assert told.topics == (("The whole circuit", "1 of 1 statements hold."),)
    assert told.missing == "Not tested: Probing (the card has no value for it)."


@pytest.mark.parametrize(
    ("claim_id", "topic"),
    [
        (PREFERS, "Behaviour"),
        ("ioi/knockouts/knocking_out_a_helpful_family[S-inhibition-resample]", "S-inhibition heads"),
        ("ioi/knockouts/knocking_out_the_negative_name_movers_raises_it[mean]", "Negative name movers"),
        ("ioi/direct_paths/S_inhibition_turns_the_negative_name_movers_to_IO", "S-inhibition heads"),
        ("ioi/direct_paths/negative_name_movers_write_against_the_answer", "Negative name movers"),
        ("ioi/early_heads/previous_token_heads_speak_to_induction_heads", "Previous-token heads"),
        ("ioi/completeness/circuit_without_a_class[S-inhibition]", "The whole circuit"),
        ("ioi/test_mine/something", "Other claims"),
        ("x", "Other claims"),
        ("", "Other claims"),
    ],
)
def test_a_row_belongs_to_the_role_that_it_is_about(claim_id, topic):
    assert topic_of({"claim_id": claim_id}) == topic and topic in (*TOPICS, "Other claims")


def test_reasons_are_grouped_by_what_is_missing():
    reasons = [NO_HEADS, NO_VALUE, NO_VALUE.replace("x_y", "z"), "the prompt is too long: shorten it", "", "x" * 500]
    rows = [row("ioi/a/b", UNTESTED, reason=reason) for reason in reasons]
    assert {why: len(group) for why, group in by_reason([*rows, row("ioi/a/c")]).items()} == {
        "the card has no value for it": 2,
        "the card names no duplicate token heads": 1,
        "the prompt is too long": 1,
        "no reason is given": 1,
        "x" * 100 + "…": 1,
    }
    assert short_reason({"reason": "the card names no heads at all: add families"}) == "the card names no heads"


def test_both_reports_begin_with_it():
    rows = [rate(), row("ioi/name_movers/a_b", REFUTED), row("facts/recall/a"), row("probing/p/a", UNTESTED)]
    html, markdown = unescape(page.page({"subject": "mini"}, rows)), render.markdown({}, render.plain(rows))
    told = summary(rows)
    for sentence in (told.lead, told.topics[1][1], told.missing):
        assert sentence in html.partition("<main>")[0] and sentence in markdown.partition("\n##")[0], sentence
    assert "untested: <span" in html and "Untested, since the card has no value for it" in html
    assert summary([]).lead == "" and 'class="summary"' not in page.page({}, [])
