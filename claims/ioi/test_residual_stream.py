"""Where the answer is: patching the residual stream by layer and position shows it leave S2 and arrive at END."""

from fixtures.measures.sweep import cell, handover_layer

TLM_20 = "TransformerLens activation patching demo, cell 22 (resid_pre)"


def test_the_answer_is_handed_over_from_S2_to_END_in_the_published_layer(ioi, card, expect):
    """With S2 corrupted, the first layer before which END restores more than S2 does is the published one."""
    sweep = ioi.residual_sweep(corruption="S2 to IO")
    expect(sweep.of(handover_layer("S2", "END"), "first layer at which END restores more than S2", "layer")).near(
        card["handover_layer"]
    )


def test_before_the_last_layer_END_has_everything(ioi, card, expect):
    """With S2 corrupted, the stream at END before the last layer restores the published, nearly whole, share."""
    sweep = ioi.residual_sweep(corruption="S2 to IO")
    expect(sweep.of(cell(-1, "END"), "recovery at END before the last layer", "share")).near(
        card["end_recovery_before_last_layer"]
    )


def test_half_way_the_answer_is_still_at_the_names(ioi, card, expect):
    """With the names exchanged, the stream at END restores less than half of the logit difference before the middle layer."""
    sweep = ioi.residual_sweep(corruption="name swap")
    middle = cell(card.n_layers // 2, "END")
    expect(sweep.of(middle, "recovery at END before the middle layer", "share"), TLM_20).below(0.5)
