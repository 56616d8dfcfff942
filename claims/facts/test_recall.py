"""What the model knows: the right answer after a prompt that says subject and relation."""

import pytest

from circuit_claims.prompts.published_facts import OXYGEN

pytestmark = pytest.mark.section("1")

ROME = "Meng et al. 2022, section 2 (GPT-2 XL and GPT-J)"


def test_oxygen_is_the_top_token(facts, expect):
    """After "Water is made of hydrogen and", the likeliest token is " oxygen"."""
    source = "logit lens and causal tracing behind one adapter (S2): GPT-2 on this prompt"
    expect(facts.published([OXYGEN], prepend_bos=True).answers_right(), source).rate_at_least(1.0)


def test_the_model_answers_as_many_facts_as_it_should(facts, card, expect):
    """Of all facts that the model can be asked, it answers the expected share with the right token on top."""
    expect(facts.asked().answers_right()).near(card["facts answered"])


def test_the_right_answer_is_preferred_to_that_of_another_subject(facts, expect):
    """On most facts, known or not, the right answer's logit is above that of the answer for another subject."""
    source = "logit lens and causal tracing behind one adapter (S2): interchange presupposes it"
    expect(facts.asked().prefers_its_own(), source, because="most: three quarters").rate_at_least(0.75)


@pytest.mark.parametrize("corruption", ["interchange", "noise"])
def test_without_its_subject_a_fact_is_not_recalled(facts, expect, corruption):
    """Under {corruption} of the subject's tokens, the model loses more than half of what it shows for the right answer."""
    expect(facts.share(corruption), ROME, because="the paper says how much of XL; most: over half").above(0.5)


def test_the_answer_follows_the_subject(facts, expect):
    """With another subject in place (interchange), the model prefers that one's answer."""
    source = "logit lens and causal tracing behind one adapter (S2): interchange corruption"
    expect(facts.corrupted("interchange").presupposing(facts.total_effect("interchange")), source).below(0)
