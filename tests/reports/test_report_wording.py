"""What a row says in words, and that no odd row can silence it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.reports import chapters, wording
from circuit_claims.verdicts.rows import COLUMNS, HOLDS, INCONCLUSIVE, REFUTED, UNTESTED, VERDICTS


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"op": ">", "expected_low": 0.42}, "> 0.42"),
        ({"op": "<", "expected_high": -1.2}, "< −1.2"),
        ({"op": "<", "expected_low": 5.0}, "< 5"),
        ({"op": "within", "expected_low": 3.41, "expected_high": 3.71}, "3.41 … 3.71"),
        ({"op": "rate >=", "expected_low": 0.99}, "≥ 99 %"),
        ({"op": "rate <=", "expected_high": 0.005}, "≤ 0.5 %"),
        ({"op": ">", "unit": "rate", "expected_low": 0.99}, "> 99 %"),
        ({"op": "top k", "expected_low": 1.0, "expected_high": 3.0}, "in the top 3"),
        ({"op": "top k contains", "expected_high": 3}, "in the top 3"),
        ({"op": "always >", "expected_low": 0}, "always > 0"),
        ({"op": "always within", "expected_low": 0.8, "expected_high": 1}, "always 0.8 … 1"),
        ({"op": "resembles", "expected_low": 1, "expected_high": 2}, "resembles 1 … 2"),
        ({"op": "resembles"}, "resembles"),
        ({}, "—"),
    ],
)
def test_an_expectation_reads_as_a_range(row, said):
    assert wording.expected(row) == said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"observed": 3.5649, "ci_low": 3.41, "ci_high": 3.71}, "3.56 [3.41, 3.71]"),
        ({"op": "rate >=", "observed": 0.9961, "ci_low": 0.9912, "ci_high": 1.0}, "99.6 % [99.1, 100.0]"),
        ({"op": "top k", "observed": 2.0, "ci_low": 1.0, "ci_high": 3.0}, "rank 2 [1, 3]"),
        ({"observed": -0.00001}, "−1e-5".replace("-", wording.MINUS)),
        ({"observed": 1234.5}, "1,234"),
        ({"observed": None}, "—"),
        ({"observed": 0.5, "ci_low": 0.4}, "0.500 [0.400, …]"),
    ],
)
def test_an_observation_reads_with_its_interval(row, said):
    assert wording.observed_with_interval(row) == said


def test_rounding_never_moves_an_observation_onto_the_bound_that_it_misses():
    row = {"op": ">", "expected_low": 0.42, "observed": 0.41996}
    assert wording.observed(row) == "0.41996"
    assert wording.observed(row | {"observed": 0.42}) == "0.420"


@pytest.mark.parametrize(
    ("claim_id", "name"),
    [
        ("ioi/name_movers/name_movers_carry_most_of_the_answer[L9H9]", "name movers carry most of the answer · L9H9"),
        ("claims/ioi/test_x.py::test_io_outranks_s", "io outranks s"),
        ("ioi/x/a_b[L9H9]#2", "a b · L9H9#2"),
        ("ioi/x/a_b[a/b-c[d]]", "a b · a/b-c[d]"),
        ("", "unnamed claim"),
        (None, "unnamed claim"),
    ],
)
def test_a_claim_has_a_readable_name(claim_id, name):
    assert wording.readable_name(claim_id) == name


def test_the_counts_come_in_the_order_of_the_verdicts():
    rows = [{"verdict": verdict} for verdict in [UNTESTED, HOLDS, REFUTED, HOLDS, INCONCLUSIVE, REFUTED, "odd"]]
    assert wording.counts_line(rows) == "2 hold · 2 refuted · 1 inconclusive · 1 untested · 1 odd"
    assert wording.counts_line([{"verdict": HOLDS}]) == "1 holds"
    assert wording.counts_line([]) == "no claims"


def test_every_verdict_has_a_meaning():
    assert set(wording.MEANINGS) == set(VERDICTS)


def test_escape_sequences_and_text_direction_are_spelled_out():
    assert wording.one_line("a\x1b[31m\nb\u202ec\ud800") == "a\\x1b[31m↵b\\u202ec\\ud800"


@pytest.mark.parametrize(("value", "said"), [(0.0012, "+0.0012"), (-0.824, "−0.82"), (0, "+0"), (None, "—")])
def test_a_margin_is_signed(value, said):
    assert wording.margin({"margin": value}) == said


def test_facts_come_from_the_rows_where_the_meta_is_silent():
    rows = [{"subject": "gpt2", "prepend_bos": False}, {"subject": "mini", "prepend_bos": False}]
    assert dict(wording.facts({}, rows)) == {"subject": "gpt2, mini", "BOS prepended": "no"}
    assert dict(wording.facts({"subject": "mine", "bench": {"a": True}}, rows))["bench"] == "a yes"


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
NUMERIC = ("expected_low", "expected_high", "observed", "ci_low", "ci_high", "margin")


@given(
    row=st.fixed_dictionaries({key: numbers for key in NUMERIC}),
    op=st.none() | st.text() | st.sampled_from([">", "<", "within", "rate >=", "top k", "always >", "always within"]),
)
def test_every_row_can_be_put_in_words(row, op):
    row = dict.fromkeys(COLUMNS) | row | {"op": op}
    said = [wording.expected(row), wording.observed_with_interval(row), wording.margin(row), wording.reason(row)]
    assert all(text.isprintable() for text in said)
    assert all(said[:3])


def test_what_was_not_sampled_has_no_interval_but_is_exact():
    row = {"observed": 2.5, "ci_low": 2.5, "ci_high": 2.5}
    assert wording.observed_with_interval(row | {"exact": True}) == "2.50 exact"
    assert wording.observed_with_interval(row) == wording.observed_with_interval(row | {"exact": False}) == "2.50 [2.50, 2.50]"


@pytest.mark.parametrize(
    ("subjects", "title"),
    [
        (["mini", "mini"], "Weights alone"),
        (["gpt2-small", "gpt2-small"], "Weights alone · on gpt2-small"),
        (["mini", "gpt2-small"], "Weights alone · on gpt2-small"),
        ([], "Weights alone"),
    ],
)
def test_a_chapter_says_whose_weights_it_is_about_where_these_are_not_the_subjects(subjects, title):
    rows = [{"subject": subject, "observed": 1.0} for subject in subjects]
    # An untested row has measured nothing, whatever it says of its subject.
    rows.append({"subject": "elsewhere", "observed": None})
    assert chapters.title_of("weights", rows, {"subject": "mini"}) == title
    assert chapters.title_of("weights", rows, {}) == "Weights alone", "no subject of the run to differ from"


def test_a_name_calls_nothing_published_that_the_statement_does_not():
    """A claim has one id whatever the card; on a card of the model's own measurements its statement says so."""
    row = {"claim_id": "ioi/behaviour/mean_logit_difference_is_as_published"}
    assert wording.name_of(row | {"statement": "The mean is the published one."}) == "mean logit difference is as published"
    assert wording.name_of(row | {"statement": "The mean is the one on its card."}) == "mean logit difference is as on its card"
    assert wording.name_of(row) == wording.name_of(row | {"statement": None}) == "mean logit difference is as published"


@pytest.mark.parametrize(
    ("number", "said"), [(12, "range over 12 populations"), (1, "range over 1 population"), (None, "range over populations")]
)
def test_a_universal_claim_has_a_range_over_populations(number, said):
    row = {"kind": "universal", "op": "always <", "observed": -5.96, "ci_low": -8.89, "ci_high": -5.96, "populations": number}
    assert wording.observed_with_interval(row) == f"−5.96 −8.89 … −5.96 ({said})"
    assert wording.interval(row, brief=True) == "−8.89 … −5.96"
    assert wording.populations(row) == said
    assert wording.populations(row | {"kind": "magnitude", "op": "<"}) == wording.populations({"kind": "universal"}) == ""
