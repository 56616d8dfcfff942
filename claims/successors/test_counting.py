"""Sentences that count, and which circuit the model needs for them; circuits of other tasks are controls."""

import pytest

pytestmark = pytest.mark.section("3")

ORDER = (
    "Lan et al. 2024, numerals_iterNodePruning; our own fillers and prompts, so that the order is asked for, and no percentage"
)


def circuit(counting, card, name):
    """One of the circuits of sequences, with its MLPs."""
    mlps = card.table("sequence circuit mlps")
    kept = [int(layer) for layer in mlps.columns if mlps[name, layer].value]
    heads = {head for head, _ in card.nodes()} if name == "IOI circuit" else card.heads(name)
    return counting.circuit([(head, None) for head in heads], mlps=kept, called=f"the {name}")


@pytest.mark.parametrize("name", ["numerals circuit", "number words circuit"])
def test_a_circuit_of_numbers_counts_by_itself(counting, card, expect, name):
    """Kept alone, the {name} has most of the logit difference between the next numeral and the last one."""
    left = circuit(counting, card, name).faithfulness()
    expect(left, ORDER, because="81 and 87 % published: over half").above(0.5)


@pytest.mark.parametrize("name", ["months circuit", "IOI circuit"], ids=["months", "names"])
def test_the_circuit_of_numerals_counts_better_than_those_of_other_tasks(counting, card, expect, name):
    """On numerals, the numerals circuit kept alone has more of the logit difference than the {name} has."""
    lead = circuit(counting, card, "numerals circuit").lead_over(circuit(counting, card, name))
    expect(lead, ORDER, because="a tenth of the whole at least; 37 and 88 % published").above(0.1)


def test_the_circuit_of_months_counts_better_than_that_of_names(counting, card, expect):
    """On numerals, the months circuit kept alone has more of the logit difference than the IOI circuit has."""
    lead = circuit(counting, card, "months circuit").lead_over(circuit(counting, card, "IOI circuit"))
    expect(lead, ORDER, because="a tenth of the whole at least; 50 % published").above(0.1)


def test_the_circuit_of_names_cannot_count(counting, card, expect):
    """On numerals, the IOI circuit with all MLPs, kept alone, has next to nothing of the logit difference."""
    left = circuit(counting, card, "IOI circuit").faithfulness()
    expect(left, ORDER, because="−7 % published: next to nothing, a tenth at most").below(0.1)


@pytest.mark.each_head("needed for numerals")
def test_the_circuit_of_numerals_needs_each_of_these_heads(counting, card, expect, head):
    """On numerals, the numerals circuit without {head} has less of the logit difference than with it."""
    whole = circuit(counting, card, "numerals circuit")
    expect(whole.lead_over(whole.without(head)), ORDER, because="a tenth of the whole; 28 to 44 % published").above(0.1)
