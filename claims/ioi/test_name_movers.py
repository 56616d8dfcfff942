"""Name movers: late heads that attend from END to the indirect object and write it into the answer."""

import pytest

from circuit_claims.cards.floors import GOOD_PART, at_least, few
from circuit_claims.measure.grid_statistics import earliest_layer_of_the_brightest, mean_over_heads, near_zero_share

pytestmark = pytest.mark.section("3.1")

S1 = "curriculum on activation patching (S1)"


def test_name_movers_carry_the_answer(ioi, card, expect):
    """Patching the name movers at END, clean into corrupted, restores a good part of the logit difference."""
    recovery = ioi.patch(card.heads("name mover"), at="END").recovery()
    expect(recovery).above(at_least(card["name_mover_joint_recovery"], GOOD_PART, "a good part"))


@pytest.mark.each_head("name mover")
def test_each_name_mover_recovers_by_itself(ioi, expect, head):
    """Patching {head} alone at END, clean into corrupted, restores more than a twentieth of the logit difference."""
    recovery = ioi.patch([head], at="END").recovery()
    expect(recovery, f"{S1}: name movers light up, each", because="the twentieth that counts as next to nothing").above(0.05)


@pytest.mark.each_head("name mover")
def test_each_name_mover_attends_most_to_IO(ioi, expect, head):
    """From the last position, {head} attends more to IO than to any other token of the sentence."""
    expect(ioi.attention_preference(head, to="IO"), f"{S1}: each one's largest attention falls on IO").above(0)


def test_name_movers_attend_to_IO_as_published(ioi, card, expect):
    """From the last position, the name movers attend to IO with the published probability, on average over them."""
    attention = ioi.mean_attention(card.heads("name mover"), to="IO")
    expect(attention).near(card["name_mover_attention"])


def test_name_movers_are_among_the_brightest_heads(ioi, card, expect):
    """Of all heads patched one by one at END, the name movers are among the few that light up."""
    heads, bright = card.heads("name mover"), card["bright_heads"]
    lit = few(bright.value, of=card.n_layers * card.n_heads)
    expect(ioi.head_sweep(at="END"), bright.source).top(lit).contains(heads)


def test_most_heads_recover_next_to_nothing(ioi, expect):
    """Of all heads patched one by one at END, most change the logit difference by less than a twentieth."""
    share = ioi.head_sweep(at="END").of(near_zero_share(0.05), "share of heads with a recovery below 0.05 in size", "share")
    expect(share, f"{S1}: most cells near zero", because="most: over half").above(0.5)


def test_the_brightest_heads_sit_late(ioi, card, expect):
    """The three heads with the largest recovery at END sit in the later half of the layers."""
    earliest = ioi.head_sweep(at="END").of(
        earliest_layer_of_the_brightest(3), "earliest layer among the three brightest", "layer"
    )
    expect(earliest, f"{S1}: cells in middle-to-late layers light up").above(card.n_layers / 2 - 1)


def test_the_heads_that_attend_to_IO_sit_in_the_published_layers(ioi, card, expect):
    """The three heads that attend most to IO from the last position sit no earlier than name movers were published to."""
    earliest = ioi.attention_sweep(to="IO").of(earliest_layer_of_the_brightest(3), "earliest layer among the three", "layer")
    expect(earliest).above(card["earliest_name_mover_layer"])


def test_the_direct_paths_that_carry_most_start_at_the_name_movers(ioi, card, expect):
    """Of all heads, path patching (ABC) from a name mover to the logits loses the most logit difference."""
    heads = card.heads("name mover")
    source = "Wang et al. 2022, section 3.1 and figure 3b: the biggest drops"
    expect(ioi.path_sweep(), source, because="as many as there are name movers").top(len(heads)).contains(heads)


@pytest.mark.each_head("name mover")
def test_attention_to_a_name_goes_with_writing_it(ioi, card, expect, head):
    """The more {head} attends to a name, the more it writes along that name's unembedding."""
    expect(ioi.attention_projection_correlation(head)).above(card["name_mover_correlation"])


@pytest.mark.each_head("name mover")
def test_each_name_mover_copies_and_an_average_head_does_not(ioi, card, expect, head):
    """Whatever name {head} attends to, its weights put it among the five likeliest; for an average head that is rare."""
    expect(ioi.copy_score(head)).rate_at_least(card["name_mover_copy_score"])
    average = ioi.copy_score_sweep().of(mean_over_heads, "copy score of an average head", "share")
    expect(average).below(card["average_copy_score"])
