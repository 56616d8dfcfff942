"""OV copying scores: how far a head writes what it reads, by the eigenvalues of its weights, and what that does not tell."""

import pytest

pytestmark = pytest.mark.section("1")


def test_every_copying_score_is_as_published(weights, expect):
    """The OV copying score of every head is the published one, as far as half precision allows."""
    published = weights.table("ov copying score")
    expect(weights.copying_difference(published), published.source).below(published.tolerance())


@pytest.mark.parametrize("end", ["highest", "lowest"])
def test_the_extreme_copying_scores_are_those_of_the_published_heads(weights, expect, end):
    """The heads with the five {end} OV copying scores are the published ones."""
    published = weights.table("ov copying score")
    claim = expect(weights.copying_sweep(), published.source)
    five = published.bound(5)
    (claim.bottom(five) if end == "lowest" else claim.top(five)).contains(weights.published_extremes(published, 5)[end])


def test_the_heads_that_copy_most_are_not_the_name_movers(weights, expect):
    """Among the first by copying score is a negative name mover, and no name mover: the score does not find these roles."""
    few = weights.value("negative name mover copying rank")
    movers, negative = weights.card.heads("name mover"), weights.card.heads("negative name mover")
    expect(weights.best_copying_rank(negative, "the negative name movers"), few.source).between(1, few)
    expect(weights.best_copying_rank(movers, "the name movers"), few.source).above(few.bound(few.value))
