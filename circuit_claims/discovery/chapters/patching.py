"""What activation patching of parts of heads shows, and whether its first-order estimate can stand in for it."""

from dataclasses import replace

from circuit_claims.cards.card import Card
from circuit_claims.cards.floors import LITTLE
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.families import EFFECT
from circuit_claims.discovery.findings import HALF, SHARE, Findings, Table, Value, rounded
from circuit_claims.discovery.survey import Survey
from circuit_claims.tasks.operations.head_parts import PARTS, Part
from circuit_claims.untested import Untested

#: Of each family, the part that the literature has carry what it does with S2 corrupted, and the part that it has not.
CARRIED_BY: dict[str, tuple[Part, Part]] = {
    "S-inhibition": ("v", "pattern"),
    "name mover": ("pattern", "v"),
    "induction": ("pattern", "v"),
}
CORRUPTION = "S2 to IO"
#: A part carries what a head does where it alone restores this much of it, and more than twice what the other part does.
CARRIES, TIMES = 0.5, 2
#: Prompts that shares are measured on: a tenth is left for another sample, and these shares move by less from prompt to prompt.
FEW = 120
#: A correlation below which an estimate ranks nothing.
RANKS = 0.5


def find(survey: Survey, card: Card) -> Chapter:
    """Which part of a head carries its effect, family by family, and how far attribution patching goes with patching."""
    if not survey.shows_the_task:
        return Chapter()
    return Chapter(
        findings={"what carries a family's effect": carriers(survey, card), "attribution patching": attribution(survey)}
    )


def carriers(survey: Survey, card: Card) -> Findings:
    """Shares of what the outputs restore, by values alone and by patterns alone: bounds where one of them carries it."""
    values, left_out = {}, {}
    survey = replace(survey, n=min(FEW, survey.n))
    for family, (carrier, other) in CARRIED_BY.items():
        if family not in card.families:
            continue
        heads, name = card.heads(family), family.replace(" ", "_")
        keys = f"{name}_{carrier}_share", f"{name}_{other}_share"
        whole = survey.estimate(survey.ioi.patch(heads, at=None, corruption=CORRUPTION).recovery())
        if whole < EFFECT:
            left_out |= dict.fromkeys(keys, f"with S2 corrupted, their outputs restore {whole:.3f}, next to nothing")
            continue
        try:
            found, rest = (
                survey.estimate(survey.ioi.patch(heads, part=part, at=None, corruption=CORRUPTION).share_of_output())
                for part in (carrier, other)
            )
        except Untested as error:
            left_out |= dict.fromkeys(keys, str(error))
            continue
        if found < CARRIES or found < TIMES * rest or rest > LITTLE:
            why = f"it is not so here: by its {PARTS[carrier]} {found:.3f}, by its {PARTS[other]} {rest:.3f}"
            left_out |= dict.fromkeys(keys, why)
            continue
        unit = "share of the outputs' recovery"
        on = f"found on {survey.up_to()} of the prompts"
        values[keys[0]] = Value(rounded(HALF * found), unit, note=f"half of the {found:.3f} {on}")
        values[keys[1]] = Value(rounded(rest + SHARE), unit, note=f"a tenth above the {rest:.3f} {on}")
    return Findings(values, left_out=left_out)


def attribution(survey: Survey) -> Findings:
    """Correlations of patching every head with its estimate: bounds a tenth below, where it ranks heads at all."""
    rows, left_out = {}, {}
    for part in PARTS:
        try:
            found = survey.estimate(survey.ioi.attribution_correlation(part))
        except Untested as error:
            left_out[f"row {part!r} of attribution_ranks"] = str(error)
            continue
        if found < RANKS:
            left_out[f"row {part!r} of attribution_ranks"] = f"the estimate does not rank heads: the correlation is {found:.3f}"
        else:
            rows[part] = (rounded(found - SHARE),)
    tables = {}
    if rows:
        note = "a tenth below what was found on one prompt of each frame: bounds, with nothing allowed on top"
        tables["attribution_ranks"] = Table(("correlation at least",), rows, 0.0, "correlation", note)
    return Findings(tables=tables, left_out=left_out)
