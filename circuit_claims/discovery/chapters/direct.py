"""Direct logit attribution: which heads and layers write the logit difference at END, and what becomes of it without one."""

import numpy as np

from circuit_claims.cards.card import Card
from circuit_claims.cards.floors import MOST
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.families import EFFECT, Found
from circuit_claims.discovery.findings import (
    HALF,
    SHARE,
    TENTH,
    Findings,
    Table,
    Value,
    at_most_twice,
    layer,
    near,
    rounded,
    rounded_up,
    table,
)
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.tasks.operations.direct_attribution import Attribution
from circuit_claims.tasks.operations.direct_statistics import ATTENTION, MLP, highest_layer, largest_layer, lowest_layer


def find(survey: Survey, card: Card) -> Chapter:
    """The heads that write most, the layers, how patching agrees, and self-repair; nothing where there is no task."""
    if not survey.shows_the_task:
        return Chapter()
    to_io, findings = heads_to_io(survey)
    repairing, repair = self_repair(survey, card)
    parts = {"layers": layers(survey), "heads": heads(survey), "heads, to the logit of IO": findings, "self-repair": repair}
    return Chapter(to_io | repairing, parts)


def layers(survey: Survey) -> Findings:
    """Where the accumulated logit difference rises and falls most, and where the largest MLP contribution lies."""
    by_layer = survey.ioi.direct_attribution().layers()
    to_io = survey.ioi.direct_attribution(to="IO", scaled=False).layers()
    values = {
        "attribution_rise_layer": layer(survey, by_layer.of(highest_layer(ATTENTION), "", "layer")),
        "largest_mlp_layer": layer(survey, to_io.of(largest_layer(MLP), "", "layer")),
    }
    fall = survey.beyond(by_layer, -EFFECT * survey.logit_difference)[:, ATTENTION].min()
    if fall > -EFFECT * survey.logit_difference:
        why = f"no attention layer takes away more than {EFFECT} of the logit difference: the lowest adds {fall:.3f}"
        return Findings(values, left_out={"attribution_fall_layer": why})
    values["attribution_fall_layer"] = layer(survey, by_layer.of(lowest_layer(ATTENTION), "", "layer"))
    return Findings(values)


def heads(survey: Survey) -> Findings:
    """The heads that write more than a twentieth of the logit difference, with what they write, and how patching agrees."""
    attribution, whole = survey.ioi.direct_attribution(), survey.logit_difference
    strong = _larger_than(survey, attribution, EFFECT * whole)
    r = survey.ioi.patching_correlation(survey.ioi.direct_attribution(to="IO", scaled=False))
    values = {"attribution_patching_correlation": near(survey, r, "correlation", SHARE)}
    if not strong:
        return Findings(values, left_out={"head_attribution": f"no head writes more than {EFFECT} of the logit difference"})
    rows = {str(head): [attribution.of_heads([head])] for head in strong}
    note = f"heads that write more than {EFFECT} of the logit difference; to within half of that, or the noise"
    return Findings(values, {"head_attribution": table(survey, ("attribution",), rows, "logits", HALF * EFFECT * whole, note)})


def heads_to_io(survey: Survey) -> tuple[dict[str, Found], Findings]:
    """The heads that write at least half as much to the logit of IO as the one that writes most, with ends for each."""
    attribution = survey.ioi.direct_attribution(to="IO", scaled=False)
    most = float(np.abs(survey.cells(attribution.heads())).max())
    rows, strong = {}, _larger_than(survey, attribution, HALF * most)
    for head in strong:
        measured = attribution.of_heads([head])
        value = survey.estimate(measured)
        off = rounded_up(max(TENTH * most, survey.noise(measured)))
        rows[str(head)] = (rounded(value), rounded(value - off), rounded(value + off))
    note = "heads that write at least half as much as the first; the ends are a tenth of that away, or the noise"
    columns = ("attribution", "low", "high")
    families = {}
    for name, sign in (("strongest for IO", 1), ("strongest against IO", -1)):
        if chosen := tuple(head for head in strong if sign * rows[str(head)][0] > 0):
            evidence = {head: f"writes {rows[str(head)][0]}, without the final layer norm's scale" for head in chosen}
            families[name] = Found(chosen, "END", "writes to the logit of IO at least half as much as the first", "", evidence)
    unit = "logits times the final scale"
    return families, Findings(tables={"head_attribution_to_IO": Table(columns, rows, None, unit, note)})


def self_repair(survey: Survey, card: Card) -> tuple[dict[str, Found], Findings]:
    """What is lost without the name mover that writes most, and which heads then write more."""
    if "name mover" not in card.families:
        return {}, Findings()
    written = survey.cells(survey.ioi.direct_attribution().heads())
    top = max(card.heads("name mover"), key=lambda head: written[head])
    evidence = {top: f"writes {written[top]:.3f} logits"}
    families = {
        "strongest name mover": Found((top,), "END", "the name mover that writes most of the logit difference", "", evidence)
    }
    without = survey.ioi.direct_attribution(without=[top])
    least = EFFECT * survey.logit_difference
    growth = survey.beyond(without.growth_over(survey.ioi.direct_attribution()), least)
    repairs = [Head(*cell) for cell in np.argwhere(growth > least)]
    if repairs:
        families["repairs the strongest name mover"] = Found(
            tuple(repairs),
            "END",
            f"writes more than {EFFECT} of the logit difference more once {top} is zeroed at END",
            "",
            {head: f"{growth[head]:.3f} logits more" for head in repairs},
        )
    lost = survey.ioi.lost_share([top])
    share, noise = survey.estimate(lost), survey.noise(lost)
    bound = at_most_twice(share, noise, "share")
    if share >= MOST:
        why = f"without {top} at END, {share:.3f} of what it writes is lost, which is not less than half"
        return families, Findings(left_out={"self_repair_lost_share": why})
    return families, Findings({"self_repair_lost_share": Value(bound.value, "share", note=bound.note)})


def _larger_than(survey: Survey, attribution: Attribution, size: float) -> list[Head]:
    """The heads that write more than this, whatever the sign, the largest first."""
    written = survey.beyond(attribution.heads(), size, -size)
    cells = [Head(*map(int, cell)) for cell in np.argwhere(np.abs(written) > size)]
    return sorted(cells, key=lambda head: -abs(written[head]))
