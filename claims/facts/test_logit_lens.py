"""The logit lens on facts: after which layer the answer is there, read with the final layer norm and the unembedding."""

import pytest

from circuit_claims.prompts.published_facts import EIFFEL_TOWER, OXYGEN

pytestmark = pytest.mark.section("2")

S2 = "logit lens and causal tracing behind one adapter (S2)"
S3 = "an interactive app and an annotated notebook (S3)"
TEXT, PARIS, LONDON = EIFFEL_TOWER


def test_oxygen_comes_up_in_the_upper_middle_layers(facts, expect):
    """After "Water is made of hydrogen and", the first layer after which " oxygen" is on top is an upper-middle one."""
    depth = facts.published([OXYGEN], prepend_bos=True).crossover_depth()
    expect(depth, S2, because="upper-middle: the upper half without its last third (L6 to L9 of 12)").between(1 / 2, 5 / 6)


def test_the_model_commits_itself_in_the_last_layers(facts, card, expect):
    """On facts that the model knows, the final answer is on top throughout the published number of last layers."""
    expect(facts.layers_committed()).near(card["layers committed"])


def test_facts_are_not_read_off_early(facts, expect):
    """On most facts that the model knows, the answer is not on top after any layer of the lower half."""
    expect(facts.comes_up_late(), S2, because="most: over half").rate_at_least(0.5)


def test_paris_is_on_top_after_no_layer(facts, expect):
    """On the "Eiffel Tower" prompt, " Paris" is on top after no layer, in a model that has one of the two cities in mind."""
    eiffel = facts.published([(TEXT, PARIS, LONDON)], prepend_bos=True)
    expect(eiffel.layers_on_top().presupposing(eiffel.ranked_among(10)), S3, because="not once").below(0.5)


def test_london_is_preferred_to_paris_after_every_layer(facts, expect):
    """On the "Eiffel Tower" prompt, " London" is above " Paris" after every layer, in a model that has one of them in mind."""
    eiffel = facts.published([(TEXT, LONDON, PARIS)], prepend_bos=True)
    measured = eiffel.layers_above_the_other().presupposing(eiffel.ranked_among(10))
    expect(measured, S3, because="every layer").above(facts.n_layers - 0.5)
