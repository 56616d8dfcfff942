"""Gendered pronouns: "So Mary is a really great friend, isn't" goes on with "she" (Mathwin et al. 2023)."""

import pytest

pytestmark = pytest.mark.section("5.5")

MATHWIN = "Mathwin et al. 2023"
PLACES = f"{MATHWIN}, section 4: from the name, over 'is', to the end; which layers, it does not say"


def test_the_pronoun_has_the_gender_of_the_name(gendered_pronouns, expect):
    """The pronoun of the name's gender is preferred to the other on clearly more than half of the pairs."""
    source = f"{MATHWIN}: the task, with its five templates and twenty names"
    because = "clearly more than half, what a coin gives"
    expect(gendered_pronouns.prefers_answer(), source, because=because).rate_at_least(0.5)


def test_mean_logit_difference_is_as_published(gendered_pronouns, card, expect):
    """On the published hundred prompts, the mean logit difference between the two pronouns is the published one."""
    expect(gendered_pronouns.logit_difference()).near(card["gendered_pronouns_logit_difference"])


def test_a_name_of_the_other_gender_turns_the_pronoun(gendered_pronouns, expect):
    """With a name of the other gender and all else kept, the other pronoun is preferred on average."""
    turned = gendered_pronouns.changed().logit_difference().presupposing(gendered_pronouns.competence())
    expect(turned, f"{MATHWIN}, with names of the other gender, as the judge of it proposed").below(0)


def test_the_name_holds_its_gender_through_the_first_quarter_of_the_layers(gendered_pronouns, expect):
    """A quarter of the way up, the stream at the name restores more than half of the answer."""
    expect(gendered_pronouns.recovery_at("name", 1 / 4), PLACES, because="most: over half").above(0.5)


def test_the_gender_passes_over_is(gendered_pronouns, expect):
    """Half of the way up, the stream at 'is' restores more than a tenth of the answer."""
    expect(gendered_pronouns.recovery_at("is", 1 / 2), PLACES, because="a good part: a tenth").above(0.1)


def test_the_end_lacks_the_gender_in_the_first_quarter_of_the_layers(gendered_pronouns, expect):
    """A quarter of the way up, the stream at the end restores less than a tenth of the answer."""
    expect(gendered_pronouns.recovery_at("END", 1 / 4), PLACES, because="a tenth").below(0.1)


def test_the_end_has_the_gender_before_the_last_layer(gendered_pronouns, expect):
    """Before the last layer, the stream at the end restores more than half of the answer."""
    expect(gendered_pronouns.recovery_at("END", 1), PLACES, because="most: over half").above(0.5)
