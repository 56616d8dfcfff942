"""Greater-than: "The war lasted from the year 1732 to the year 17" goes on with a later year (Hanna et al. 2023)."""

import pytest

from circuit_claims.measure.grid_statistics import smallest_lead
from circuit_claims.tasks.greater_than.statistics import smallest_step
from circuit_claims.untested import Untested

pytestmark = pytest.mark.section("5.1")

HANNA = "Hanna et al. 2023"


def late_mlps(card):
    """The layers whose MLPs compute the comparison: from the first published one to the last."""
    return list(range(int(card["greater_than_first_mlp"].value), card.n_layers))


def test_the_model_prefers_later_years(greater_than, expect):
    """On nearly every prompt, years after the start year are likelier than all other years together."""
    source = f"{HANNA}, section 2 and figure 2"
    because = "nine in ten, where a preference that does not depend on the start year has about one half"
    expect(greater_than.prefers_later(), source, because=because).rate_at_least(0.9)


def test_probability_difference_is_as_published(greater_than, card, expect):
    """Years after the start year are likelier than the others by the published probability."""
    expect(greater_than.probability_difference()).near(card["greater_than_probability_difference"])


def test_cutoff_sharpness_is_as_published(greater_than, card, expect):
    """The year after the start year is likelier than the one before it by the published probability."""
    expect(greater_than.cutoff_sharpness()).near(card["greater_than_cutoff_sharpness"])


def test_the_later_the_start_the_later_the_prediction(greater_than, expect):
    """The mean predicted year is later in every decade of start years than in the decade before."""
    step = greater_than.mean_year_by_decade().of(smallest_step, "smallest rise from decade to decade", "years")
    expect(step, f"{HANNA}, figure 2").above(0)


def test_shown_01_the_preference_is_lost(greater_than, expect):
    """With 01 in place of the start year, most of the probability difference is gone."""
    source = f"{HANNA}, section 3: the 01-dataset has the circuit write what is wrong"
    expect(greater_than.preference_lost(), source, because="most: over half").above(0.5)


def test_the_largest_direct_effects_of_MLPs_are_those_of_the_last_ones(greater_than, card, expect):
    """Of all MLPs at the last position, the published last ones have the largest direct effects on the answer."""
    layers = late_mlps(card)
    if len(layers) == card.n_layers:
        raise Untested("on this card all MLPs are late ones: there is no other that could have a larger effect")
    first = card["greater_than_first_mlp"]
    last_ones = expect(greater_than.direct_sweep_of_mlps(), first.source).top(first.bound(len(layers)))
    last_ones.contains([(layer, 0) for layer in layers])


def test_the_heads_that_carry_most_at_END_are_the_published_ones(greater_than, card, expect):
    """Of all heads, those with the largest effects at END, straight or through the last MLPs, are the authors'."""
    family = card.family("greater than END")
    sweep = greater_than.head_sweep_through(late_mlps(card))
    expect(sweep, family.source, because="as many as the card names").top(len(family.heads)).contains(family.heads)


def test_the_heads_that_carry_most_at_END_are_those_of_the_ACDC_list(greater_than, card, expect):
    """Of all heads, those with the largest effects at END, straight or through the last MLPs, are those of ACDC's list."""
    family = card.family("greater than END by ACDC")
    sweep = greater_than.head_sweep_through(late_mlps(card))
    expect(sweep, family.source, because="as many as are listed").top(len(family.heads)).contains(family.heads)


def test_the_heads_that_only_the_authors_list_carry_more_than_those_that_only_ACDC_lists(greater_than, card, expect):
    """Each head that is on the authors' list alone has a larger effect at END than each that is on ACDC's alone."""
    authors, other = card.family("greater than END"), card.family("greater than END by ACDC")
    lead = smallest_lead(set(authors.heads) - set(other.heads), set(other.heads) - set(authors.heads))
    sweep = greater_than.head_sweep_through(late_mlps(card)).of(lead, "smallest lead of the authors' heads", "probability")
    expect(sweep, f"{authors.source}, against {other.source}").above(0)


def test_the_heads_at_YY_that_reach_the_values_at_END_are_the_published_ones(greater_than, card, expect):
    """Of all heads at YY, path patching into the END heads' values costs most from the published ones."""
    family = card.family("greater than YY")
    sweep = greater_than.value_sweep(card.heads("greater than END"))
    expect(sweep, family.source, because="as many as the card names").top(len(family.heads)).contains(family.heads)


def test_the_circuit_keeps_the_published_share(greater_than, card, expect):
    """The END heads and the last MLPs, with all else from the 01 prompt, keep the published share of the preference."""
    circuit = greater_than.end_circuit(card.heads("greater than END"), late_mlps(card))
    expect(circuit.remaining()).near(card["greater_than_circuit_share"])


def test_corrupting_the_circuit_alone_leaves_what_is_published(greater_than, card, expect):
    """With the circuit alone from the 01 prompt, and all else clean, the probability difference is the published one."""
    circuit = greater_than.end_circuit(card.heads("greater than END"), late_mlps(card))
    expect(circuit.corrupted()).near(card["greater_than_circuit_corrupted"])


def test_the_circuit_has_a_sharper_cutoff_than_the_model(greater_than, card, expect):
    """The circuit alone tells the year after the start year from the one before it better than the whole model does."""
    circuit = greater_than.end_circuit(card.heads("greater than END"), late_mlps(card))
    expect(circuit.cutoff_sharpness_gained(), card["greater_than_circuit_share"].source).above(0)


def test_the_circuit_does_the_same_where_the_span_is_worded_otherwise(greater_than, card, expect):
    """On 'The war started in the year 1732 and ended in the year 17', the circuit keeps the published share."""
    expected = card["greater_than_circuit_share_started"]
    other = greater_than.worded("started", century=17)
    expect(other.end_circuit(card.heads("greater than END"), late_mlps(card)).remaining()).near(expected)


@pytest.mark.each_row("greater_than_direct_effects")
def test_what_an_MLP_carries_directly_is_as_published(greater_than, card, expect, row):
    """MLP {row} at the last position carries the published share of the preference straight to the logits."""
    expect(greater_than.mlp_effect(int(row), direct=True)).near(card.table("greater_than_direct_effects")[row, "share"])


@pytest.mark.each_row("greater_than_indirect_effects")
def test_what_an_MLP_carries_through_later_MLPs_is_as_published(greater_than, card, expect, row):
    """MLP {row} at the last position carries the published share of the preference through the MLPs after it."""
    expect(greater_than.mlp_effect(int(row), direct=False)).near(card.table("greater_than_indirect_effects")[row, "share"])
