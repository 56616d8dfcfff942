"""Hypothesis strategies over IOI prompts: populations, never single prompts.

Everything drawn is valid by construction, so nothing is filtered away. A population is a template, an order, a prefix and a
choice of names; the claim measures a whole batch of it, so that a counterexample is a kind of prompt and not an accident, and
one pass through the model serves a whole example. Hypothesis searches here and does not sample: for statements about averages
there are seeded samples.
"""

from hypothesis import strategies as st

from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.templates import NEUTRAL_PREFIXES, ORDERS, TEMPLATES, TWO_SENTENCE_TEMPLATES
from circuit_claims.prompts.words import NAMES

#: Few enough names that a counterexample can be read, and enough for a batch without repetition in every template.
FEWEST_NAMES = 12


def populations(*, two_sentences: bool = False) -> st.SearchStrategy[Population]:
    """Populations over names × templates × orders × neutral prefixes; they shrink to the first template, names and order.

    two_sentences: only templates that have a place for an extra sentence.
    """
    templates = TWO_SENTENCE_TEMPLATES if two_sentences else tuple(range(len(TEMPLATES)))
    return st.builds(
        Population,
        templates=st.sampled_from(templates).map(lambda template: (template,)),
        orders=st.sampled_from(ORDERS).map(lambda order: (order,)),
        prefix=st.integers(0, len(NEUTRAL_PREFIXES)),
        names=st.lists(st.sampled_from(NAMES), min_size=FEWEST_NAMES, max_size=24, unique=True).map(tuple),
    )
