"""Numbers that TransformerLens gives for single texts: losses, a knocked-out value, and the head detector's scores."""

import pytest

from circuit_claims.heads import Head
from circuit_claims.prompts.published_texts import ABSTRACT, DESCRIPTION, DETECTOR, GREETING

pytestmark = pytest.mark.section("6")


@pytest.mark.parametrize("name", ["description", "abstract", "greeting"])
def test_the_loss_on_a_text_is_as_published(published_text, card, expect, name):
    """The loss on the published text that is called {name} here is the published one."""
    text = {"description": DESCRIPTION, "abstract": ABSTRACT, "greeting": GREETING}[name]
    expect(published_text(text).loss()).near(card[f"{name} loss"])


def test_without_one_heads_values_the_loss_is_as_published(published_text, card, expect):
    """With the values of one head of the first layer at zero, the loss on the abstract text is the published one."""
    (head,) = card.heads("value ablated on abstract")
    expect(published_text(ABSTRACT).loss_without_value(head)).near(card["abstract loss without value"])


def test_the_head_detector_gives_every_head_its_published_score(published_text, card, expect):
    """What the head detector finds of previous-token attention in every head is what was published, to the third digit."""
    import numpy as np

    from circuit_claims.measure.grid_statistics import largest_difference

    table = card.table("detected previous token")
    detected = published_text(DETECTOR).detected("previous token", published=table)
    furthest = detected.of(largest_difference(np.array(table.values)), "largest difference from the published", table.unit)
    expect(furthest, table.source).below(table.tolerance())


@pytest.mark.each_row("detected previous token without BOS")
def test_without_bos_and_itself_a_head_has_its_published_score(published_text, card, expect, row):
    """With attention to BOS and to the token itself left out, the head detector gives {row} the published score."""
    from circuit_claims.measure.grid_statistics import at_head

    published = card.table("detected previous token without BOS")[row, "score"]
    detected = published_text(DETECTOR).detected("previous token", exclude_bos=True, exclude_current=True)
    expect(detected.of(at_head(Head.parse(row)), f"share of attention of {row}", published.unit)).near(published)
