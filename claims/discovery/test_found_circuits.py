"""Circuits found by scores of edges: how faithful they are, by which scores, and by which ablation of the others.

Scores are of prompts of the discovery half, and the circuits are judged on the verdict half.
"""

import pytest

pytestmark = pytest.mark.section("7.3")

MIB = "MIB, Mueller et al. 2025, section 3"
HANNA = "Hanna et al. 2024"
TENTH = 0.1


def test_a_tenth_of_the_edges_does_what_the_model_does(discovery, expect):
    """A circuit of a tenth of all edges, found by EAP-IG (inputs), does the task as the model does, but for a fifth."""
    because = "within a fifth, neither less nor more than the model"
    expect(discovery.faithfulness("EAP-IG inputs", TENTH), HANNA, because=because).near(1, within=0.2)


@pytest.mark.parametrize("method", ["EAP", "EAP-IG inputs"])
def test_found_circuits_are_far_more_faithful_than_random_edges(discovery, expect, method):
    """A tenth of all edges, found by {method}, keeps more than half of the task beyond what as many random edges keep."""
    because = "far: half of the whole"
    expect(discovery.lead(method, "random", TENTH), f"{MIB}, table 2: random edges are last", because=because).above(0.5)


def test_circuits_by_EAP_IG_are_nearer_to_the_model_than_those_by_EAP(discovery, expect):
    """Over ten sizes, circuits found by EAP-IG (inputs) are nearer to the model than those found by EAP (CMD)."""
    expect(discovery.closer("EAP-IG inputs", than="EAP"), f"{HANNA}; {MIB}").above(0)


def test_random_edges_never_do_more_than_the_model(discovery, expect):
    """For circuits of random edges, the area under faithfulness and the one up to 1 add up to 1."""
    source = "MIB, Mueller et al. 2025, tables 1 and 2: .25 + .75, an identity where faithfulness stays below 1"
    because = "1, of which trapezoids from .001 on lose .001"
    expect(discovery.area_of_both("random"), source, because=because).near(1, within=0.05)


def test_mean_ablation_is_kinder_to_a_found_circuit_than_patching(discovery, expect):
    """The same circuit by EAP-IG (inputs) does more of the task by mean ablation of all other edges than by patching them."""
    n = round(len(discovery.graph) * 250 / 32_491)
    mean, patched = (discovery.circuit("EAP-IG inputs", n, by=by) for by in ("mean", "resample"))
    source = "EAP-IG repository, IOI notebook (EAP-04): of 250 edges .9017 by mean-positional ablation, .4905 by patching"
    expect(discovery.difference(mean, patched), source).above(0)
