"""Previous-token, duplicate-token and induction heads: how S2 comes to know that it has been there before."""

import pytest

from circuit_claims.cards.floors import few

pytestmark = pytest.mark.section("3.3")

#: Where each family looks, from where.
LOOKS = {"duplicate token": ("S2", "S1"), "induction": ("S2", "S1+1"), "previous token": ("S1+1", "S1")}
SECTION = "Wang et al. 2022, section 3.3"


@pytest.mark.parametrize("family", LOOKS)
def test_early_heads_look_where_they_should(ioi, card, expect, family):
    """The {family} heads attend, on average over them, more to where they should than to anything else in the sentence."""
    of, to = LOOKS[family]
    expect(ioi.mean_preference(card.heads(family), to=to, of=of), SECTION).above(0)


@pytest.mark.parametrize("score", LOOKS)
def test_early_heads_do_the_same_on_random_tokens(repeated, card, expect, score):
    """On 100 random tokens said twice, the {score} heads that the paper validates have the highest {score} scores of all."""
    heads = card.heads(f"validated {score}")
    rank = card[f"{score} rank"]
    expect(repeated.attention_scores(score), rank.source).top(few(rank.value, of=card.n_layers * card.n_heads)).contains(heads)


def test_induction_and_duplicate_token_heads_speak_to_S_inhibition(ioi, card, expect):
    """Path patching (ABC) duplicate-token and induction heads into the S-inhibition heads' values at S2 loses something."""
    senders = (*card.heads("duplicate token"), *card.heads("induction"))
    path = ioi.path(senders, to=card.heads("S-inhibition"), into="v", at="S2")
    expect(path.share(), SECTION, because="more than next to nothing, a twentieth").above(0.05)


def test_previous_token_heads_speak_to_induction_heads(ioi, card, expect):
    """Path patching (ABC) the previous-token heads into the induction heads' keys at S1+1 loses something."""
    path = ioi.path(card.heads("previous token"), to=card.heads("induction"), into="k", at="S1+1")
    expect(path.share(), SECTION).above(0)
