"""Subject-verb agreement: "The keys on the cabinet" goes on with "are", and with "is" where the subject is one key.

Linzen et al. 2016 asked it of LSTMs, Finlayson et al. 2021 of GPT-2 and others, by interventions on the subject's number. No
magnitude on these prompts is published, so bounds are words: most, clearly more than half, a tenth.
"""

BEHAVIOUR = "Linzen et al. 2016; Marvin & Linzen 2018, the template with a prepositional phrase"
INTERVENTION = "Finlayson et al. 2021: the subject in its other number"
MORE_THAN_HALF = "clearly more than half, what a coin gives"
PLACES = f"{INTERVENTION}; which layers, no source says of these prompts"


def test_the_verb_agrees_with_its_subject(subject_verb_agreement, expect):
    """The verb in the subject's number is preferred to the other on clearly more than half of the pairs."""
    expect(subject_verb_agreement.prefers_answer(), BEHAVIOUR, because=MORE_THAN_HALF).rate_at_least(0.5)


def test_a_noun_of_the_other_number_does_not_attract_the_verb(agreement_across_the_other_number, expect):
    """Where the noun in between has the other number, the verb in the subject's is preferred on clearly more than half."""
    source = "Linzen et al. 2016: nouns of the other number attract agreement"
    expect(agreement_across_the_other_number.prefers_answer(), source, because=MORE_THAN_HALF).rate_at_least(0.5)


def test_the_subject_in_its_other_number_turns_the_verb(subject_verb_agreement, expect):
    """With the subject in its other number and all else kept, the other form of the verb is preferred on average."""
    turned = subject_verb_agreement.changed().logit_difference().presupposing(subject_verb_agreement.competence())
    expect(turned, INTERVENTION).below(0)


def test_the_subject_holds_its_number_through_the_first_quarter_of_the_layers(subject_verb_agreement, expect):
    """A quarter of the way up, the stream at the subject restores more than half of the answer."""
    expect(subject_verb_agreement.recovery_at("noun", 1 / 4), PLACES, because="most: over half").above(0.5)


def test_the_noun_in_between_does_not_pass_the_number_on(subject_verb_agreement, expect):
    """Half of the way up, the stream at the noun in between restores less than a tenth of the answer."""
    expect(subject_verb_agreement.recovery_at("attractor", 1 / 2), PLACES, because="a tenth").below(0.1)


def test_the_end_lacks_the_number_in_the_first_quarter_of_the_layers(subject_verb_agreement, expect):
    """A quarter of the way up, the stream at the end restores less than a tenth of the answer."""
    expect(subject_verb_agreement.recovery_at("END", 1 / 4), PLACES, because="a tenth").below(0.1)


def test_the_end_has_the_number_before_the_last_layer(subject_verb_agreement, expect):
    """Before the last layer, the stream at the end restores more than half of the answer."""
    expect(subject_verb_agreement.recovery_at("END", 1), PLACES, because="most: over half").above(0.5)
