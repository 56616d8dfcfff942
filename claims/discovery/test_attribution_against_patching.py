"""How well scores by gradients stand for exact patching of edges, by what the edges lead into."""

import pytest

from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED

pytestmark = pytest.mark.section("2.3")

INTO = {"queries": "q", "keys": "k", "values": "v", "MLPs": "MLP", "the logits": "logits"}
PUBLISHED = "TransformerLens attribution patching demo (TLM-29), of heads: correlations from .82 (keys) to .995 (values)"
METHODS = ["EAP", "EAP-IG inputs"]


@pytest.mark.parametrize("into", INTO)
@pytest.mark.parametrize("method", METHODS)
def test_scores_go_with_exact_patching(discovery, expect, method, into):
    """Of edges into {into}, scores by {method} correlate with what patching each edge by itself costs, above 0.8."""
    because = "0.8, what the least of heads' inputs is published to have"
    expect(discovery.agreement(method, INTO[into]), PUBLISHED, because=because).above(0.8)


def test_EAP_IG_goes_with_patching_better_than_EAP(discovery, expect):
    """Over edges of all kinds, EAP-IG (inputs) correlates more with exact patching than EAP does."""
    source = "Hanna et al. 2024: the gradient at the clean prompt alone misses what saturates"
    expect(discovery.agreement_lead("EAP-IG inputs", "EAP"), source).above(0)


@pytest.mark.parametrize("of", ["resid_pre", "attn_out", "mlp_out"])
def test_attribution_to_a_block_goes_with_patching_as_far_as_either_source_says(ioi, published, expect, of):
    """On the eight demo prompts, attribution patching of {of} by layer and position correlates with patching as published."""
    expected = published[f"attribution agreement of {of}"]
    demo = ioi.published(DEMO, corrupted={"S2 to IO": DEMO_CORRUPTED}, prepend_bos=True)
    expect(demo.attribution_correlation(of)).near(expected)
