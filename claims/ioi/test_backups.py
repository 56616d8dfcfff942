"""Backup name movers: knock the name movers out, and others take over."""

import pytest

from circuit_claims.measure.grid_statistics import size_at_head

pytestmark = pytest.mark.section("3.4")

APPENDIX_B = "Wang et al. 2022, section 3.3 and appendix B"


def test_without_its_name_movers_the_model_loses_little(ioi, card, expect):
    """Knocking out the name movers at END (mean ablation) costs as little of the logit difference as published."""
    expected = card["name_mover_knockout_share_left"]
    expect(ioi.ablate(card.heads("name mover"), at="END").remaining()).near(expected)


@pytest.mark.each_head("backup name mover")
def test_each_backup_has_a_direct_effect_once_the_name_movers_are_gone(ioi, card, expect, head):
    """With the name movers knocked out, path patching {head} to the logits changes the logit difference by more than 2 %."""
    expected = card["backup_effect"]
    sweep = ioi.path_sweep_without(card.heads("name mover"))
    expect(sweep.of(size_at_head(head), f"size of the direct effect of {head} without the name movers", "share")).above(
        expected
    )


def test_backups_do_more_once_the_name_movers_are_gone(ioi, card, expect):
    """The backups' joint direct effect on the logits is larger with the name movers knocked out than without."""
    heads = card.heads("backup name mover")
    taken_over = ioi.taken_over(heads, from_heads=card.heads("name mover"))
    expect(taken_over, APPENDIX_B).above(0)


def test_name_movers_and_backups_together_cost_more_than_apart(ioi, card, expect):
    """Knocking out name movers and backups together (mean ablation, END) costs more than the sum of the two alone."""
    movers, backups = card.heads("name mover"), card.heads("backup name mover")
    together, apart = ioi.ablate([*movers, *backups], at="END"), (ioi.ablate(movers, at="END"), ioi.ablate(backups, at="END"))
    expect(together.excess_over(apart), card["self_repair"].source).above(0)


def test_backups_like_name_movers_look_at_IO(ioi, card, expect):
    """The backups that are like name movers attend from END to IO more than to the first mention of S."""
    heads = card.heads("backup like a name mover")
    source = card.family("backup like a name mover").source
    expect(ioi.attention_difference(heads, to="IO", over="S1"), source, because="more: by a tenth at least").above(0.1)


def test_some_backups_look_at_both_names_alike(ioi, card, expect):
    """The backups of both names attend from END to IO and to S1 with a tenth at least, and less than a tenth apart."""
    heads = card.heads("backup of both names")
    source = card.family("backup of both names").source
    expect(ioi.mean_attention(heads, to="IO"), source, because="a tenth").above(0.1)
    expect(ioi.attention_difference(heads, to="IO", over="S1"), source, because="a tenth").between(-0.1, 0.1)


@pytest.mark.each_head("backup of S1")
def test_one_backup_looks_at_S1_and_writes_S(ioi, card, expect, head):
    """{head} attends from END to the first mention of S more than to IO, and writes S more than IO."""
    source = card.family("backup of S1").source
    expect(ioi.attention_difference([head], to="S1", over="IO"), source, because="more: by a tenth at least").above(0.1)
    expect(ioi.writing_along_names(head), source).below(0)


@pytest.mark.each_head("backup of S2")
def test_one_backup_looks_at_S2_and_writes_against_S(ioi, card, expect, head):
    """{head} attends from END to S2 more than to IO, and writes against S."""
    source = card.family("backup of S2").source
    expect(ioi.attention_difference([head], to="S2", over="IO"), source, because="more: by a tenth at least").above(0.1)
    expect(ioi.writing_along_names(head), source).above(0)
