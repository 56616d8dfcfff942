"""How many verdicts of a run to expect wrong, and which survive Holm's correction."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from circuit_claims.reports import multiplicity
from circuit_claims.reports.render import csv, markdown
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, REFUTED, UNTESTED, Row


def row(verdict: str, observed: float | None, reach: float, low: float | None = None, high: float | None = None, **more):
    """A row whose interval reaches equally far to both sides."""
    ends = (None, None) if observed is None else (observed - reach, observed + reach)
    fields: dict[str, Any] = {
        "claim_id": "x",
        "statement": "x",
        "chapter": "x",
        "kind": "magnitude",
        "op": ">",
        "verdict": verdict,
    }
    fields |= {"observed": observed, "ci_low": ends[0], "ci_high": ends[1], "expected_low": low, "expected_high": high}
    return Row(**fields | more).as_dict()


def holding(half_widths: float, **more):
    """A row that holds, whose observation lies so many half-widths above its bound."""
    return row(HOLDS, 1 + half_widths * 0.1, 0.1, low=1.0, **more)


# Holm's procedure.


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        # Holm 1979: 0.05 / 4, 0.05 / 3, 0.05 / 2, 0.05, until one is above its share.
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.0125, 0.05 / 3, 0.025, 0.05], [True, True, True, True]),
        ([0.0126, 0.001], [True, True]),
        ([0.026, 0.026], [False, False]),
        ([], []),
    ],
)
def test_holms_procedure_by_hand(p_values, rejected):
    assert multiplicity.holm(p_values, 0.05) == rejected


def test_holm_keeps_its_error_where_all_hypotheses_are_true():
    random = np.random.default_rng(0)
    wrong = sum(any(multiplicity.holm(list(random.uniform(size=50)), 0.05)) for _ in range(2000)) / 2000
    assert wrong < stats.binom.ppf(0.999, 2000, 0.05) / 2000
    assert wrong > 0.03, "and it is not so strict as to say nothing"


# From rows to p-values.


def test_on_the_edge_of_a_verdict_the_p_value_is_the_error():
    assert multiplicity.p_value(holding(1.0)) == pytest.approx(0.05)


@pytest.mark.parametrize("half_widths", [1.5, 2.0, 4.0])
def test_further_off_it_is_that_of_a_normal_number(half_widths):
    expected = 2 * stats.norm.sf(half_widths * stats.norm.isf(0.025))
    assert multiplicity.p_value(holding(half_widths)) == pytest.approx(expected)
    above = row(REFUTED, 1 + half_widths * 0.1, 0.1, high=1.0)
    below = row(KNOWN_FALSE, 1 - half_widths * 0.1, 0.1, low=1.0)
    assert multiplicity.p_value(above) == pytest.approx(expected)
    assert multiplicity.p_value(below) == pytest.approx(expected)


def test_between_two_bounds_the_nearer_decides():
    assert multiplicity.p_value(row(HOLDS, 1.3, 0.1, low=1.0, high=1.5)) == pytest.approx(
        2 * stats.norm.sf(2 * stats.norm.isf(0.025))
    )


@pytest.mark.parametrize(
    "without",
    [
        row(INCONCLUSIVE, 1.05, 0.1, low=1.0),
        row(UNTESTED, None, 0.0, low=1.0),
        holding(3, kind="universal"),
        row(HOLDS, 2.0, 0.0, low=1.0),
        row(REFUTED, 2.0, 0.1, low=1.0),  # its interval lies inside: it was refuted for another reason
    ],
)
def test_what_has_no_p_value(without):
    assert multiplicity.p_value(without) is None


# What a report says.


def test_the_line_counts_verdicts_that_rest_on_an_interval():
    rows = [holding(5)] * 171 + [row(INCONCLUSIVE, 1.0, 0.1, low=1.0), row(UNTESTED, None, 0.0), holding(5, kind="universal")]
    assert multiplicity.line(rows) == "at most 8.6 of these 171 verdicts are expected to be wrong at 95 %"
    assert multiplicity.line([row(UNTESTED, None, 0.0)]) == "" == multiplicity.note([])


def test_exact_rows_cannot_be_wrong_by_chance_and_do_not_count():
    exact = row(HOLDS, 1.2, 0.0, low=1.0, exact=True)
    sampled = row(HOLDS, 1.2, 0.0, low=1.0)  # a sample in which nothing varied may still mislead
    assert multiplicity.line([exact] * 5) == multiplicity.note([exact] * 5) == ""
    assert multiplicity.line([exact, holding(5), sampled]) == multiplicity.line([holding(5), sampled]) != ""
    near = holding(1.1)
    rows = [near, *(dict(exact) for _ in range(19))]
    marks = multiplicity.holm_marks(rows)
    assert marks[id(near)] == "survives" and set(marks.values()) == {"survives", ""}


def test_a_verdict_near_its_bound_survives_alone_and_not_among_many():
    near = holding(1.1)
    assert multiplicity.holm_marks([near])[id(near)] == "survives"
    rows = [near, *(holding(1.05) for _ in range(19)), far := holding(5)]
    marks = multiplicity.holm_marks(rows)
    assert marks[id(near)] == "does not" and marks[id(far)] == "survives"


def test_inconclusive_claims_count_among_the_tests():
    near = holding(1.15)
    unclear = [row(INCONCLUSIVE, 1.0, 0.1, low=1.0) for _ in range(30)]
    assert multiplicity.holm_marks([near, *unclear])[id(near)] == "does not"
    assert {multiplicity.holm_marks([near, *unclear])[id(it)] for it in unclear} == {""}


def test_every_report_says_it():
    rows = [holding(5), holding(1.01), holding(1.01)]
    assert "at most 0.2 of these 3 verdicts" in markdown({}, rows) and "1 of them survives Holm" in markdown({}, rows)
    assert csv(rows).splitlines()[0].endswith("holm") and csv(rows).splitlines()[1].endswith("survives")
