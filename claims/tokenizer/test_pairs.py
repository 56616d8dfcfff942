"""Clean and corrupted prompts: one token for another and nothing moved, which patching position by position rests on."""

import pytest

from circuit_claims.prompts.ioi import CORRUPTIONS

PAIRS = "Wang et al. 2022, section 2 and appendix E: p_IOI and its corruptions keep the template and change the names"


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_keeps_the_length(tokens, expect, corruption):
    """With the corruption {corruption}, every prompt has as many tokens as without."""
    expect(tokens.equal_lengths(corruption), PAIRS).rate_at_least(1.0)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_moves_no_role(tokens, expect, corruption):
    """With the corruption {corruption}, IO, S1 and S2 stand at the positions where they stood without."""
    expect(tokens.equal_roles(corruption), PAIRS).rate_at_least(1.0)


def test_prompts_of_a_frame_are_laid_out_alike(tokens, expect):
    """Whatever fills them, all prompts of one template and order have one length, and their names the same positions."""
    expect(tokens.aligned(), PAIRS).rate_at_least(1.0)


def test_a_template_is_as_long_in_either_order(tokens, expect):
    """ABBA or BABA, a template's prompts have the same length, and S2 stands at the same position."""
    expect(tokens.orders_aligned(), PAIRS).rate_at_least(1.0)
