"""Greater-than: which MLPs and heads carry the comparison of two years, and how much of it.

The rules are those of Hanna et al. 2023: MLPs at END by their direct effect on the answer, heads at END by what they carry
straight and through these MLPs, heads at YY by what they carry into the values of the former. The threshold is that of the IOI
families: a twentieth of the whole.
"""

from dataclasses import replace

import numpy as np

from circuit_claims.cards.card import Card
from circuit_claims.cards.settings import CardSettings
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.families import EFFECT, Found
from circuit_claims.discovery.findings import PROBABILITY, RATE, SHARE, Findings, Value, near, table
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.greater_than import years_for
from circuit_claims.tasks.greater_than.task import GreaterThan
from circuit_claims.untested import Untested

WITH_BOS = "these prompts begin with BOS, as published"
BOS = CardSettings(prepend_bos=True)


def find(survey: Survey, card: Card) -> Chapter:
    """The families at END and at YY, and the numbers that the claims on year spans ask for."""
    try:
        population = replace(years_for(survey.ioi.subject.tokenizer), half="discovery")
    except Untested as error:
        return Chapter(findings={"behaviour": Findings(left_out={"greater-than": str(error)})})
    ioi = survey.ioi
    years = GreaterThan(subject=ioi.subject, seed=ioi.seed, chunk=ioi.chunk, population=population, prepend_bos=True)
    behaviour = Findings(
        {
            "greater_than_probability_difference": measured(
                survey, years.probability_difference(), "probability difference", PROBABILITY
            ),
            "greater_than_cutoff_sharpness": measured(survey, years.cutoff_sharpness(), "probability difference", RATE),
        }
    )
    if survey.missing(years.majority()):
        why = "years after the start year have not most of the probability, so that there is nothing to take apart"
        return Chapter(findings={"behaviour": behaviour, "circuit": Findings(left_out={"the circuit": why})}, settings=BOS)
    whole = survey.estimate(years.baseline())
    direct = survey.beyond(years.direct_sweep_of_mlps(), EFFECT * whole)[:, 0] / whole
    mlps = last_ones(direct)
    if not mlps:
        why = f"the last MLP carries {direct[-1]:.3f} of the answer straight to the logits, next to nothing"
        return Chapter(
            findings={"behaviour": behaviour, "circuit": Findings(left_out={"greater_than_first_mlp": why})}, settings=BOS
        )
    families = {}
    effects = survey.beyond(years.head_sweep_through(mlps), EFFECT * whole) / whole
    if end := heads_above(effects):
        rule = f"carries more than {EFFECT} of the answer from END, straight or through the MLPs from layer {mlps[0]} on"
        families["greater than END"] = Found(
            end, "END", rule, "no part of the IOI circuit", {head: f"{effects[head]:.3f}" for head in end}
        )
        into_values = survey.beyond(years.value_sweep(end), EFFECT * whole) / whole
        if at_yy := heads_above(into_values):
            rule = f"carries more than {EFFECT} of the answer from YY into the values of the heads at END"
            families["greater than YY"] = Found(
                at_yy, "YY", rule, "no part of the IOI circuit", {head: f"{into_values[head]:.3f}" for head in at_yy}
            )
    return Chapter(families, {"behaviour": behaviour, "circuit": circuit(survey, years, end, mlps)}, BOS)


def circuit(survey: Survey, years: GreaterThan, heads: tuple[Head, ...], mlps: list[int]) -> Findings:
    """The MLPs, what each carries, and what the circuit of heads and MLPs does alone and corrupted alone."""
    unit, tables = "share of the probability difference", {}
    for way, layers in {"direct": mlps, "indirect": mlps[:-1]}.items():  # after the last MLP there is none to pass anything on
        rows = {str(layer): [years.mlp_effect(layer, direct=way == "direct")] for layer in layers}
        if rows:
            tables[f"greater_than_{way}_effects"] = table(survey, ("share",), rows, unit, SHARE, WITH_BOS)
    first = Value(mlps[0], "layer", note=f"from there on, every MLP carries more than {EFFECT} straight to the logits")
    found = Findings({"greater_than_first_mlp": first}, tables)
    if not heads:
        return found | Findings(left_out={"greater_than_circuit_share": f"no head carries more than {EFFECT} from END"})
    alone = years.end_circuit(heads, mlps)
    return found | Findings(
        {
            "greater_than_circuit_share": measured(survey, alone.remaining(), unit, SHARE),
            "greater_than_circuit_corrupted": measured(survey, alone.corrupted(), "probability difference", PROBABILITY),
        }
    )


def measured(survey: Survey, measurement: Measurement, unit: str, tolerance: float) -> Value:
    """What was found, to within a tolerance, with the word that these prompts begin with BOS whatever the others do."""
    return replace(near(survey, measurement, unit, tolerance), note=WITH_BOS)


def last_ones(direct: np.ndarray) -> list[int]:
    """The last layers, as long as each one's MLP carries more than next to nothing."""
    layers = []
    for layer in range(len(direct) - 1, -1, -1):
        if direct[layer] <= EFFECT:
            break
        layers.insert(0, layer)
    return layers


def heads_above(effects: np.ndarray) -> tuple[Head, ...]:
    """The heads with more than next to nothing, the strongest first."""
    found = [Head(int(layer), int(head)) for layer, head in zip(*np.where(effects > EFFECT), strict=True)]
    return tuple(sorted(found, key=lambda head: -effects[head]))
