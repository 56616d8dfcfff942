"""Expectations that say nothing: bounds that no model can miss or meet, expectations left half said, advice without use."""

from dataclasses import replace

import numpy as np
import pytest

from circuit_claims.cards.floors import FEW, NEARLY_EVERY, RARELY, at_least, at_most, few
from circuit_claims.cards.schema import Published
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect
from circuit_claims.verdicts.rows import INCONCLUSIVE, REFUTED, Row
from circuit_claims.verdicts.undecided import what_would_decide
from tests.support.claim_projects import claimed
from tests.support.paper import Paper


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def rows(paper: Paper) -> list[Row]:
    return paper.rows


@pytest.fixture
def expect(paper: Paper) -> Expect:
    return Expect(paper, Budget(120, 960), seed=0)


def of(unit: str, share: float = 0.5) -> Samples:
    return Samples(np.repeat([1.0, 0.0], [int(200 * share), 200 - int(200 * share)]), "it", unit, range(200))


def sweep() -> Grid:
    return Grid(np.random.default_rng(0).normal(size=(30, 2, 3)), "recovery", "share", range(30))


LAYER = Published("last", 3.0, None, None, "layer", "a paper", among=(0.0, 3.0))


@pytest.mark.parametrize(
    ("say", "fault"),
    [
        (lambda expect: expect(of("rate")).rate_at_least(0), "at least 0 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).rate_at_least(-0.053), "at least -0.053 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).rate_at_least(1.01), "at least 1.01 is a bound that cannot hold"),
        (lambda expect: expect(of("rate")).rate_at_most(1.0), "at most 1 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).rate_at_most(-0.1), "at most -0.1 is a bound that cannot hold"),
        (lambda expect: expect(of("rate")).near(0.5, within=0.5), "between 0 and 1 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).between(-1, 2), "between -1 and 2 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).above(0), "at least 0 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).above(-0.1), "at least -0.1 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).below(1), "at most 1 is a bound that cannot fail"),
        (lambda expect: expect(of("correlation")).above(-1), "at least -1 is a bound that cannot fail"),
        (lambda expect: expect(of("correlation")).below(-1.5), "at most -1.5 is a bound that cannot hold"),
        (lambda expect: expect(of("rate")).always_above(0), "at least 0 is a bound that cannot fail"),
        (lambda expect: expect(of("rate")).always_within(0, 1), "between 0 and 1 is a bound that cannot fail"),
        (lambda expect: expect(of("layer")).below(LAYER), "at most 3 is a bound that cannot fail"),
        (lambda expect: expect(of("logits")).above(float("nan")), "is not a number"),
        (lambda expect: expect(of("rate")).rate_at_least(float("nan")), "is not a number"),
        (
            lambda expect: expect(sweep()).top(6).contains([(0, 0)]),
            r"top\(6\) .*cannot fail.* 6 cells",
        ),
        (lambda expect: expect(sweep()).bottom(7).contains([(0, 0)]), r"bottom\(7\) of a sweep is a bound that cannot fail"),
        (lambda expect: expect(sweep()).top(0).contains([(0, 0)]), r"top\(0\) of a sweep is a bound that cannot hold"),
    ],
    ids=lambda part: part if isinstance(part, str) else f"line {part.__code__.co_firstlineno}",
)
def test_a_bound_that_no_model_can_miss_or_meet_is_an_error_and_makes_no_row(expect, rows, say, fault):
    with pytest.raises(ValueError, match=fault):
        say(expect)
    assert rows == []


def test_a_bound_that_a_model_can_miss_is_judged(expect, rows):
    expect(of("rate")).rate_at_least(0.3)
    expect(of("correlation", 0.9)).above(0)
    expect(of("probability", 0.9)).above(0)  # a difference of two probabilities is one too
    expect(of("share", 0.9)).above(0)
    expect(replace(of("rate", 0.9), exact=True)).above(0)
    assert [row.verdict for row in rows] == ["holds"] * 5
    with pytest.raises(AssertionError, match="no effect at all"):
        expect(replace(of("rate", 0.0), exact=True)).above(0)  # any at all: of all that there are, none refutes it


def test_an_end_at_the_edge_of_what_is_possible_is_none(expect, rows):
    never = Samples(np.zeros(200), "it", "rate", range(200), exact=True)
    expect(never).near(Published("x", 0.011, 0.0, 0.061, "rate", "a paper", among=(0.0, 1.0)))
    expect(never).between(0, 0.061)
    for row in rows:
        assert (row.verdict, row.expected_low, row.expected_high) == ("holds", None, 0.061)
        assert row.margin > 0, "room is what there is to the end that excludes something"


# Words that ask for something whatever a card says.


def published(value: float, within: float | None = None) -> Published:
    low, high = (None, None) if within is None else (max(0.0, value - within), min(1.0, value + within))
    return Published("prefers_io", value, low, high, "rate", "found so")


def test_on_a_model_that_hardly_does_it_nearly_every_does_not_hold(expect, rows):
    with pytest.raises(AssertionError):
        expect(of("rate", 0.115)).rate_at_least(at_least(published(0.067, 0.12), NEARLY_EVERY, "nearly every prompt"))
    assert (rows[0].verdict, rows[0].expected_low) == (REFUTED, NEARLY_EVERY)
    assert rows[0].source == "found so; the bound: nearly every prompt, at least 0.9"


def test_a_card_that_asks_for_more_than_the_word_stays_as_it_is():
    strict = published(0.993, 0.01)
    assert at_least(strict, NEARLY_EVERY, "nearly every prompt") is strict
    assert at_most(published(0.004, 0.05), RARELY, "rarely").high == pytest.approx(0.054)
    assert at_most(published(0.4, 0.05), RARELY, "rarely").high == RARELY
    assert at_least(published(0.5), NEARLY_EVERY, "nearly every prompt").low == NEARLY_EVERY


@pytest.mark.parametrize(("count", "of_all", "allowed"), [(14, 144, 14), (6, 32, 6), (30, 32, 8), (8, 32, 8), (3, 2, 1)])
def test_few_are_at_most_a_quarter(count, of_all, allowed):
    assert few(count, of=of_all) == allowed and FEW == 0.25


# What is left unsaid.


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "expect(sizes(2, 2))",
            "without expecting anything: expect(...) has no bound: end it with one, such as .above(0)",
        ),
        (
            "expect(sizes(2, 2)).top(3)",
            "without expecting anything: top(3) lacks what it should contain: end it with .contains",
        ),
        ("expect(sizes(2, 2)).bottom(1)", "bottom(1) lacks what it should contain: end it with .contains(heads)"),
        ("sizes(2, 2)", "ended without expecting anything: end it with expect(...)"),
        ("expect(sizes(2, 2)).above(1)\n    expect(sizes(2, 2))", "ended with something left unsaid: expect(...) has no bound"),
        ("expect(sizes(2, 2)).above(1)\n    expect(sizes(2, 2)).top(3)", "ended with something left unsaid: top(3) lacks"),
    ],
)
def test_a_claim_that_ends_before_its_bound_is_invalid_and_says_what_is_missing(project, body, says):
    result, rows = claimed(
        project, f"def test_a(expect):\n    {body}\n\ndef test_b(expect):\n    expect(sizes(2, 2)).above(1)\n"
    )
    assert [row["verdict"] for row in rows[-2:]] == ["invalid", "holds"], "and the next claim is not blamed for it"
    assert says in rows[-2]["reason"]
    result.assert_outcomes(errors=1, passed=1)


def test_a_bound_that_cannot_fail_makes_a_claim_invalid(project):
    text = 'def test_a(expect):\n    expect(sizes(1, 0, 1, quantity="how often")).rate_at_least(-0.1)\n'
    _, [row] = claimed(project, text)
    assert row["verdict"] == "invalid" and "a bound that cannot fail" in row["reason"]


# What would decide it.


def test_where_there_are_no_more_prompts_none_are_advised(expect, rows):
    fixed = Samples(np.array([-1.0, 1.0, -1.0, 1.5] * 10), "it", "logits", range(40))
    expect(Measurement(lambda n: fixed, prepend_bos=False, limit=40)).above(0)
    expect(fixed).above(0)
    expect(Measurement(lambda n: fixed, prepend_bos=False)).above(0)
    for row in rows:
        assert row.verdict == INCONCLUSIVE and "after all 40 that there are" in row.reason and "--max-prompts" not in row.reason


def test_where_more_would_be_needed_than_there_are_that_is_said():
    said = what_would_decide(0.1, -0.3, 0.5, 0.0, float("inf"), 100, 500)
    assert said == "the interval straddles the bound after 100 prompts: about 1600 would decide it, and there are 500"
    assert "--max-prompts" in what_would_decide(0.1, -0.1, 0.3, 0.0, float("inf"), 100, 500)
    assert "--max-prompts" in what_would_decide(0.1, -0.3, 0.5, 0.0, float("inf"), 100, None)
