"""Where a fact is: corrupt its subject, put one state back, and see how much of the answer returns.

What the paper measures is GPT-2 XL and GPT-J, and of GPT-2 small we know no published figure: tested is where, not how much.
"""

import pytest

from circuit_claims.prompts.facts import RELATIONS
from circuit_claims.tasks.operations.tracing_statistics import (
    agreement,
    early_site,
    handover,
    last_over_first,
    late_site,
    mlps_over_attention,
    peak_of_the_mlps,
)

pytestmark = pytest.mark.section("3")

ROME = "Meng et al. 2022, section 2.2 (GPT-2 XL and GPT-J)"
S2 = "logit lens and causal tracing behind one adapter (S2): Qwen3-0.6B, France to Paris"
CORRUPTIONS = ["interchange", "noise"]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_early_on_the_fact_is_on_the_subjects_last_token(facts, expect, corruption):
    """Under {corruption}, the stream at the subject's last token restores more than at END, in the first half of the layers."""
    site = facts.trace(corruption=corruption).of(early_site, "subject's last token above END, first half of layers", "share")
    expect(site, ROME).above(0)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_late_on_the_fact_is_on_the_last_token(facts, expect, corruption):
    """Under {corruption}, the stream at END restores more than at the subject's last token, late, before the last layer."""
    site = facts.trace(corruption=corruption).of(late_site, "END above the subject's last token, late", "share")
    expect(site, ROME).above(0)


def test_the_last_of_several_subject_tokens_matters_more_than_the_first(facts, expect):
    """With noise on subjects of several tokens, the last one restores more than the first, in the first half of the layers."""
    sweep = facts.on(several=True).trace(corruption="noise")
    expect(sweep.of(last_over_first, "last above first subject token, first half of layers", "share"), ROME).above(0)


@pytest.mark.parametrize("relation", RELATIONS)
def test_facts_of_a_relation_are_on_the_subject_first(facts, expect, relation):
    """On facts of the relation {relation}, the subject's last token restores more than END, in the first half (interchange)."""
    sweep = facts.on(relations=[relation]).trace()
    site = sweep.of(early_site, "subject's last token above END, first half of layers", "share")
    expect(site, S2 if relation == "capital" else ROME).above(0)


@pytest.mark.parametrize("relation", RELATIONS)
def test_facts_of_a_relation_are_on_the_last_token_then(facts, expect, relation):
    """On facts of the relation {relation}, END restores more than the subject late, before the last layer (interchange)."""
    sweep = facts.on(relations=[relation]).trace()
    site = sweep.of(late_site, "END above the subject's last token, late", "share")
    expect(site, S2 if relation == "capital" else ROME).above(0)


def test_a_capital_is_handed_over_in_the_expected_layer(facts, card, expect):
    """On capitals, the first layer after which END restores more than the country (interchange) is the expected one."""
    sweep = facts.on(relations=["capital"]).trace()
    expect(sweep.of(handover, "first layer after which END restores more", "layer")).near(card["capital handover layer"])


def test_on_the_subject_MLPs_matter_more_than_attention(facts, expect):
    """With noise, MLP outputs at the subject's last token restore more than attention outputs there, over all layers."""
    sweep = facts.trace_parts(corruption="noise")
    expect(sweep.of(mlps_over_attention("last subject token"), "MLPs above attention, subject", "share"), ROME).above(0)


def test_on_the_last_token_attention_matters_more_than_MLPs(facts, expect):
    """With noise, attention outputs at END restore more than MLP outputs there, over all layers."""
    sweep = facts.trace_parts(corruption="noise")
    expect(sweep.of(mlps_over_attention("last token"), "MLPs above attention, END", "share"), ROME).below(0)


def test_the_MLPs_that_matter_most_on_the_subject_are_middle_ones(facts, expect):
    """With noise, the MLPs that restore most at the subject's last token are those of the middle layers."""
    sweep = facts.trace_parts(corruption="noise")
    peak = sweep.of(peak_of_the_mlps, "depth of the MLPs that restore most at the subject", "share of the depth")
    expect(peak, ROME, because="middle: the middle half of the layers").between(1 / 4, 3 / 4)


def test_interchange_and_noise_agree_on_where(facts, expect):
    """Over layers and tokens, what restoring the stream restores under interchange goes with what it does under noise."""
    source = "logit lens and causal tracing behind one adapter (S2): noise is an option; Zhang and Nanda 2023 saw them differ"
    both = facts.trace_both().of(agreement, "correlation of the effects under interchange and noise", "correlation")
    expect(both, source, because="more than half of the variance in common").above(0.71)
