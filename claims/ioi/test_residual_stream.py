"""Where the answer is: patching the residual stream by layer and position shows it leave S2 and arrive at END."""

import pytest

from circuit_claims.cards.floors import NEARLY_WHOLE, at_least
from circuit_claims.measure.grid_statistics import cell, handover_layer

pytestmark = pytest.mark.section("3.0")

TLM_20 = "TransformerLens activation patching demo, cell 22 (resid_pre)"


def test_the_answer_is_handed_over_from_S2_to_END_in_the_published_layer(ioi, card, expect):
    """With S2 corrupted, the first layer before which END restores more than S2 does is the published one."""
    sweep = ioi.residual_sweep(corruption="S2 to IO")
    expect(sweep.of(handover_layer("S2", "END"), "first layer at which END restores more than S2", "layer")).near(
        card["handover_layer"]
    )


def test_before_the_last_layer_END_has_everything(ioi, card, expect):
    """With S2 corrupted, the stream at END before the last layer restores nearly the whole share."""
    sweep = ioi.residual_sweep(corruption="S2 to IO")
    expected = at_least(card.get("end_recovery_before_last_layer"), NEARLY_WHOLE, "nearly whole")
    recovery = expect(sweep.of(cell(-1, "END"), "recovery at END before the last layer", "share"))
    if expected.high is None:  # without a card, the word says how much at least
        recovery.above(expected)
    else:
        recovery.near(expected)


def test_END_knows_nothing_before_the_first_S_inhibition_layer(ioi, card, expect):
    """With S2 corrupted, the stream at END restores less than a tenth before the first layer with S-inhibition heads."""
    first = min(head.layer for head in card.heads("S-inhibition"))
    recovery = ioi.residual_sweep(corruption="S2 to IO").of(
        cell(first, "END"), f"recovery at END before layer {first}", "share"
    )
    expect(recovery, TLM_20, because="a tenth").below(0.1)


def test_END_has_most_of_the_answer_after_the_last_S_inhibition_layer(ioi, card, expect):
    """With S2 corrupted, the stream at END restores more than half after the last layer with S-inhibition heads."""
    after = max(head.layer for head in card.heads("S-inhibition")) + 1
    recovery = ioi.residual_sweep(corruption="S2 to IO").of(
        cell(after, "END"), f"recovery at END before layer {after}", "share"
    )
    expect(recovery, TLM_20, because="0.94 published for layer 9; most: over half").above(0.5)
