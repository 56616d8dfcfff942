"""Which families of the literature a model has not, and the head that comes nearest to each."""

from dataclasses import replace

import numpy as np
import pytest

from circuit_claims.discovery.families import ATTENTION, LOOKS, HeadScores, propose
from circuit_claims.discovery.missing_families import NO_MOVERS, NO_TASK, OF_THE_LITERATURE, missing
from tests.discovery.test_discovery import A, B, scores


def told(made: HeadScores, *, task: bool = True) -> dict[str, str]:
    return missing(made, propose(made), shows_the_task=task)


def test_a_missing_family_is_told_with_the_head_that_comes_nearest_its_numbers_and_the_part_that_it_fails():
    movers = {"END_IO": {(2, 2): 0.6}, "direct": {(2, 2): 0.1}}
    made = scores(END_S2={A: 0.74, B: 0.3}, into_movers={A: 0.012}, recovery={A: 0.01}, **movers)
    assert told(made)["S-inhibition"] == (
        "no S-inhibition heads: L2H1 attends from END to S2 with 0.74, but carries 0.012 into the name movers' queries "
        "and restores 0.010 when patched at END (rule: above 0.05)"
    )


def test_nearest_is_the_head_whose_worst_part_comes_nearest_to_the_rule():
    made = scores(END_S2={A: 0.74, B: 0.3}, recovery={A: 0.01, B: 0.06})
    assert told(made)["S-inhibition"] == (
        "no S-inhibition heads: L1H0 restores 0.060 when patched at END, but attends from END to S2 with 0.30 (rule: above 0.4)"
    )


def test_what_was_found_is_not_missing():
    made = scores(END_IO={A: 0.6}, direct={A: 0.1}, induction={B: 0.5}, previous_token={B: 0.5}, S2_S1={B: 0.5})
    assert set(told(made)) == {"negative name mover", "backup name mover", "S-inhibition"}
    assert set(told(scores())) == set(OF_THE_LITERATURE)


TO_NAMES, STRAIGHT = "attends from END to the two first names with ", "straight to the logits"


@pytest.mark.parametrize(
    ("name", "cells", "says"),
    [
        ("name mover", {"END_IO": {A: 0.6}, "direct": {A: 0.03}}, f"L2H1 {TO_NAMES}0.60, but carries 0.030 {STRAIGHT}"),
        ("name mover", {"END_IO": {A: 0.2}, "direct": {A: 0.2}}, f"L2H1 carries 0.200 {STRAIGHT}, but {TO_NAMES}0.20"),
        ("negative name mover", {"END_S1": {A: 0.6}, "direct": {A: -0.03}}, f"carries -0.030 {STRAIGHT} (rule: below −0.05)"),
        (
            "induction",
            {"induction": {B: 0.39}},
            "L1H0, which comes nearest, attends on repeated random tokens to what",
        ),
        ("duplicate token", {"S2_S1": {B: 0.2}}, "attends from S2 to S1 with 0.20 (rule: above 0.4)"),
        ("previous token", {"previous_token": {B: 0.2}}, "attends one token back on random tokens with 0.20 (rule: above 0.4)"),
        ("backup name mover", {"END_IO": {A: 0.6}}, NO_MOVERS),
    ],
)
def test_each_family_says_which_part_of_its_rule_is_not_met(name, cells, says):
    assert says in told(scores(**cells))[name]


def test_a_backup_is_none_of_the_other_heads_at_END():
    made = scores(END_IO={A: 0.6, B: 0.5}, direct={A: 0.1}, direct_without={A: 0.9, B: 0.01})
    assert told(made)["backup name mover"] == (
        f"no backup name mover heads: L1H0 {TO_NAMES}0.50, but carries 0.010 {STRAIGHT} with the name movers knocked out "
        "(rule: above 0.02) and carries 0.010 more than with them (rule: above 0.02)"
    )


def test_where_there_is_no_task_no_effects_were_sought():
    without = told(scores(), task=False)
    assert all((NO_TASK in sentence) is (name not in LOOKS) for name, sentence in without.items())
    assert str(ATTENTION) in without["induction"]


def test_of_what_is_not_measured_yet_nothing_is_said():
    unknown = scores(induction={A: 0.1})
    unknown = replace(unknown, into_movers=np.full((3, 4), np.nan), direct_without=np.full((3, 4), np.nan))
    assert set(told(unknown)) == set(OF_THE_LITERATURE) - {"S-inhibition", "backup name mover"}
