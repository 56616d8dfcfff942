"""The single numbers that the IOI claims ask a card for, each measured as its claim measures it.

A part below is a chapter of the claims. Where a model does not show what a claim is about, its value is left out, with the
reason: the claim would not be one about this model.
"""

from collections.abc import Callable

from circuit_claims.cards.card import Card
from circuit_claims.cards.floors import GOOD_PART, MOST, NEARLY_EVERY, NEARLY_WHOLE, NEXT_TO_NOTHING, RARELY, few
from circuit_claims.discovery.families import BACKUP, EFFECT, LOOKS
from circuit_claims.discovery.findings import (
    HALF,
    PROBABILITY,
    SHARE,
    TENTH,
    Findings,
    Value,
    at_least_half,
    at_most_twice,
    half_way_to_one,
    layer,
    near,
    rate,
    rounded,
)
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import (
    cell,
    earliest_layer_of_the_brightest,
    handover_layer,
    mean_over_heads,
)
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.templates import TWO_SENTENCE_TEMPLATES
from circuit_claims.tasks.induction.repeated_tokens import Score
from circuit_claims.tasks.ioi.signals import fit_error, position_coefficient, token_coefficient
from circuit_claims.untested import Untested

#: How many times the average head's copy score a family's lowest has to be, or copying is not what sets the family apart.
COPIES = 2
#: Prompts at the first look at the mean over all heads' copy scores: each has the whole vocabulary's logits of every head.
FEW = 10
#: The error of position and token signal added up, as a share of the logit difference, from which on they do not add up.
NO_SUM = 0.2

#: Families whose knock-out is said to cost, as claims ask for them.
HELPFUL = ("name mover", "S-inhibition", "induction", "duplicate token", "previous token")

Part = Callable[[Survey, Card], Findings]


def behaviour(survey: Survey, card: Card) -> Findings:
    """What the model does on p_IOI, and with other names (Wang et al. 2022, section 2)."""
    ioi = survey.ioi
    values = {
        "logit_difference": near(survey, ioi.logit_difference(), "logits"),
        "io_probability": near(survey, ioi.probability(), "probability", PROBABILITY),
        "swapped_logit_difference": near(survey, ioi.changed("name swap").logit_difference(), "logits"),
        "ABC_logit_difference": in_logits(survey, ioi.changed("ABC").logit_difference()),
    }
    left_out = {"clean_logit_difference": "it is what somebody else saw, and nobody else has looked"}
    prefers = survey.estimate(ioi.prefers_io())
    if prefers >= NEARLY_EVERY:
        values["prefers_io"] = rate(survey, ioi.prefers_io())
    else:
        left_out["prefers_io"] = f"IO is preferred on {prefers:.3f} of the prompts, which is not nearly every one"
    return Findings(values, left_out=left_out)


def extra_sentences(survey: Survey, card: Card) -> Findings:
    """The templates of two sentences, without a sentence between and with one about S or IO (figure 8)."""
    two, values = survey.ioi.on(templates=TWO_SENTENCE_TEMPLATES), {}
    for key, task in {
        "two_sentence": two,
        "extra_s": survey.ioi.changed("extra S"),
        "extra_io": survey.ioi.changed("extra IO"),
    }.items():
        values[f"{key}_logit_difference"] = near(survey, task.logit_difference(), "logits")
        values[f"{key}_probability"] = near(survey, task.probability(), "probability", PROBABILITY)
    left_out, prefers_s = {}, survey.estimate(two.prefers_s())
    if prefers_s <= RARELY:
        values["two_sentence_prefers_s"] = rate(survey, two.prefers_s())
    else:
        left_out["two_sentence_prefers_s"] = f"S is preferred on {prefers_s:.3f} of the prompts, which is not rarely"
    preferred = rate(survey, survey.ioi.changed("extra S").prefers_io())
    if preferred.value > (preferred.within or 0.0):
        values["extra_s_prefers_io"] = preferred
    else:
        left_out["extra_s_prefers_io"] = f"{preferred.value} to within {preferred.within}: no model could be below that"
    values["extra_io_prefers_s"] = near(survey, survey.ioi.changed("extra IO").prefers_s(), "rate", PROBABILITY)
    return Findings(values, left_out=left_out)


def residual_stream(survey: Survey, card: Card) -> Findings:
    """Where the answer is handed over from S2 to END."""
    if not survey.shows_the_task:
        return Findings()
    sweep = survey.ioi.residual_sweep(corruption="S2 to IO")
    before_last = sweep.of(cell(-1, "END"), "recovery at END before the last layer", "share")
    found = Findings({"handover_layer": layer(survey, sweep.of(handover_layer("S2", "END"), "handover", "layer"))})
    recovered = survey.estimate(before_last)
    if recovered < NEARLY_WHOLE:
        why = f"before the last layer END restores {recovered:.3f}, which is not nearly the whole"
        return found | Findings(left_out={"end_recovery_before_last_layer": why})
    return found | Findings({"end_recovery_before_last_layer": near(survey, before_last, "share", SHARE)})


def name_movers(survey: Survey, card: Card) -> Findings:
    """What the name movers carry and attend to (section 3.1)."""
    if "name mover" not in card.families:
        return Findings()
    ioi, movers = survey.ioi, card.heads("name mover")
    values, left_out = {}, {}
    joint = survey.estimate(ioi.patch(movers, at="END").recovery())
    if joint > GOOD_PART:
        values["name_mover_joint_recovery"] = at_least_half(joint, "share")
    else:
        left_out["name_mover_joint_recovery"] = f"patched together, they restore {joint:.3f}, which is no good part"
    values["name_mover_attention"] = near(survey, ioi.mean_attention(movers, to="IO"), "probability", PROBABILITY)
    earliest = survey.estimate(ioi.attention_sweep(to="IO").of(earliest_layer_of_the_brightest(3), "", "layer"))
    if earliest > 0:
        values["earliest_name_mover_layer"] = Value(int(earliest), "layer")
    else:
        left_out["earliest_name_mover_layer"] = "it is the first layer: no head could sit earlier"
    lit, allowed = int((survey.beyond(ioi.head_sweep(at="END"), EFFECT) > EFFECT).sum()), few_of_all(card)
    if 0 < lit <= allowed:
        values["bright_heads"] = Value(lit, "heads", note=f"as many as recover more than {EFFECT} at END")
    else:
        left_out["bright_heads"] = f"{lit} heads recover more than {EFFECT} at END, which are not 1 to {allowed}"
    try:
        weakest = min(survey.estimate(ioi.attention_projection_correlation(head)) for head in movers)
        values["name_mover_correlation"] = Value(
            rounded(weakest), "correlation", low=rounded(weakest - SHARE), note="the weakest of them"
        )
    except Untested as error:  # in some architectures, what one head writes is not to be had
        left_out["name_mover_correlation"] = str(error)
    return Findings(values, left_out=left_out) | _copying(survey, movers, negative=False)


def negative_name_movers(survey: Survey, card: Card) -> Findings:
    """What the negative name movers write (section 3.1)."""
    if "negative name mover" not in card.families:
        return Findings()
    return _copying(survey, card.heads("negative name mover"), negative=True)


def S_inhibition(survey: Survey, card: Card) -> Findings:
    """What the S-inhibition heads attend to, and the signals that they send (section 3.2 and appendix A)."""
    if "S-inhibition" not in card.families:
        return Findings()
    heads = card.heads("S-inhibition")
    values = {"S-inhibition_attention": near(survey, survey.ioi.mean_attention(heads, to="S2"), "probability", PROBABILITY)}
    grid = survey.ioi.signals(heads)
    values["position_coefficient"] = in_logits(survey, grid.of(position_coefficient, "position coefficient", "logits"))
    values["token_coefficient"] = in_logits(survey, grid.of(token_coefficient, "token coefficient", "logits"))
    found = Findings(values) | _shares_through_early_heads(survey, card)
    fit = grid.of(fit_error, "mean error of the fit", "share of the original logit difference")
    error = survey.estimate(fit)
    if error >= NO_SUM:
        return found | Findings(left_out={"signal_fit_error": f"the two signals do not add up: they miss by {error:.3f}"})
    bound = at_most_twice(error, survey.noise(fit), "share of the original logit difference")
    return found | Findings({"signal_fit_error": bound})


def backups(survey: Survey, card: Card) -> Findings:
    """What is left without the name movers, and who takes over (section 3.3 and appendix B)."""
    if "name mover" not in card.families:
        return Findings()
    ioi, movers = survey.ioi, card.heads("name mover")
    left = ioi.ablate(movers, at="END")
    found = Findings({"name_mover_knockout_share_left": near(survey, left.remaining(), "share", SHARE)})
    if "backup name mover" not in card.families:
        return found
    others = card.heads("backup name mover")
    parts = [ioi.ablate(heads, at="END").change() for heads in ([*movers, *others], movers, others)]
    together, first, second = map(survey.estimate, parts)
    return found | Findings(
        {
            "backup_effect": Value(BACKUP, "share of the logit difference", note="the rule by which they were found"),
            "self_repair": Value(
                rounded(together / (first + second)),
                "ratio",
                note=f"name movers and backups cost {together:.3f} logits together, {first:.3f} and {second:.3f} apart",
            ),
        }
    )


def knock_outs(survey: Survey, card: Card) -> Findings:
    """What is left of the logit difference without a family (mean ablation, all positions)."""
    values, left_out = {}, {}
    for name in (*HELPFUL, "negative name mover"):
        if name not in card.families or not survey.shows_the_task:
            continue
        key = f"{name.replace(' ', '_')}_share_left"
        remaining = survey.ioi.ablate(card.heads(name)).remaining()
        found, noise = survey.estimate(remaining), survey.noise(remaining)
        change = 1 - found if name in HELPFUL else found - 1
        if change * HALF > noise:
            values[key] = half_way_to_one(found)
        else:
            wanted = "less" if name in HELPFUL else "more"
            left_out[key] = f"{found:.3f} is left, which is not {wanted} than 1 by twice its noise, {noise:.3f}"
    return Findings(values, left_out=left_out)


def random_tokens(survey: Survey, card: Card) -> Findings:
    """How many early heads show on random tokens what they are called after (appendix H)."""
    names: list[Score] = [name for name in LOOKS if f"validated {name}" in card.families]
    values, left_out = {}, {}
    for name in names:
        key, rank = f"{name.replace(' ', '_')}_rank", _worst_rank(survey, name, card.heads(f"validated {name}"))
        if rank <= few_of_all(card):
            values[key] = Value(rank, "rank", note="the rank of the weakest of them")
        else:
            left_out[key] = f"the weakest of them comes {rank} by rank: a quarter of all heads are before it"
    return Findings(values, left_out=left_out)


def mlps(survey: Survey, card: Card) -> Findings:
    """What the MLPs are needed for (appendix J)."""
    ioi, values, left_out = survey.ioi, {}, {}
    if not survey.shows_the_task:
        return Findings()
    first = survey.estimate(ioi.ablate_mlps([0]).value())
    if first < -TENTH * survey.logit_difference:
        values["mlp0_knockout_logit_difference"] = at_least_half(first, "logits")
    else:
        why = f"without MLP 0 the answer does not turn round: {first:.3f} logits are left"
        left_out["mlp0_knockout_logit_difference"] = why
    if card.n_layers > 1:
        later = ioi.ablate_mlps(range(1, card.n_layers)).value()
        values["later_mlps_knockout_logit_difference"] = in_logits(survey, later)
    return Findings(values, left_out=left_out)


#: What is measured, in this order.
PARTS: dict[str, Part] = {
    "behaviour": behaviour,
    "extra sentences": extra_sentences,
    "the residual stream": residual_stream,
    "name movers": name_movers,
    "negative name movers": negative_name_movers,
    "S-inhibition": S_inhibition,
    "backups": backups,
    "knock-outs of families": knock_outs,
    "early heads on random tokens": random_tokens,
    "MLPs": mlps,
}


def few_of_all(card: Card) -> int:
    """As many heads as a claim may call few."""
    return few(card.n_layers * card.n_heads, of=card.n_layers * card.n_heads)


def in_logits(survey: Survey, measurement: Measurement) -> Value:
    """A quantity in logits that may be near zero: to within a tenth of the plain logit difference."""
    return near(survey, measurement, "logits", TENTH * abs(survey.logit_difference))


def _copying(survey: Survey, heads: tuple[Head, ...], *, negative: bool) -> Findings:
    """Copy scores of a family and of an average head: bounds where they are apart."""
    sign, prefix = ("negative", "negative_") if negative else ("positive", "")
    sweep = survey.ioi.copy_score_sweep(sign)
    keys = f"{prefix}name_mover_copy_score", f"average_{prefix}copy_score"
    few = survey.looking_first_at(FEW)
    try:
        lowest = min(survey.estimate(survey.ioi.copy_score(head, sign)) for head in heads)
        average = few.estimate(sweep.of(mean_over_heads, "", "rate"))
    except Untested as error:  # as for the correlation
        return Findings(left_out=dict.fromkeys(keys, str(error)))
    if lowest < COPIES * average or lowest <= SHARE:
        why = f"copying does not set them apart: their lowest score is {lowest:.3f}, an average head's {average:.3f}"
        return Findings(left_out=dict.fromkeys(keys, why))
    bound = Value(rounded(lowest - SHARE), "rate", note=f"a tenth below the lowest, {lowest:.3f}")
    if negative:  # the claim asks whether an average head is near this
        return Findings({keys[0]: bound, keys[1]: Value(rounded(average), "rate", within=SHARE)})
    return Findings({keys[0]: bound, keys[1]: Value(rounded(average + SHARE), "rate", note=f"a tenth above {average:.3f}")})


def _shares_through_early_heads(survey: Survey, card: Card) -> Findings:
    """How much of S-inhibition's two signals comes from induction and duplicate-token heads (section 3.2 and appendix A)."""
    names, keys = ("duplicate token", "induction"), {"S1-IO flip": "position", "random names": "token"}
    there = [name for name in names if name in card.families]
    ioi, inhibitors = survey.ioi, card.heads("S-inhibition")
    keys = {corruption: f"S-inhibition_{signal}_share" for corruption, signal in keys.items()}
    if len(there) < len(names) or all(card.family(name).role_only for name in there):
        why = "there are no duplicate-token and induction heads in the circuit for the signal to come from"
        return Findings(left_out=dict.fromkeys(keys.values(), why))
    early = [head for name in names for head in card.heads(name)]
    values, left_out = {}, {}
    for corruption, key in keys.items():
        through = survey.estimate(ioi.path(early, to=inhibitors, into="v", at="S2", corruption=corruption).change())
        whole = survey.estimate(ioi.noise(inhibitors, corruption=corruption).change())
        if whole < EFFECT * survey.logit_difference:
            left_out[key] = f"with {corruption} for them alone, S-inhibition heads lose {whole:.3f} logits: nothing to share"
        elif corruption == "random names" and through > NEXT_TO_NOTHING * whole:
            left_out[key] = f"{through / whole:.3f} of it comes from them, more than next to nothing"
        elif corruption == "random names":
            value = rounded(through / whole + SHARE)
            values[key] = Value(value, "share", note=f"a tenth above the {through / whole:.3f} found")
        elif through < MOST * whole:
            left_out[key] = f"{through / whole:.3f} of it comes from them, which is not most"
        else:
            values[key] = at_least_half(through / whole, "share")
    return Findings(values, left_out=left_out)


def _worst_rank(survey: Survey, score: Score, heads: tuple[Head, ...]) -> int:
    scores = survey.random_token_scores(score)
    return int((scores >= min(scores[head] for head in heads)).sum())
