"""Activation patching on TransformerLens's demo prompts, where digits are published: what each activation alone restores."""

import pytest

from circuit_claims.measure.agreement import published_correlation, published_difference
from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED, MAIN_DEMO, MAIN_DEMO_CORRUPTED

pytestmark = pytest.mark.section("2.2.1")

#: What both demos corrupt: the second mention of the subject.
CORRUPTION = "S2 to IO"


def demo(ioi):
    """The eight prompts of the demos, each with its corrupted one."""
    return ioi.published(DEMO, corrupted={CORRUPTION: DEMO_CORRUPTED}, prepend_bos=True)


def main_demo(ioi):
    """The one prompt of the main demo with its corrupted one."""
    return ioi.published([MAIN_DEMO], corrupted={CORRUPTION: [MAIN_DEMO_CORRUPTED]}, prepend_bos=True)


@pytest.mark.parametrize("part", ["output", "q", "k", "v", "pattern"])
def test_patching_a_part_of_each_head_restores_what_was_published(ioi, card, expect, part):
    """Patching one head's {part} at all positions of the eight demo prompts restores what was published, head by head."""
    published = card.table(f"patched {part}")
    sweep = demo(ioi).head_sweep(part=part, at=None, corruption=CORRUPTION)
    expect(published_difference(sweep, published), published.source).below(published.tolerance())


def test_patching_heads_draws_the_published_picture(ioi, card, expect):
    """Over all heads, what patching their outputs restores goes with the published table (correlation)."""
    published = card.table("patched output")
    sweep = demo(ioi).head_sweep(at=None, corruption=CORRUPTION)
    because = "the same picture: room for another copy of the model, or one in lower precision, and for no other model"
    expect(published_correlation(sweep, published), published.source, because=because).above(published.bound(0.99))


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out"])
def test_patching_a_layer_at_a_position_restores_what_was_published(ioi, card, expect, site):
    """Patching {site} of one layer at one position of the eight demo prompts restores what was published, cell by cell."""
    published = card.table(f"patched {site}")
    sweep = demo(ioi).residual_sweep(site=site, corruption=CORRUPTION)
    expect(published_difference(sweep, published), published.source).below(published.tolerance())


def test_logit_difference_of_the_main_demos_prompt(ioi, card, expect):
    """On the clean prompt of the main demo, the logit difference is 4.276."""
    expected = card["main demo logit difference"]
    expect(main_demo(ioi).logit_difference()).near(expected)


def test_logit_difference_of_the_main_demos_corrupted_prompt(ioi, card, expect):
    """On the corrupted prompt of the main demo, the logit difference is −2.738."""
    expected = card["main demo corrupted logit difference"]
    expect(main_demo(ioi).changed(CORRUPTION).logit_difference()).near(expected)


def test_patching_the_main_demos_residual_stream_restores_what_was_published(ioi, card, expect):
    """Patching the main demo's residual stream before one layer, at S2 or END, restores what was published."""
    published = card.table("main demo resid_pre")
    sweep = main_demo(ioi).residual_sweep(corruption=CORRUPTION)
    expect(published_difference(sweep, published), published.source).below(published.tolerance())
