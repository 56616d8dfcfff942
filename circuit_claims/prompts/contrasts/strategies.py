"""Hypothesis strategies over pairs: sets of clusters, never single pairs.

A claim measures a batch of pairs from each set, so that a counterexample is a kind of prompt and not an accident.
"""

from collections import Counter

from hypothesis import strategies as st

from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.contrasts.table import FEWEST_PAIRS


def sets_of_clusters(pairs: Contrasts) -> st.SearchStrategy[frozenset[str]]:
    """Sets of clusters of a population, each with enough pairs to be measured; they shrink to the first few of them."""
    names = [str(pairs.table.clusters[i]) for i in pairs.in_half]
    sizes = Counter(names)
    smallest, enough, fewest = sorted(sizes.values()), 0, 0
    while enough < FEWEST_PAIRS and fewest < len(smallest):
        enough, fewest = enough + smallest[fewest], fewest + 1
    return st.lists(st.sampled_from(sorted(sizes)), min_size=fewest, max_size=max(fewest, 24), unique=True).map(frozenset)
