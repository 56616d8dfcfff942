"""Faithfulness: how much of the task the circuit does by itself, and how much of that number is a choice of set-up."""

import pytest

from circuit_claims.prompts.templates import ORDERS, TEMPLATES
from circuit_claims.tasks.ioi.faithfulness_statistics import of_template, overall, smallest_lead_of_BABA

pytestmark = pytest.mark.section("4.1")

MILLER = "Miller et al. 2024 (MIL-03)"
BOS = {"without_BOS": False, "with_BOS": True}


def test_the_circuit_is_as_faithful_as_published(ioi, card, expect):
    """The circuit alone (mean ablation, nodes at their positions) keeps the published share of the logit difference."""
    expected = card["faithfulness"]
    expect(ioi.circuit(card.nodes()).faithfulness()).near(expected)


def test_the_gap_between_circuit_and_model_is_as_published(ioi, card, expect):
    """The mean logit difference of the circuit alone is below the model's by the published logits."""
    expected = card["faithfulness_gap"]
    expect(ioi.circuit(card.nodes()).gap()).near(expected)


def test_the_naive_circuit_is_as_faithful_as_published(ioi, card, expect):
    """The naive circuit, without backups and negatives, comes as near to the model as published."""
    expected = card["naive_faithfulness_gap"]
    expect(ioi.circuit(card.nodes("naive"), called="the naive circuit").gap()).near(expected)


def test_the_circuit_does_more_than_as_many_random_nodes(ioi, card, expect):
    """The circuit keeps more of the logit difference than as many random heads kept at the same positions."""
    random = ioi.circuit(ioi.random_nodes_like(card.nodes()), called="as many random nodes")
    lead = ioi.circuit(card.nodes()).lead_over(random)
    expect(lead, "Wang et al. 2022, section 4.1", because="a circuit is more than its size").above(0)


def test_mean_ablation_is_kinder_than_resampling(ioi, card, expect):
    """The same circuit looks more faithful by mean ablation than by resample ablation."""
    mean, resampled = (ioi.circuit(card.nodes(), by=by) for by in ("mean", "resample"))
    expect(mean.lead_over(resampled), MILLER).above(0)


def test_the_choice_of_ablation_moves_faithfulness(ioi, card, expect):
    """Faithfulness by mean, zero and resample ablation of the same circuit differs by more than a tenth."""
    source = "Hanna et al. 2024 and its repository (EAP-04): the ablation alone moves faithfulness from 0 to 0.9"
    spread = ioi.ablation_spread(card.nodes())
    expect(spread, source, because="a tenth, where 0.9 is published").above(0.1)


def test_keeping_heads_at_all_positions_is_no_kinder(ioi, card, expect):
    """The circuit's heads kept at all positions do no better than kept at their own positions alone."""
    own, everywhere = (ioi.circuit(card.nodes(), everywhere=everywhere) for everywhere in (False, True))
    expect(own.lead_over(everywhere), MILLER).above(0)


def test_faithfulness_rises_with_the_reference_size(ioi, card, expect):
    """In one template, the circuit looks more faithful with means over 200 reference prompts than over 2."""
    many, few = (ioi.on(templates=[0]).circuit(card.nodes(), reference_size=size) for size in (200, 2))
    expect(many.lead_over(few), MILLER).above(0)


def test_mean_of_ratios_exceeds_ratio_of_means(ioi, card, expect):
    """Averaging each prompt's own ratio gives a higher faithfulness than the ratio of the averages."""
    expect(ioi.circuit(card.nodes()).ratio_bias(), MILLER).above(0)


@pytest.mark.parametrize("bos", BOS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("template", range(len(TEMPLATES)))
def test_faithfulness_of_one_template(ioi, card, expect, template, order, bos):
    """On template {template} in order {order}, {bos}, the circuit keeps the published share of the logit difference."""
    expected = card.table(f"faithfulness_{bos}")[str(template), order]
    table = ioi.faithfulness_table(card.nodes(), prepend_bos=BOS[bos])
    expect(table.of(of_template(template, order), f"faithfulness on template {template}, {order}", "share")).near(expected)


@pytest.mark.parametrize("bos", BOS)
def test_BABA_is_more_faithful_than_ABBA_in_every_template(ioi, card, expect, bos):
    """In every template, {bos}, the circuit is more faithful where S comes first (BABA) than where IO does (ABBA)."""
    table = ioi.faithfulness_table(card.nodes(), prepend_bos=BOS[bos])
    source = "Miller et al. 2024 (MIL-01): 30 of 30 by AutoCircuit's table"
    expect(table.of(smallest_lead_of_BABA, "smallest lead of BABA over templates", "share"), source).above(0)


@pytest.mark.parametrize("bos", BOS)
def test_overall_faithfulness(ioi, card, expect, bos):
    """Averaged over templates and orders, {bos}, the circuit keeps the published share of the logit difference."""
    expected = card["overall_faithfulness" + ("_with_BOS" if BOS[bos] else "")]
    table = ioi.faithfulness_table(card.nodes(), prepend_bos=BOS[bos])
    expect(table.of(overall, "faithfulness over templates and orders", "share")).near(expected)
