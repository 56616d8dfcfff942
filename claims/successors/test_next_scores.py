"""Successor heads: a head that turns what it attends to into what comes after it, be it a numeral, a word or a day.

By the weights alone its OV circuit puts the next member among the five highest logits; a copy score is the same with the member
itself.
"""

import pytest

from circuit_claims.cards.floors import LITTLE, at_most
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import mean_over_heads

pytestmark = pytest.mark.section("3")


@pytest.mark.each_row("next score on numerals")
def test_hits_on_numerals_are_as_published(successors, card, expect, row):
    """By {row}'s weights, the numeral after the one attended to is as often among the five highest logits as published."""
    expect(successors.hits(Head.parse(row), "numerals")).near(card.table("next score on numerals")[row, "hits"])


@pytest.mark.each_row("next score on number words")
def test_hits_on_number_words_are_as_published(successors, card, expect, row):
    """By {row}'s weights, the number after the one attended to is as often among the five highest logits as published."""
    expect(successors.hits(Head.parse(row), "number words")).near(card.table("next score on number words")[row, "hits"])


@pytest.mark.each_row("next score on months to ordinals")
def test_hits_from_months_to_ordinals_are_as_published(successors, card, expect, row):
    """By {row}'s weights, a month makes the ordinal of the next one as likely as published: it counts what it was not shown."""
    published = card.table("next score on months to ordinals")[row, "hits"]
    expect(successors.hits(Head.parse(row), "months to ordinals")).near(published)


@pytest.mark.each_row("copy score on numerals")
def test_copies_of_numerals_are_as_published(successors, card, expect, row):
    """By {row}'s weights, the numeral attended to is itself as often among the five highest logits as published."""
    expect(successors.hits(Head.parse(row), "numerals", "copy")).near(card.table("copy score on numerals")[row, "hits"])


@pytest.mark.parametrize("task", ["numerals", "number words", "months to ordinals"])
def test_the_next_score_of_an_average_head_is_as_published(successors, card, expect, task):
    """By its weights, an average head has the published, small next score on {task}."""
    average = successors.scores(task).of(mean_over_heads, f"next score of an average head on {task}", "rate")
    expect(average).near(at_most(card[f"average next score on {task}"], LITTLE, "small"))


def test_the_copy_score_of_an_average_head_on_numerals_is_as_published(successors, card, expect):
    """By its weights, an average head has the published, small copy score on numerals."""
    average = successors.scores("numerals", "copy").of(mean_over_heads, "copy score of an average head on numerals", "rate")
    expect(average).near(at_most(card["average copy score on numerals"], LITTLE, "small"))


@pytest.mark.parametrize("task", ["numerals", "number words", "months to ordinals"])
def test_the_successor_head_has_the_highest_next_score(successors, card, expect, task):
    """By the weights, the successor head has a next score on {task}, and no head has a higher one."""
    head = card.heads("successor")[0]
    expect(successors.hits(head, task), "Lan et al. 2024: the highest", because="any at all").above(0)
    expect(successors.scores(task), "Lan et al. 2024, allTasks_nextScores.ipynb: the highest").top(1).contains([head])


def test_no_other_head_turns_months_into_ordinals(successors, card, expect):
    """Of all hits from months to ordinals, all heads together, the successor head has every one."""
    share = successors.share_of_all_hits(card.heads("successor")[0], "months to ordinals")
    expect(share).above(card["successor share of hits on months to ordinals"])


@pytest.mark.each_head("successor")
def test_the_successor_head_does_not_just_copy(successors, expect, head):
    """By its weights, {head} has the next numeral among the five highest logits more often than the numeral attended to."""
    lead = successors.lead_over_copying(head, "numerals")
    expect(lead, "Lan et al. 2024, allTasks_nextScores.ipynb: 87.4 % against 59.3 %").above(0)


def test_the_successor_head_writes_the_next_day_and_no_other_head_does(successors, card, expect):
    """At the end of "If today is Monday, tomorrow is", the successor head alone writes the next day most, after all seven."""
    head = card.heads("successor")[0]
    expect(successors.days_right(head)).near(card["days right"])
    others = card["days right of any other head"]
    expect(successors.most_days_right(but=[head])).below(others.bound(others.value + 0.5))
