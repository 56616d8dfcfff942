"""Random tokens that are said twice: which heads find what came after, and what the repeat is worth.

Measured on other random tokens than verdicts are given on, with the set-ups of the sources. The rules were fixed before any
model was looked at: 0.6 is from where on ARENA's section 1.2 calls a head an induction head.
"""

from circuit_claims.cards.card import Card
from circuit_claims.cards.floors import NEXT_TO_NOTHING
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.families import Found
from circuit_claims.discovery.findings import (
    PROBABILITY,
    Findings,
    Value,
    at_least_half,
    at_most_twice,
    near,
    rounded,
    table,
)
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head, head_labels
from circuit_claims.measure.grid_statistics import highest_besides
from circuit_claims.tasks.induction.repeated_tokens import SEQUENCES, Score
from circuit_claims.tasks.induction.task import Induction

MAIN, EXPLORATORY = "Main_Demo", "Exploratory_Analysis_Demo"
#: From this induction score on, a head is a strong one; from the other on, a score goes on the card by itself.
STRONG, WORTH_NOTING = 0.6, 0.2
#: A gap is wider than this: than a score's tolerance at both of its ends.
GAP = 2 * PROBABILITY
KINDS: dict[str, Score] = {
    "previous token": "previous token",
    "duplicate token": "duplicate token",
    "induction": "induction diagonal",
}


def find(survey: Survey, card: Card) -> Chapter:
    """The strong induction heads, the scores, and the losses before and after the repeat."""
    task = survey.repeated
    task = Induction(subject=task.subject, seed=task.seed, prepend_bos=task.prepend_bos, store=task.store)
    grid = task.as_drawn_by(MAIN).attention_scores("induction diagonal").take(SEQUENCES).estimate
    strong = [Head(*map(int, place)) for place in zip(*(grid > STRONG).nonzero(), strict=True)]
    families = {}
    if strong:
        evidence = {head: f"induction score {grid[head]:.2f}" for head in strong}
        rule = f"an induction score above {STRONG} on repeated random tokens"
        families["strong induction"] = Found(tuple(strong), "second half", rule, evidence=evidence)
    return Chapter(families, {"scores": _scores(survey, task, card, strong), "losses": _losses(survey, task)})


def _scores(survey: Survey, task: Induction, card: Card, strong: list[Head]) -> Findings:
    main, exploratory = task.as_drawn_by(MAIN), task.as_drawn_by(EXPLORATORY)
    values, left_out = {}, {}
    if strong:
        grid = main.attention_scores("induction diagonal")
        weakest = min(survey.estimate(main.score_of(head, "induction diagonal")) for head in strong)
        values["strong_induction_score"] = at_least_half(weakest, "probability")
        following = survey.estimate(grid.of(highest_besides(strong), "", "probability"))
        if weakest - following > GAP:
            midst = f"half way between the weakest strong head's {weakest:.3f} and the {following:.3f} of the next"
            values["next_induction_score"] = Value(rounded((weakest + following) / 2), "probability", note=midst)
        else:
            left_out["next_induction_score"] = f"there is no gap: the weakest has {weakest:.3f}, the next {following:.3f}"
    heads = [[Head(layer, head) for head in range(card.n_heads)] for layer in range(card.n_layers)]
    whole = {f"L{i}": [main.score_of(head, "induction diagonal") for head in row] for i, row in enumerate(heads)}
    columns = head_labels(card.n_heads)
    by_itself = {
        f"{head} {kind}": [exploratory.score_of(head, score)]
        for kind, score in KINDS.items()
        for head in (head for row in heads for head in row)
        if exploratory.attention_scores(score).take(SEQUENCES).estimate[head] > WORTH_NOTING
    }
    tables = {"induction_score": table(survey, columns, whole, "probability", PROBABILITY)}
    if not by_itself:
        return Findings(values, tables, left_out | {"repeated_token_scores": f"no head has a score above {WORTH_NOTING}"})
    note = f"every score above {WORTH_NOTING}"
    tables["repeated_token_scores"] = table(survey, ["score"], by_itself, "probability", PROBABILITY, note)
    return Findings(values, tables, left_out)


def _losses(survey: Survey, task: Induction) -> Findings:
    main = task.as_drawn_by(MAIN)
    before, after = near(survey, main.loss_before(), "nats"), main.loss_after()
    found = Findings({"loss_before_repeat": before, "loss_at_repeat": near(survey, main.loss_at_repeat(), "nats")})
    left = survey.estimate(after)
    if left > NEXT_TO_NOTHING * before.value:
        why = f"the loss on what comes again is {left:.3f} nats, more than next to nothing beside {before.value} before"
        return found | Findings(left_out={"loss_after_repeat": why})
    return found | Findings({"loss_after_repeat": at_most_twice(left, survey.noise(after), "nats")})
