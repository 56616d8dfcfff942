"""Models that are built by hand, whose edges are known: which scores tell these from all others.

What InterpBench's models gave stands beside, and is not what is expected: they are other models, with circuits of other tasks.
"""

import pytest

from circuit_claims.cards.schema import Beside, Published

pytestmark = pytest.mark.section("7.3")

SOURCE = "ours, by construction: circuit_claims/controls/planted_edges.py"
INTERPBENCH = "MIB, Mueller et al. 2025: edge AUROC on InterpBench"
#: By method: AUROC on InterpBench; of AtP with corrected queries and keys none is published.
AUROC = {"EAP": 0.73, "EAP-IG inputs": 0.71, "EAP-IG activations": 0.81, "AtP QK fix": None}


def chance(method: str) -> Published:
    """A coin's AUROC, with what is published of other models beside it."""
    there = AUROC[method]
    beside = () if there is None else (Beside(there, None, None, "InterpBench's models", INTERPBENCH),)
    return Published("", 0.5, None, None, "AUROC", SOURCE, beside=beside)


@pytest.mark.parametrize("method", AUROC)
def test_scores_tell_known_edges_from_others(discovery, known_edges, expect, method):
    """Edges that are known to be in the circuit have larger scores by {method} than others, more often than by chance."""
    expect(discovery.auroc(known_edges, method), because="what a coin gives").above(chance(method))


def test_exact_effects_tell_known_edges_into_the_logits(discovery, known_edges, expect):
    """Of edges into the logits, known ones have larger exact effects than others, far more often than by chance."""
    source = f"{SOURCE}; {INTERPBENCH} has .28 of exact patching over all edges, below chance"
    because = "0.9: what is known is what there is, so that exact effects can hardly miss it"
    expect(discovery.exact_auroc(known_edges, "logits"), source, because=because).above(0.9)


@pytest.mark.parametrize("method", ["EAP", "EAP-IG inputs"])
def test_scores_tell_known_edges_better_than_where_they_lie(discovery, known_edges, expect, method):
    """Scores by {method} tell known edges from others better than how near the layers are that they connect."""
    source = f"{SOURCE}; a rival that knows neither weights nor prompts"
    expect(discovery.auroc_lead(known_edges, method, "layer distance"), source).above(0)


def test_the_best_edges_are_known_ones(discovery, known_edges, expect):
    """More than half of the known edges are among the best twentieth of all edges by EAP-IG (inputs)."""
    share = discovery.share_among_the_best(known_edges, "EAP-IG inputs", 0.05)
    expect(share, SOURCE, because="half of them, ten times what chance gives").above(0.5)


def test_the_known_edges_by_themselves_do_the_task(discovery, known_edges, expect):
    """With the known edges alone, more than half of the task is left."""
    expect(discovery.faithfulness_of(discovery.known(known_edges)), SOURCE, because="most: over half").above(0.5)
