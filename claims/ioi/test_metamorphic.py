"""What may be added to a prompt without changing its answer, and what may not."""

import pytest
from hypothesis import given

from circuit_claims.prompts.strategies import populations

pytestmark = pytest.mark.section("2.3")

WANG = "Wang et al. 2022, section 2"


@given(population=populations())
def test_IO_outranks_S_in_every_population(ioi, expect, population):
    """IO outranks S on average in every template, order, neutral prefix and choice of names."""
    expect(ioi.among(population).logit_difference(), WANG).always_above(0)


@given(population=populations(two_sentences=True))
def test_a_second_S_never_turns_the_answer_round(ioi, expect, population):
    """With a sentence about S inserted, IO still outranks S on average, in every population."""
    changed = ioi.among(population).changed("extra S")
    expect(changed.logit_difference(), "Wang et al. 2022, figure 8, second row").always_above(0)


@given(population=populations())
def test_a_distractor_name_never_turns_the_answer_round(ioi, expect, population):
    """With a sentence about somebody else before, IO still outranks S on average, in every population."""
    changed = ioi.among(population).changed("distractor name")
    expect(changed.logit_difference(), WANG, because="S before another name is still the repeated one").always_above(0)


def test_a_neutral_prefix_changes_nothing(ioi, expect):
    """A longer neutral prefix changes the mean logit difference by less than a twentieth."""
    source = "Wang et al. 2022, appendix: 3.56 becomes 3.57 behind a long neutral prefix"
    bound = "a twentieth, the sampling error of the published means (0.15 of 3.56)"
    expect(ioi.effect_of("neutral prefix"), source, kind="invariance", because=bound).between(-0.05, 0.05)


def test_a_second_S_does_not_hurt(ioi, expect):
    """A sentence about S between the two sentences does not lower the logit difference by more than a twentieth."""
    source = "Wang et al. 2022, figure 8: 3.64 with an extra S, 3.55 without"
    bound = "a twentieth, the sampling error of the published means (0.15 of 3.56)"
    expect(ioi.effect_of("extra S"), source, kind="invariance", because=bound).above(-0.05)


def test_a_second_IO_hurts(ioi, expect):
    """A sentence about IO between the two sentences lowers the logit difference: IO is a duplicate too, then."""
    expect(ioi.effect_of("extra IO"), "Wang et al. 2022, section 4.4 and figure 8: 1.23 against 3.55").below(0)
