"""Figure 8 of the paper: a sentence about S changes little, the same sentence about IO misleads the model."""

import pytest

from circuit_claims.cards.floors import RARELY, at_most
from circuit_claims.prompts.templates import TWO_SENTENCE_TEMPLATES

pytestmark = pytest.mark.section("4.4")

#: The baseline of figure 8: the same templates of two sentences, with no third one between them.
TWO_SENTENCES = {"templates": TWO_SENTENCE_TEMPLATES}


def test_logit_difference_without_an_extra_sentence(ioi, card, expect):
    """In the templates that take an extra sentence, the mean logit difference without one is the published one."""
    expect(ioi.on(**TWO_SENTENCES).logit_difference()).near(card["two_sentence_logit_difference"])


def test_probability_without_an_extra_sentence(ioi, card, expect):
    """In the templates that take an extra sentence, the mean probability of IO without one is the published one."""
    expect(ioi.on(**TWO_SENTENCES).probability()).near(card["two_sentence_probability"])


def test_S_outranks_IO_as_rarely_as_published_without_an_extra_sentence(ioi, card, expect):
    """In the templates that take an extra sentence, S is preferred without one no more often than published."""
    bound = at_most(card["two_sentence_prefers_s"], RARELY, "rarely")
    expect(ioi.on(**TWO_SENTENCES).prefers_s()).rate_at_most(bound)


def test_logit_difference_with_an_extra_S(ioi, card, expect):
    """With an extra sentence about S, the mean logit difference is the published one."""
    expect(ioi.changed("extra S").logit_difference()).near(card["extra_s_logit_difference"])


def test_probability_with_an_extra_S(ioi, card, expect):
    """With an extra sentence about S, the mean probability of IO is the published one."""
    expect(ioi.changed("extra S").probability()).near(card["extra_s_probability"])


def test_IO_outranks_S_with_an_extra_S(ioi, card, expect):
    """With an extra sentence about S, IO is preferred as often as published."""
    expect(ioi.changed("extra S").prefers_io()).rate_at_least(card["extra_s_prefers_io"])


def test_logit_difference_with_an_extra_IO(ioi, card, expect):
    """With an extra sentence about IO, the mean logit difference is the published one."""
    expect(ioi.changed("extra IO").logit_difference()).near(card["extra_io_logit_difference"])


def test_probability_with_an_extra_IO(ioi, card, expect):
    """With an extra sentence about IO, the mean probability of IO is the published one."""
    expect(ioi.changed("extra IO").probability()).near(card["extra_io_probability"])


def test_S_outranks_IO_as_often_as_published_with_an_extra_IO(ioi, card, expect):
    """With an extra sentence about IO, S is preferred as often as published."""
    expect(ioi.changed("extra IO").prefers_s()).near(card["extra_io_prefers_s"])
