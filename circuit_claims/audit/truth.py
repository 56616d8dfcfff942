"""What is true of `planted` and its mutilations, from how they are made: the ground truth that verdicts are held against.

A claim is *true* of a model where its construction says so: the heads that the claim names have, at these places, the job that
it says they have, and the jobs that these rest on are in the model. It is *false* where the heads that it names do nothing of
the kind, or where it speaks of a behaviour that cannot be without a part that was taken out. Of random weights, all claims are
false. Of a model that does not do the task, claims that presuppose it are false (`circuit_claims.audit.task`), with a card of
its own, too. Of
everything else the construction says neither: of numbers that follow from many strengths at once, and of parts that
rest on others which are missing. Such pairs of a claim and a model are left out of the account.

What stands here was written from the plan of the circuit (`circuit_claims.controls.plan`) and the claims' text. Where a verdict
then disagreed, the plan was read again, and in one respect it had been misread: movers also look away from a repeated token by
themselves, so that a small preference for IO, and its sign, survive without S-inhibition heads. Such claims are left out there.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from circuit_claims.audit.controls import OWN_CARD
from circuit_claims.audit.task import falls_with_the_task
from circuit_claims.cards.card import Card
from circuit_claims.cards.find import find_card
from circuit_claims.controls.plan import Job, Plan, plan
from circuit_claims.controls.planted import MUTILATIONS
from circuit_claims.controls.random_weights import GPT2_SMALL
from circuit_claims.controls.shuffled import orders
from circuit_claims.heads import Head

#: Without these, little or nothing tells the indirect object from the subject.
CHAIN = ("duplicate token", "induction", "previous token", "S-inhibition", "name mover")
#: Jobs that are alike: what is said of a head with one of them may be true of a head with another.
MOVERS = frozenset({"name mover", "backup", "negative", "other"})


class Statement(NamedTuple):
    """What a claim is about, in the terms of the plan.

    names: the card's families whose heads it names ("a|b": the two together); "head", "node" or "family" for those in brackets
    in its id. uses: the jobs, wherever they are done, that it rests on. without: it is false where one of these is missing.
    true: the construction makes it true; else it is a number that the plan does not show. falls: it is false where the heads
    that it names do nothing; else its bound is zero, or it says that something is not there.
    """

    names: tuple[str, ...] = ()
    uses: tuple[str, ...] = CHAIN
    without: tuple[str, ...] = ()
    true: bool = True
    falls: bool = True


def _number(*names: str, without: tuple[str, ...] = (), falls: bool = True) -> Statement:
    return Statement(names, without=without, true=False, falls=falls)


S = ("S-inhibition",)
_GONE_WITHOUT_S = Statement(without=S)
_SIGNAL = "S_inhibition/logit_difference_under_counterfactual_signals"

#: By claim, or by claim and parameter, below claims/ioi. A claim that is not here is false of random weights, and that is all.
STATEMENTS: Mapping[str, Statement] = {
    "behaviour/IO_outranks_S_on_nearly_every_prompt": _GONE_WITHOUT_S,
    "behaviour/mean_logit_difference_is_as_published": _number(without=S),
    "behaviour/clean_logit_difference_is_in_the_range_seen_by_others": _number(without=S),
    "role_swaps/swapping_the_names_flips_the_sign_in_every_population": Statement(),
    "role_swaps/swapped_prompts_have_the_published_logit_difference": _number(without=S),
    "role_swaps/all_four_published_swaps_are_positive": Statement(),
    "metamorphic/IO_outranks_S_in_every_population": Statement(),
    "metamorphic/a_distractor_name_never_turns_the_answer_round": Statement(),
    "metamorphic/a_second_IO_hurts": Statement(),
    "residual_stream/the_answer_is_handed_over_from_S2_to_END_in_the_published_layer": Statement(),
    "residual_stream/before_the_last_layer_END_has_everything": Statement(),
    "residual_stream/END_knows_nothing_before_the_first_S_inhibition_layer": Statement(),
    "residual_stream/END_has_most_of_the_answer_after_the_last_S_inhibition_layer": _GONE_WITHOUT_S,
    "name_movers/name_movers_carry_the_answer": Statement(("name mover",)),
    "name_movers/each_name_mover_recovers_by_itself": Statement(("head",)),
    "name_movers/each_name_mover_attends_most_to_IO": Statement(("head",)),
    "name_movers/name_movers_attend_to_IO_as_published": _number("name mover"),
    "name_movers/name_movers_are_among_the_brightest_heads": Statement(("name mover",)),
    "name_movers/most_heads_recover_next_to_nothing": Statement(),
    "name_movers/the_brightest_heads_sit_late": Statement(),
    "name_movers/the_heads_that_attend_to_IO_sit_in_the_published_layers": Statement(),
    "name_movers/the_direct_paths_that_carry_most_start_at_the_name_movers": _number("name mover"),
    "name_movers/attention_to_a_name_goes_with_writing_it": Statement(("head",)),
    "name_movers/each_name_mover_copies_and_an_average_head_does_not": Statement(("head",), uses=()),
    "negative_name_movers/the_direct_paths_that_cost_most_start_at_the_negative_name_movers": Statement(
        ("negative name mover",)
    ),
    "negative_name_movers/each_negative_name_mover_writes_against_what_it_attends_to": _number("head"),
    "negative_name_movers/each_negative_name_mover_attends_to_IO_more_than_to_S": Statement(("head",)),
    "direct_paths/name_movers_write_the_answer": Statement(("name mover",)),
    "direct_paths/negative_name_movers_write_against_the_answer": Statement(("negative name mover",)),
    "direct_paths/S_inhibition_turns_the_negative_name_movers_to_IO": Statement(
        ("S-inhibition", "negative name mover"), falls=False
    ),
    "S_inhibition/S_inhibition_heads_attend_to_S2_as_published": _number("S-inhibition"),
    "S_inhibition/the_paths_into_the_name_movers_queries_start_at_the_S_inhibition_heads": Statement(
        ("S-inhibition", "name mover")
    ),
    "S_inhibition/S_inhibition_turns_the_name_movers_to_IO": Statement(("S-inhibition", "name mover")),
    f"{_SIGNAL}[original S-original position]": _number(without=S),
    _SIGNAL: _number("S-inhibition"),
    "S_inhibition/the_position_signal_weighs_as_published": _number("S-inhibition"),
    "S_inhibition/the_token_signal_weighs_as_published": _number("S-inhibition"),
    "S_inhibition/the_position_signal_comes_from_induction_and_duplicate_token_heads": Statement(
        ("S-inhibition", "induction|duplicate token")
    ),
    "S_inhibition/the_token_signal_does_not_come_from_them": Statement(("S-inhibition",), falls=False),
    "early_heads/early_heads_look_where_they_should": Statement(("family",), uses=()),
    "early_heads/early_heads_look_where_they_should[induction]": Statement(("family",), uses=("previous token",)),
    "early_heads/early_heads_do_the_same_on_random_tokens": Statement(("validated",), uses=()),
    "early_heads/early_heads_do_the_same_on_random_tokens[induction]": Statement(("validated",), uses=("previous token",)),
    "early_heads/induction_and_duplicate_token_heads_speak_to_S_inhibition": Statement(
        ("induction|duplicate token", "S-inhibition")
    ),
    "early_heads/previous_token_heads_speak_to_induction_heads": Statement(("previous token", "induction"), falls=False),
    "backups/without_its_name_movers_the_model_loses_little": _number("name mover"),
    "backups/each_backup_has_a_direct_effect_once_the_name_movers_are_gone": _number("head"),
    "backups/backups_do_more_once_the_name_movers_are_gone": Statement(("backup name mover", "name mover"), falls=False),
    "backups/name_movers_and_backups_together_cost_more_than_apart": Statement(
        ("backup name mover", "name mover"), falls=False
    ),
    "backups/backups_like_name_movers_look_at_IO": _number("backup like a name mover"),
    "backups/some_backups_look_at_both_names_alike": _number("backup of both names"),
    "backups/one_backup_looks_at_S1_and_writes_S": _number("backup of S1"),
    "backups/one_backup_looks_at_S2_and_writes_against_S": Statement(("backup of S2",)),
    "knockouts/knocking_out_a_helpful_family_costs_what_it_should": _number("family"),
    **{
        f"knockouts/knocking_out_a_helpful_family_costs_what_it_should[S-inhibition-{by}]": Statement(("S-inhibition",))
        for by in ("mean", "zero", "resample")
    },
    "knockouts/knocking_out_the_negative_name_movers_raises_the_logit_difference": _number("negative name mover"),
    "knockouts/S_inhibition_acts_at_END": Statement(("S-inhibition",)),
    "minimality/every_node_is_needed": _number("head"),
}

#: Claims that are false of every one of these models: MLPs but the first are noise here, and taking them away changes nothing.
NEVER = frozenset({"mlps/logit_difference_without_the_later_MLPs"})


def truth(claim_id: str, subject: str) -> bool | None:
    """Whether the claim is true of the model by its construction; None where the construction does not say.

    Raises KeyError for a model that is neither planted, nor one of its mutilations, nor random, nor planted shuffled, nor one
    with its own card.
    """
    if claim_id.startswith("tokenizer/"):
        return None  # of whatever weights, the tokenizer is the same
    if falls_with_the_task(claim_id, subject):
        return False
    if subject.endswith(OWN_CARD):
        return None  # whatever else its card says may be true of it
    name = claim_id.removeprefix("ioi/")
    claim, _, parameter = name.rstrip("]").partition("[")
    jobs = jobs_of(subject)
    if subject == "random" or claim in NEVER:
        return False
    statement = STATEMENTS.get(name) or STATEMENTS.get(claim)
    if statement is None:
        return None
    states = {_state(family, parameter, jobs) for family in statement.names}
    there = {job.family for job in jobs.values()}
    if (statement.falls and "gone" in states) or not there.issuperset(statement.without):
        return False
    return True if statement.true and states <= {"there"} and there.issuperset(statement.uses) else None


@cache
def jobs_of(subject: str) -> Plan:
    """What each head of a model does; a head that is not there does nothing."""
    if subject == "random":
        return {}
    if subject == "shuffled:planted":
        placed = {
            Head(layer, place): Head(layer, source)
            for layer, order in enumerate(orders(GPT2_SMALL.n_layer, GPT2_SMALL.n_head))
            for place, source in enumerate(order)
        }
        return {place: plan()[source] for place, source in placed.items() if source in plan()}
    if subject == "planted":
        return plan()
    return MUTILATIONS[subject.removeprefix("planted:")].change(plan())


def _state(family: str, parameter: str, jobs: Mapping[Head, Job]) -> str:
    """Whether the heads that are named have their jobs: "there", "gone", or "mixed" where some have, or a job like it."""
    card = _card()
    if family == "head":
        heads = [_head(parameter)]
    elif family == "family":
        heads = list(card.heads(re.sub("-(mean|zero|resample)$", "", parameter)))
    elif family == "validated":
        heads = list(card.heads(f"validated {parameter}"))
    else:
        heads = [head for part in family.split("|") for head in card.heads(part)]
    states = set()
    for head in heads:
        meant, now = plan()[head].family, jobs[head].family if head in jobs else ""
        alike = now == "other" or {meant, now} <= MOVERS
        states.add("there" if now == meant else "mixed" if alike else "gone")
    return states.pop() if len(states) == 1 else "mixed"


@cache
def _card() -> Card:
    return find_card("gpt2-small")  # once: thousands of claims are looked up on it


def _head(parameter: str) -> Head:
    match = re.match(r"L(\d+)H(\d+)", parameter)
    if not match:
        raise ValueError(f"{parameter!r} names no head")
    return Head(int(match[1]), int(match[2]))
