"""Universal claims: many examples that hypothesis draws, one row."""

import pytest

from tests.support.claim_projects import CLAIMS, EXPECTED, claimed, verdicts


@pytest.mark.parametrize(("profile", "examples"), [("fast", 3), ("default", 15)])
def test_a_universal_claim_that_holds_has_one_row_that_counts_all_prompts(project, profile, examples):
    _, [row] = claimed(project, CLAIMS, "-k", "test_always", f"--hypothesis-profile={profile}")
    assert (row["verdict"], row["kind"], row["op"], row["profile"]) == ("holds", "universal", "always >", profile)
    assert row["n"] == examples * 16
    assert row["prepend_bos"] is True, "the measurement's, not the command line's"
    assert row["ci_low"] == row["observed"] <= row["ci_high"], "from the lowest population to the highest; the worst is shown"


def test_a_universal_claim_that_fails_has_one_row_with_the_smallest_counterexample(project):
    result, [row] = claimed(project, CLAIMS, "-k", "not_always")
    assert row["verdict"] == "refuted" and row["n"] > 0 and row["n"] % 16 == 0
    assert row["counterexample"] == {"prompt": "prompt of -1.0", "value": -1.0, "batch_mean": -1.0}
    assert row["reason"] == "size is -1 on average over 16 prompts of one population, expected above 0 on every one"
    assert row["ci_low"] < 0 and row["margin"] < 0
    result.assert_outcomes(failed=1, deselected=len(EXPECTED) - 2)


UNIVERSAL = "@given(x=st.integers(0, 10**6))\ndef test_a(expect, x):\n"


def test_of_two_universal_sentences_the_first_can_be_refuted_without_a_third_row(project):
    text = UNIVERSAL + "    expect(batch(5.0 - x)).always_above(0)\n    expect(batch(1.0, quantity='other')).always_above(0)\n"
    _, rows = claimed(project, text)
    assert [(row["claim_id"], row["quantity"], row["verdict"]) for row in rows] == [
        ("demo/x/a", "size", "refuted"),
        ("demo/x/a#2", "other", "holds"),
    ]


def test_a_universal_claim_that_is_known_to_be_false_is_expected_to_fail(project):
    result, rows = claimed(project, "@known_false\n" + UNIVERSAL + "    expect(batch(5.0 - x)).always_above(0)\n")
    assert verdicts(rows) == ["known false"]
    result.assert_outcomes(xfailed=1)


def test_a_universal_claim_that_asks_for_what_is_missing_is_untested(project):
    result, rows = claimed(project, UNIVERSAL + "    expect(batch(1.0)).always_above(BARE_CARD['missing'])\n")
    assert verdicts(rows) == ["untested"]
    result.assert_outcomes(skipped=1)


@pytest.mark.parametrize("crash", ["1 // (x < 6)", "sizes(1.0 if x < 6 else float('nan'))"], ids=["exception", "nan"])
def test_a_universal_claim_of_which_an_example_crashes_is_invalid_and_does_not_hold(project, crash):
    result, rows = claimed(project, UNIVERSAL + f"    expect(batch(1.0)).always_above(0)\n    {crash}\n")
    assert set(verdicts(rows)) == {"invalid"}
    result.assert_outcomes(errors=1)


def test_a_universal_claim_that_expects_nothing_is_invalid(project):
    result, rows = claimed(project, UNIVERSAL + "    pass\n")
    assert verdicts(rows) == ["invalid"]
    result.assert_outcomes(errors=1)
