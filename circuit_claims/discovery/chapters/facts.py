"""Recall of facts: what the model knows of the discovery half of the subjects, when it commits itself, where answers go."""

from circuit_claims.cards.card import Card
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.findings import SHARE, Findings, layer, near
from circuit_claims.discovery.survey import CHUNK, Survey
from circuit_claims.prompts.facts import FactList
from circuit_claims.tasks.facts.task import Facts, KnowsTooLittle
from circuit_claims.tasks.operations.tracing_statistics import handover
from circuit_claims.untested import Untested


def find(survey: Survey, card: Card) -> Chapter:
    """The values that `claims/facts` asks a card for; what the model does not know enough facts for is left out."""
    ioi = survey.ioi
    facts = Facts(
        subject=ioi.subject,
        seed=ioi.seed,
        chunk=CHUNK,
        population=FactList(half="discovery"),
        prepend_bos=ioi.prepend_bos,
    )
    asked = {
        # Of facts that it can be asked, where it knows any: a share of nothing is no value of a model.
        "facts_answered": lambda: facts.limit and near(survey, facts.asked().answers_right(), "rate", SHARE),
        "layers_committed": lambda: near(survey, facts.layers_committed(), "layers"),
        "capital_handover_layer": lambda: layer(
            survey, facts.on(relations=["capital"]).trace().of(handover, "handover", "layer")
        ),
    }
    values, left_out = {}, {}
    for key, find_it in asked.items():
        try:
            values[key] = find_it()
        except KnowsTooLittle as error:
            left_out[key] = str(error)
        except Untested as error:
            left_out[key] = str(error)
    return Chapter(findings={"what the model knows, and where": Findings(values, left_out=left_out)})
