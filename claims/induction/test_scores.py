"""Which heads attend, on random tokens that are said twice, to the token before, to the same token, to the one that came after.

Every set-up is its source's; the draw cannot be made again, so that ours is another. A published number is met where it lies
within three standard errors of a draw of the source's size, as our sequences differ, and half a unit of its last digit; a whole
table, where more than one in a hundred pairs of such draws are as far apart.
"""

import pytest

from circuit_claims.cards.floors import MOST, at_least
from circuit_claims.heads import Head

pytestmark = pytest.mark.section("1")

MAIN, EXPLORATORY = "Main_Demo", "Exploratory_Analysis_Demo"
PRINTED_TO = 1e-4
DRAW = "three standard errors of the source's draw, and half a unit of the last digit, unless the card says otherwise"


@pytest.mark.each_row("repeated token scores")
def test_a_head_has_its_published_score(induction, card, expect, row):
    """On random tokens said twice, the mean attention is the published one: {row}."""
    head, kind = row.split(" ", 1)
    story, published = induction.as_drawn_by(EXPLORATORY), card.table("repeated token scores")[row, "score"]
    score = story.score_of(Head.parse(head), "induction diagonal" if kind == "induction" else kind)
    within = story.tolerance(score, PRINTED_TO) if published.low is None else published.value - published.low
    expect(score, published.source, because=DRAW).near(published, within=within)


def test_the_strong_induction_heads_have_the_highest_scores(induction, card, expect):
    """On random tokens said twice, the strong induction heads have the highest induction scores of all."""
    heads, table = card.heads("strong induction"), card.table("induction score")
    scores = induction.as_drawn_by(MAIN).beside("induction diagonal", table)
    expect(scores, card.family("strong induction").source).top(len(heads)).contains(heads)


@pytest.mark.each_head("strong induction")
def test_each_strong_induction_head_attends_to_what_came_after(induction, card, expect, head):
    """On random tokens said twice, {head} attends most of the time to the token that came after."""
    score = induction.as_drawn_by(MAIN).score_of(head, "induction diagonal")
    expect(score).above(at_least(card["strong induction score"], MOST, "most of the time"))


def test_after_the_strong_induction_heads_there_is_a_gap(induction, card, expect):
    """On random tokens said twice, no other head comes near the strong induction heads."""
    from circuit_claims.measure.grid_statistics import highest_besides

    story, strong, bound = induction.as_drawn_by(MAIN), card.heads("strong induction"), card["next induction score"]
    high_themselves = story.excess(strong, "induction diagonal", float(card["strong induction score"]))
    others = story.attention_scores("induction diagonal").presupposing(high_themselves)
    expect(others.of(highest_besides(strong), "highest induction score of any other head", "probability")).below(bound)


@pytest.mark.parametrize("by", ["largest difference", "correlation"])
def test_the_whole_table_is_one_that_the_source_might_have_drawn(induction, card, expect, by):
    """The published induction scores of all heads are as near ours as another draw of the source's size, by {by}."""
    table = card.table("induction score")
    chance = induction.as_drawn_by(MAIN).chance_of_distance("induction diagonal", table, by=by)
    expect(chance, table.source, because="one pair of draws in twenty is further apart").rate_at_least(0.05)
