"""MLPs: the first one is part of the embedding, and the later ones matter less than the circuit."""

import pytest

from circuit_claims.cards.floors import at_most

pytestmark = pytest.mark.section("3.6")


def test_without_the_first_MLP_the_answer_turns_round(ioi, card, expect):
    """Knocking out MLP 0 (mean ablation, all positions) makes the mean logit difference negative."""
    bound = at_most(card.get("mlp0_knockout_logit_difference"), 0, "negative")
    expect(ioi.ablate_mlps([0]).value()).below(bound)


def test_logit_difference_without_the_later_MLPs(ioi, card, expect):
    """With all MLPs but the first knocked out (mean ablation), the mean logit difference is the published one."""
    expected = card["later_mlps_knockout_logit_difference"]
    expect(ioi.ablate_mlps(range(1, card.n_layers)).value()).near(expected)
