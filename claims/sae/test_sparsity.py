"""How sparse the features are: active ones a token, dead ones, and ones that are nearly always active."""

import pytest

from circuit_claims.cards.floors import FEW, at_most

pytestmark = pytest.mark.section("1")


def test_as_many_features_are_active_as_published(sae_numbers, expect):
    """On held-out text, as many features are active a token (L0) as published."""
    expect(sae_numbers.l0()).near(sae_numbers.published("L0"))


@pytest.mark.parametrize("which", ["dead", "dense"])
def test_few_features_are_of_no_use(sae_numbers, expect, which):
    """On held-out text, no larger share of the features than published is {which}."""
    expect(sae_numbers.of(which)).below(at_most(sae_numbers.published(which), FEW, "few features"))
