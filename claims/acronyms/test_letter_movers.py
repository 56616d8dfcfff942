"""Acronyms: "The Wound Kettle Mixture (WK" goes on with M (García-Carrasco et al. 2024).

The paper's numbers could not be verified, so the claims here are of ranks and signs.
"""

import pytest

pytestmark = pytest.mark.section("5.4")

PAPER = "García-Carrasco et al. 2024"
FAMILIES = ("acronym letter mover", "acronym propagation", "acronym previous token")


def test_the_letter_movers_are_among_the_heads_that_carry_most(acronyms, card, expect):
    """Of all heads noised one by one at END, the letter movers are among as many of the costliest as the circuit has heads."""
    movers = card.family("acronym letter mover")
    circuit = {head for name in FAMILIES for head in card.heads(name)}
    because = f"the size of the published circuit, {len(circuit)} heads"
    expect(acronyms.noise_sweep(), movers.source, because=because).top(len(circuit)).contains(movers.heads)


@pytest.mark.each_head("acronym letter mover")
def test_each_letter_mover_attends_most_to_the_third_words_letter(acronyms, card, expect, head):
    """From the second letter, {head} attends more to the third word's capital letter than to any other token but BOS."""
    source = f"{PAPER}, section 4: letter movers attend to the capital letter of the word that is spelt, BOS left out"
    expect(acronyms.attention_to_third_word(head), source).above(0)


@pytest.mark.each_head("acronym previous token")
def test_each_previous_token_head_attends_one_back(acronyms, card, expect, head):
    """From the rest of each word, {head} attends more to its capital letter, one token back, than to any other but BOS."""
    source = f"{PAPER}, section 4, and the group's name: the previous token, BOS left out"
    expect(acronyms.attention_one_back([head]), source).above(0)
