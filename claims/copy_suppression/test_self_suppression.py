"""Copy suppression: a head that looks for what is about to be predicted, and writes against it wherever it finds it.

Read off the weights, token by token over the whole vocabulary: through the OV circuit a token attended to should suppress
itself more than any other; through the QK circuit a token about to be predicted should find itself better than any other.
Nothing is sampled, so the numbers are exact.
"""

import pytest

from circuit_claims.cards.floors import FEW, at_most
from circuit_claims.measure.grid_statistics import lead_over_the_median

pytestmark = pytest.mark.section("2")

SOURCE = "McDougall et al. 2023, section 3"

#: What the own token does in its own row.
each_circuit = pytest.mark.parametrize("circuit", ["OV", "QK"])


@each_circuit
def test_as_many_tokens_as_published_come_first_in_their_own_row(copy_suppression, card, expect, circuit):
    """In the {circuit} circuit of the copy suppression head, the published share of tokens comes first in its own row."""
    own = copy_suppression.own_token(card.heads("copy suppression")[0], circuit)
    expect(own.among_first(1)).near(card[f"{circuit} own token first"])


@each_circuit
def test_as_many_tokens_as_published_are_among_the_first_ten_in_their_own_row(copy_suppression, card, expect, circuit):
    """In the {circuit} circuit of the copy suppression head, the published share of tokens is among the ten first."""
    own = copy_suppression.own_token(card.heads("copy suppression")[0], circuit)
    expect(own.among_first(10)).near(card[f"{circuit} own token among ten"])


@each_circuit
def test_the_median_rank_of_the_own_token_is_as_published(copy_suppression, card, expect, circuit):
    """In the {circuit} circuit of the copy suppression head, the median rank of a token in its own row is the published one."""
    own = copy_suppression.own_token(card.heads("copy suppression")[0], circuit)
    expect(own.median_rank()).near(card[f"{circuit} own token median rank"])


@each_circuit
def test_the_mean_rank_of_the_own_token_is_as_published(copy_suppression, card, expect, circuit):
    """In the {circuit} circuit of the copy suppression head, the mean rank of a token in its own row is the published one."""
    own = copy_suppression.own_token(card.heads("copy suppression")[0], circuit)
    expect(own.mean_rank()).near(card[f"{circuit} own token mean rank"])


@pytest.mark.parametrize("share", [0.05, 0.1], ids=["twentieth", "tenth"])
@each_circuit
def test_as_few_tokens_as_published_are_far_down_in_their_own_row(copy_suppression, card, expect, circuit, share):
    """In the {circuit} circuit of the copy suppression head, as few tokens as published are beyond {share} of the row."""
    own = copy_suppression.own_token(card.heads("copy suppression")[0], circuit)
    expected = card[f"{circuit} own token beyond {'twentieth' if share == 0.05 else 'tenth'}"]
    expect(own.beyond(share)).near(at_most(expected, FEW, "few tokens"))


@pytest.mark.each_head("copy suppression")
@each_circuit
def test_most_tokens_find_and_suppress_themselves_and_no_other(copy_suppression, expect, head, circuit):
    """In the {circuit} circuit of {head}, most tokens are among the ten first in their own row, where other tokens are not."""
    lead = copy_suppression.own_token(head, circuit).lead_over_another_token(10)
    expect(lead, SOURCE, because="most: over half").above(0.5)


@pytest.mark.each_head("copy suppression")
def test_an_average_head_does_not_suppress_what_it_attends_to(copy_suppression, expect, head):
    """{head} has the own token among the ten most suppressed on over half as many more tokens than the median head has."""
    lead = lead_over_the_median(head)
    sweep = copy_suppression.suppression_sweep()
    expect(sweep.of(lead, f"{head} less the median head", "share of tokens"), SOURCE, because="most: over half").above(0.5)
