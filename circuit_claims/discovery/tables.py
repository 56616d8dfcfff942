"""The circuit as a whole: the tables that the IOI claims ask a card for, and the values that go with them.

Every number is what its claim measures: the same circuits, and the same sets knocked out together. Whatever is a knock-out
goes through the model in one batch.
"""

from collections.abc import Mapping, Sequence

from circuit_claims.cards.card import Card
from circuit_claims.discovery.families import EFFECT
from circuit_claims.discovery.findings import SHARE, TENTH, Findings, Table, at_least_half, near, table
from circuit_claims.discovery.survey import Survey
from circuit_claims.discovery.values import Part, in_logits
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.templates import ORDERS
from circuit_claims.tasks.ioi.faithfulness_statistics import of_template, overall
from circuit_claims.tasks.ioi.faithfulness_table import PROMPTS_OF_EACH, faithfulness_table
from circuit_claims.tasks.ioi.signals import POSITIONS, TOKENS, signal
from circuit_claims.tasks.operations.circuits import Circuit
from circuit_claims.tasks.operations.knockouts import Node
from circuit_claims.threads import SMALL

#: The classes of the completeness table, and the families that make them up.
CLASSES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "name mover": ("name mover", "backup name mover"),
    "negative name mover": ("negative name mover",),
    "S-inhibition": ("S-inhibition",),
    "induction": ("induction",),
    "duplicate token": ("duplicate token",),
    "previous token": ("previous token",),
}
#: Prompts of each template and order at the first look at a table of them: a tenth of a share needs few.
FIRST_OF_EACH = 10
WITHOUT, WITH = "without the node", "with the node"


def circuit_nodes(card: Card) -> tuple[Node, ...]:
    """The nodes of the card's circuit; none where no family belongs to one."""
    return card.nodes() if any(not family.role_only for family in card.families.values()) else ()


def signals(survey: Survey, card: Card) -> Findings:
    """The logit difference with S-inhibition's outputs from the six counterfactual data sets (appendix A, figure 9)."""
    if "S-inhibition" not in card.families:
        return Findings()
    grid = survey.ioi.signals(card.heads("S-inhibition"))
    rows = {token: [grid.of(signal(token, position), "", "logits") for position in POSITIONS] for token in TOKENS}
    return Findings(tables={"signals": _in_logits(survey, POSITIONS, rows)})


def faithfulness(survey: Survey, card: Card) -> Findings:
    """How much the circuit does by itself, and by how much it misses where it misses most (sections 4.1 and 4.2)."""
    circuit = _circuit(survey, card)
    if circuit is None:
        return Findings()
    values = {
        "faithfulness": near(survey, circuit.faithfulness(), "share", SHARE),
        "faithfulness_gap": in_logits(survey, circuit.gap()),
    }
    greedy = survey.estimate(circuit.greedy_incompleteness())
    if greedy < EFFECT * survey.logit_difference:
        why = f"the set that the greedy search finds makes circuit and model differ by {greedy:.3f} logits, next to nothing"
        return Findings(values, left_out={"greedy_incompleteness": why})
    return Findings(values | {"greedy_incompleteness": at_least_half(greedy, "logits")})


def by_template(survey: Survey, card: Card, *, prepend_bos: bool) -> Findings:
    """Faithfulness on each template in each order, with or without BOS (Miller et al. 2024)."""
    nodes = circuit_nodes(card)
    if not nodes:
        return Findings()
    key, overall_key = "faithfulness_without_BOS", "overall_faithfulness"
    if prepend_bos:
        key, overall_key = "faithfulness_with_BOS", "overall_faithfulness_with_BOS"
        if survey.ioi.subject.tokenizer.bos_token_id is None:
            return Findings(left_out=dict.fromkeys((key, overall_key), "the tokenizer has no BOS token"))
    if prepend_bos != survey.ioi.prepend_bos and survey.ioi.subject.n_parameters >= SMALL:
        # Thousands of forward passes, here and in every run of the claims, for prompts that the model is not given otherwise.
        begin, other = ("with", "no") if survey.ioi.prepend_bos else ("without", "yes")
        why = f"this card is measured {begin} BOS, as the model's prompts begin: --bos {other} measures it"
        return Findings(left_out=dict.fromkeys((key, overall_key), why))
    survey = survey.looking_first_at(FIRST_OF_EACH)
    measured = faithfulness_table(survey.ioi, nodes, prepend_bos=prepend_bos)
    least = TENTH * survey.logit_difference
    try:
        means = survey.beyond(measured, least)
    except ValueError as error:  # too few names for so many prompts of one template that has no other filler
        return Findings(left_out=dict.fromkeys((key, overall_key), str(error)))
    rows, left_out = {}, {}
    for place, template in enumerate(survey.ioi.population.templates):
        if means[place, 1::2].min() < least:
            left_out[f"row {template} of {key}"] = "the model itself shows too little there to take a share of"
        else:
            rows[str(template)] = [measured.of(of_template(place, order), "", "share") for order in ORDERS]
    if not rows:
        return Findings(left_out=left_out)
    note = f"{survey.up_to(PROMPTS_OF_EACH)} prompts a cell; to within a tenth, or the noise of the noisiest cell"
    values = {overall_key: near(survey, measured.of(overall, "", "share"), "share", SHARE)}
    return Findings(values, {key: table(survey, ORDERS, rows, "share", SHARE, note)}, left_out)


def completeness(survey: Survey, card: Card) -> Findings:
    """Circuit and model without each class of heads (section 4.2): F(C \\ G) and F(M \\ G)."""
    circuit = _circuit(survey, card)
    if circuit is None:
        return Findings()
    sets, left_out = {}, {}
    for name, families in CLASSES.items():
        here = [family for family in families if family in card.families]
        sets[name] = {node for family in here for node in card.nodes_of(family)} & circuit.nodes
        if families and not sets[name]:
            del sets[name]
            left_out[f"row {name!r} of completeness"] = "the circuit has no such nodes"
    settings = [setting for K in sets.values() for setting in (circuit.without(K), survey.ioi.without(K))]
    found = survey.knocked_out(settings, TENTH * survey.logit_difference)
    rows = {name: found[2 * i : 2 * i + 2] for i, name in enumerate(sets)}
    return Findings(tables={"completeness": _in_logits(survey, ("circuit", "model"), rows)}, left_out=left_out)


def minimality(survey: Survey, card: Card) -> Findings:
    """The circuit without each node's companions, and without the node as well (section 4.3): F(C \\ K) and F(C \\ (K ∪ v))."""
    circuit = _circuit(survey, card)
    if circuit is None:
        return Findings()
    nodes = circuit_nodes(card)
    companions = {node: frozenset(other for other in nodes if other[0] in card.companions(node[0])) for node in nodes}
    removed = {removed for node, K in companions.items() for removed in (K, K | {node})}
    wanted = sorted(removed, key=sorted)  # most nodes of a family share theirs
    settings = [circuit.without(K) for K in wanted]
    found = dict(zip(wanted, survey.knocked_out(settings, TENTH * survey.logit_difference), strict=True))
    rows = {f"{head}@{role}": [found[K | {(head, role)}], found[K]] for (head, role), K in companions.items()}
    return Findings(tables={"minimality": _in_logits(survey, (WITHOUT, WITH), rows)})


#: What is measured, in this order.
PARTS: dict[str, Part] = {
    "signals": signals,
    "faithfulness": faithfulness,
    "faithfulness by template": lambda survey, card: by_template(survey, card, prepend_bos=False),
    "faithfulness by template, with BOS": lambda survey, card: by_template(survey, card, prepend_bos=True),
    "completeness": completeness,
    "minimality": minimality,
}


def _circuit(survey: Survey, card: Card) -> Circuit | None:
    nodes = circuit_nodes(card)
    return survey.ioi.circuit(nodes) if nodes else None


def _in_logits(survey: Survey, columns: Sequence[str], rows: Mapping[str, Sequence[Measurement]]) -> Table:
    """A table of numbers in logits that may be near zero: to within a tenth of the plain logit difference."""
    return table(survey, columns, rows, "logits", TENTH * survey.logit_difference)
