"""The controls: for every model on which claims are true, the models on which they must fail.

Random weights and misplaced heads (the same weights at wrong coordinates) serve for every claim; a planted circuit with one
part taken out shows that the claims on that part fall, and the others stand. A model that does not do the task, with a card
that discovery found for itself, shows that a claim cannot be made true by setting its bounds to whatever there is.
"""

from dataclasses import dataclass

from circuit_claims.prompts.ioi import CORRUPTIONS


@dataclass(frozen=True)
class Base:
    """A model on which claims are true, and its controls, all named as for --subject; further options may follow a name.

    With `OWN_CARD`, discovery first finds the model's own card, and claims are run with that.
    """

    subject: str
    controls: tuple[str, ...]


#: What follows the name of a control that is run with the card that discovery finds for it.
OWN_CARD = " --card own"

BASES: tuple[Base, ...] = (
    Base("mini", ("random:mini", "shuffled:mini", "mini --sae shuffled", f"random:mini{OWN_CARD}")),
    Base(
        "planted",
        (
            "random",
            "shuffled:planted",
            "planted:without-S-inhibition",
            "planted:without-induction",
            "planted:without-duplicate-token",
            "planted:without-previous-token",
            "planted:without-negative",
            "planted:without-backups",
            "planted:name-movers-moved",
            f"planted:without-S-inhibition{OWN_CARD}",
        ),
    ),
)

#: The models of which `circuit_claims.audit.truth` knows what is true.
WITH_KNOWN_TRUTH = (BASES[1].subject, *BASES[1].controls, f"random:mini{OWN_CARD}")

_SPELLED = (
    "every control's tokenizer knows the names, places and objects as words; "
    "tests/tasks/weights/test_tokens.py has ones that do not"
)

#: Claims that no control can refute, each with the reason.
NO_CONTROL_CAN: dict[str, str] = {
    **{f"tokenizer/names/every_filler_is_one_token[{what}]": _SPELLED for what in ("names", "places", "objects")},
    "tokenizer/names/no_two_names_are_the_same_token": _SPELLED,
    **{f"tokenizer/pairs/a_corruption_keeps_the_length[{corruption}]": _SPELLED for corruption in CORRUPTIONS},
    **{f"tokenizer/pairs/a_corruption_moves_no_role[{corruption}]": _SPELLED for corruption in CORRUPTIONS},
    "tokenizer/pairs/prompts_of_a_frame_are_laid_out_alike": _SPELLED,
    "tokenizer/pairs/a_template_is_as_long_in_either_order": _SPELLED,
    "sae/sparsity/few_features_are_of_no_use[dense]": (
        "the shuffled autoencoder has hardly more dense features than the one it stands for; "
        "tests/sae/test_sae_measures.py counts them in dictionaries that have some"
    ),
}

_WORDS = "no control's tokenizer has its words"
_NOISE = "on noise with GPT-2's own tokenizer it is run in tests/tasks/test_acronyms.py"

#: Claims that no control can be asked, each with the reason and where they are shown to fail.
NO_CONTROL_SPEAKS: dict[str, str] = {
    "facts/logit_lens/": f"{_WORDS}; that it presupposes a city among the likeliest tokens, tests/tasks/test_facts.py tests",
    "induction/published_texts/": f"{_WORDS}: {_NOISE}",
    "acronyms/": f"{_WORDS}: {_NOISE}",
    "greater_than/": f"{_WORDS}, or mini's card not its heads: {_NOISE}",
    **{
        f"{chapter}/": f"{_WORDS}: on noise with GPT-2's it is run in tests/chapters/test_published_task_claims.py"
        for chapter in ("subject_verb_agreement", "gendered_pronouns", "docstrings", "two_digit_addition")
    },
    "discovery/published_circuits/": "its numbers are GPT-2 small's, and asked of no other model: with such a card of its own, "
    "random:mini refutes them in tests/chapters/test_edge_claims.py",
    "discovery/attribution_against_patching/attribution_to_a_block_goes": "the same numbers are held "
    "against controls in attribution/attribution_patching; here they are GPT-2 small's alone, with a second source beside them",
    "successors/": f"{_WORDS}: on noise it is refuted in tests/tasks/weights/test_successors.py",
    "sae/sparsity/as_many_features_are_active_as_published": "the embedded autoencoder is TopK, whose L0 is given: "
    "tests/sae/test_sae_features.py has one whose L0 is measured",
}
