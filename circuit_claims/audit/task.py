"""Which claims fall with the task: those that say that the model does it, and those that presuppose it.

A share of the logit difference, a sweep for what carries it, and what is left of it without some heads are about a model that
prefers IO: of one that does not, such claims are false, whatever card it is given, even one that was found for it. What a card
says of such a model besides (that its mean logit difference is 0.11) is true of it, and no part of the story.

The list was written from the claims' text. It holds beginnings of claims' names.
"""

from circuit_claims.audit.controls import OWN_CARD

#: Models that do not do the task by how they are made: noise, and the planted circuit without what tells the two names apart.
NOISE = ("random", "random:mini")
BOTH_NAMES_ALIKE = ("planted:without-S-inhibition",)

SAYS_SO = ("ioi/behaviour/IO_outranks_S_on_nearly_every_prompt",)
#: Of noise, more is false: where two names are said alike, either is the top token on about half of the prompts, and the
#: sign of a small preference may be the same in every population.
SAYS_SO_OF_NOISE = (
    *SAYS_SO,
    "ioi/behaviour/IO_is_the_top_token_on_most_prompts",
    "ioi/metamorphic/IO_outranks_S_in_every_population",
    "ioi/metamorphic/a_second_S_never_turns_the_answer_round",
    "ioi/metamorphic/a_distractor_name_never_turns_the_answer_round",
    "ioi/role_swaps/swapping_the_names_flips_the_sign_in_every_population",
)

PRESUPPOSES_IT = (
    "ioi/behaviour/logit_difference_on_ABC_prompts",
    "ioi/metamorphic/a_neutral_prefix_changes_nothing",
    "ioi/metamorphic/a_second_IO_hurts",
    "ioi/metamorphic/a_second_S_does_not_hurt",
    "ioi/residual_stream/",
    "ioi/name_movers/name_movers_carry_the_answer",
    "ioi/name_movers/each_name_mover_recovers_by_itself",
    "ioi/name_movers/name_movers_are_among_the_brightest_heads",
    "ioi/name_movers/most_heads_recover_next_to_nothing",
    "ioi/name_movers/the_brightest_heads_sit_late",
    "ioi/name_movers/the_direct_paths_that_carry_most",
    "ioi/negative_name_movers/the_direct_paths_that_cost_most",
    "ioi/direct_paths/",
    "ioi/S_inhibition/the_paths_into_the_name_movers_queries",
    "ioi/S_inhibition/S_inhibition_turns_the_name_movers_to_IO",
    "ioi/S_inhibition/logit_difference_under_counterfactual_signals",
    "ioi/S_inhibition/the_position_signal_",
    "ioi/S_inhibition/the_token_signal_",
    "ioi/S_inhibition/the_two_signals_add_up",
    "ioi/early_heads/induction_and_duplicate_token_heads_speak_to_S_inhibition",
    "ioi/early_heads/previous_token_heads_speak_to_induction_heads",
    "ioi/backups/without_its_name_movers_the_model_loses_little",
    "ioi/backups/each_backup_has_a_direct_effect",
    "ioi/backups/backups_do_more_once_the_name_movers_are_gone",
    "ioi/backups/name_movers_and_backups_together_cost_more_than_apart",
    "ioi/knockouts/",
    "ioi/completeness/",
    "ioi/faithfulness/",
    "ioi/minimality/",
    "ioi/mlps/",
    "attribution/attribution_patching/attribution_ranks_heads_as_patching_does",
    "attribution/direct_depth/the_logit_difference_rises",
    "attribution/direct_depth/the_logit_difference_falls",
    "attribution/direct_depth/the_largest_MLP_contribution",
    "attribution/direct_depth/late_MLPs_contribute",
    "attribution/direct_heads/each_name_mover_writes",
    "attribution/direct_heads/each_negative_name_mover_writes",
    "attribution/direct_heads/the_heads_that_write",
    "attribution/direct_heads/attribution_of_a_head_on_drawn_prompts",
    "attribution/direct_heads/attribution_of_a_head_to_IO",
    "attribution/direct_heads/patching_and_direct_attribution_agree",
    "attribution/direct_self_repair/less_is_lost",
    "attribution/direct_self_repair/the_heads_that_make_up",
    "attribution/parts_of_heads/one_part_carries",
    "attribution/parts_of_heads/the_other_part_does_little",
    "attribution/parts_of_heads/no_head_at_END",
    "attribution/parts_of_heads/the_swapped_names_position",
    "probing/readability/",
)


def falls_with_the_task(claim_id: str, subject: str) -> bool:
    """Whether the model does not do the task by how it is made, and the claim says or presupposes that it does.

    subject: as in `circuit_claims.audit.controls`; a card of its own changes nothing.
    """
    model = subject.removesuffix(OWN_CARD)
    if model in NOISE:
        return claim_id.startswith((*SAYS_SO_OF_NOISE, *PRESUPPOSES_IT))
    return model in BOTH_NAMES_ALIKE and claim_id.startswith((*SAYS_SO, *PRESUPPOSES_IT))
